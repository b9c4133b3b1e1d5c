"""What a page shows of the worklist: one page after a key, totals, what a filter hides.

Pages go on after the key of their last row, never by OFFSET.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Subquery,
    and_,
    case,
    func,
    literal_column,
    or_,
    select,
    union_all,
)

from triage.domain.finding import PriorityClass
from triage.store.narrowing import NOW, READING_ORDER, SORTS, Filters, Sort, conditions, open_alone, source
from triage.store.schema import alert, claim, patient, series, study, worklist_item
from triage.store.worklist import OPEN_STATES, order_group

ROUTINE, ELEVATED, HIGH, CRITICAL = sorted(map(int, PriorityClass))
Key = Sequence[Any]


def rows(
    tx: Connection,
    filters: Filters,
    now: datetime,
    *,
    limit: int,
    after: Key | None = None,
    sort: Sort = READING_ORDER,
) -> list[dict[str, Any]]:
    """Rows with everything a page shows of a study, `key` among it.

    The keys of the page are found first, from narrow rows; what a page shows is then looked up for those alone.
    after  the `key` of the last row of the page before
    """
    once = after is not None or filters.text or filters.texts or filters.study_uid
    query, keys = (_page if once else _kept_page)(filters, limit, after, sort)
    found = tx.execute(query, {"now": now}).mappings()
    return [{**r, "key": tuple(r[f"key_{i}"] for i in range(keys))} for r in found]


def _page(filters: Filters, limit: int, after: Key | None, sort: Sort) -> tuple[Select[Any], int]:
    """The statement, and of how many parts its keys are."""
    w = worklist_item.c
    if sort == READING_ORDER and open_alone(filters):
        page, keys = _head(filters, limit, after), 3
    else:
        page, keys = _sorted(filters, limit, after, sort)
    order = [page.c[f"key_{i}"] for i in range(keys)]
    query = (
        select(
            worklist_item,
            *order,
            study.c.study_instance_uid, study.c.accession_number, study.c.study_description,
            study.c.acquired_at, study.c.site, study.c.patient_age_years, study.c.referring_physician_name,
            study.c.first_received_at, study.c.last_received_at, study.c.timezone_offset,
            patient.c.patient_id.label("patient_code"), patient.c.issuer_of_patient_id, patient.c.patient_name,
            patient.c.patient_birth_date, patient.c.patient_sex,
            case((claim.c.expires_at > NOW, claim.c.reader)).label("claimed_by"),
            case((claim.c.expires_at > NOW, claim.c.expires_at)).label("claimed_until"),
        )
        .select_from(page)
        .join(worklist_item, w.id == page.c.id)
        .join(study, study.c.id == w.study_id)
        .join(patient, patient.c.id == study.c.patient_id)
        .outerjoin(claim, claim.c.worklist_item_id == w.id)
        .order_by(*(k.desc() if sort.descending else k.asc() for k in order))
    )  # fmt: skip
    return query, keys


_kept_page = lru_cache(maxsize=64)(_page)  # to build a statement takes as long as to run it


def _head(filters: Filters, limit: int, after: Key | None) -> Subquery:
    """Keys of one page in reading order: the first of each run of rows that index worklist_item_waiting has in order.

    Group 1 is high ones and, beside them, what is overdue of the classes below (`order_group`, `domain.priority`).
    """
    w = worklist_item.c
    late, in_time = w.bound_at < NOW, w.bound_at >= NOW
    runs: tuple[tuple[int, int, ColumnElement[bool] | None], ...] = (
        (0, CRITICAL, None), (1, HIGH, None), (1, ELEVATED, late), (1, ROUTINE, late), (2, ELEVATED, in_time),
        (3, ROUTINE, in_time),
    )  # fmt: skip
    narrowed = conditions(filters)
    parts = []
    for group, of_class, when in runs:
        if (after is not None and group < after[0]) or (
            filters.priority_classes and of_class not in filters.priority_classes
        ):
            continue
        wanted = [w.priority_class == literal_column(str(of_class)), *narrowed]
        wanted += [when] if when is not None else []
        if after is not None and group == after[0]:
            wanted.append(_beyond([w.due_at, w.id], list(after[1:]), descending=False))
        keys = [literal_column(str(group)).label("key_0"), w.due_at.label("key_1"), w.id.label("key_2")]
        part = _narrow(keys, wanted).order_by(w.due_at, w.id).limit(limit).subquery()
        parts.append(select(*part.c))
    if not parts:
        return _sorted(filters, limit, after, READING_ORDER)[0]
    found = union_all(*parts).subquery()
    return select(found).order_by(found.c.key_0, found.c.key_1, found.c.key_2).limit(limit).subquery()


def _sorted(filters: Filters, limit: int, after: Key | None, sort: Sort) -> tuple[Subquery, int]:
    """Keys of one page in any order, and how many they are."""
    w = worklist_item.c
    keys: list[ColumnElement[Any]] = (
        [order_group(w.priority_class, NOW), w.due_at, w.id]
        if sort.column == "order"
        else [SORTS[sort.column][1], w.id]
    )
    narrowed = conditions(filters)
    if after is not None:
        narrowed.append(_beyond(keys, list(after), sort.descending))
    order = [k.desc() if sort.descending else k.asc() for k in keys]
    named = [k.label(f"key_{i}") for i, k in enumerate(keys)]
    return _narrow(named, narrowed).order_by(*order).limit(limit).subquery(), len(keys)


def _narrow(keys: Sequence[ColumnElement[Any]], narrowed: Sequence[ColumnElement[bool]]) -> Select[Any]:
    return select(worklist_item.c.id, *keys).select_from(source([*keys, *narrowed])).where(*narrowed)


def _beyond(keys: list[ColumnElement[Any]], values: list[Any], descending: bool) -> ColumnElement[bool]:
    """(a, b, c) > (x, y, z) in words that every database plans well."""
    column, value = keys[0], values[0]
    further: ColumnElement[bool] = column < value if descending else column > value
    if len(keys) == 1:
        return further
    return or_(further, and_(column == value, _beyond(keys[1:], values[1:], descending)))


def total(tx: Connection, filters: Filters, now: datetime) -> int:
    narrowed = conditions(filters)
    query = select(func.count()).select_from(source(narrowed)).where(*narrowed)
    return int(tx.execute(query, {"now": now}).scalar_one())


def hidden_critical(tx: Connection, filters: Filters, now: datetime) -> int:
    """Open critical studies that these filters do not show."""
    classes = [c for c in filters.priority_classes if c == CRITICAL]
    narrowed = replace(
        filters,
        states=[s for s in filters.states if s in OPEN_STATES] or ["-"],
        priority_classes=classes or ([CRITICAL] if not filters.priority_classes else [-1]),
    )
    return total(tx, Filters(priority_classes=(CRITICAL,)), now) - total(tx, narrowed, now)


def image_counts(tx: Connection, study_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """{study id: {"received", "expected" or None, "complete_because"}}."""
    counts: dict[int, dict[str, Any]] = {}
    for start in range(0, len(study_ids), 500):
        rows = tx.execute(
            select(
                series.c.study_id, series.c.instance_count, series.c.expected_count, series.c.complete_because,
                series.c.state,
            ).where(series.c.study_id.in_(list(study_ids[start : start + 500])))
        )  # fmt: skip
        for r in rows:
            c = counts.setdefault(r.study_id, {"received": 0, "expected": 0, "complete_because": ""})
            c["received"] += r.instance_count
            known = (
                r.expected_count
                if r.expected_count is not None
                else (r.instance_count if r.state == "complete" else None)
            )
            c["expected"] = None if known is None or c["expected"] is None else c["expected"] + known
            c["complete_because"] = r.complete_because or c["complete_because"]
    return counts


def open_alert_of(tx: Connection, study_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """{study id: newest alert} for the alert column."""
    found: dict[int, dict[str, Any]] = {}
    for start in range(0, len(study_ids), 500):
        rows = tx.execute(
            select(alert)
            .where(alert.c.study_id.in_(list(study_ids[start : start + 500])))
            .order_by(alert.c.id)
        ).mappings()
        for r in rows:
            found[r["study_id"]] = dict(r)
    return found
