"""What a page shows of the worklist: filters, sorts, one page after a key, totals, what a filter hides.

Every value is bound, never spliced (T14); pages go on after the key of their last row, never by OFFSET.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
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
from sqlalchemy.sql import visitors

from triage.domain.finding import PriorityClass
from triage.store.alerts import is_alive
from triage.store.schema import alert, claim, patient, series, study, worklist_item
from triage.store.worklist import OPEN_STATES, order_group, waiting

ROUTINE, ELEVATED, HIGH, CRITICAL = sorted(map(int, PriorityClass))
STATES = (*OPEN_STATES, "read", "withdrawn")
LIVE_ALERTS = ("open", "exhausted")
TEXT_COLUMNS = ("pat", "mrn", "acc", "desc", "body", "ref")
NAMING = frozenset({"pat", "mrn", "acc"})  # texts of these can name a patient: never in a URL
Key = Sequence[Any]


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a list may be narrowed by.

    texts          {column: part of its text}, columns of TEXT_COLUMNS
    waited_since   acquired (received, where that is not known) before this moment: has waited so long
    """

    states: Sequence[str] = OPEN_STATES
    modalities: Sequence[str] = ()
    priority_classes: Sequence[int] = ()
    ai_statuses: Sequence[str] = ()
    locations: Sequence[str] = ()
    sites: Sequence[str] = ()
    ordered: Sequence[str] = ()
    reports: Sequence[str] = ()
    senders: Sequence[str] = ()
    reader: str = ""  # claimed by; "-" for free ones
    alerts_open: bool = False
    flagged: bool = False
    text: str = ""  # accession, patient id or name, description
    texts: Mapping[str, str] = field(default_factory=dict)
    waited_since: datetime | None = None
    received_since: datetime | None = None
    read_since: datetime | None = None
    study_uid: str = ""  # this study alone


@dataclass(frozen=True)
class Sort:
    """`order` is the reading order; another column only shows, it changes no place (ux 5.2)."""

    column: str = "order"
    descending: bool = False


READING_ORDER = Sort()
Kind = Literal["text", "number", "time"]
Expression = Callable[[datetime], ColumnElement[Any]]


def _text(column: ColumnElement[Any]) -> Expression:
    return lambda _: func.lower(func.coalesce(column, ""))


def _of_series(aggregate: ColumnElement[Any]) -> ColumnElement[Any]:
    return select(aggregate).where(series.c.study_id == worklist_item.c.study_id).scalar_subquery()


_RATIO = (
    1.0
    * func.sum(series.c.instance_count)
    / func.nullif(func.sum(func.coalesce(series.c.expected_count, series.c.instance_count)), 0)
)
_SINCE = func.coalesce(study.c.acquired_at, study.c.first_received_at)
_AI_RANK = case(
    {"failed": 0, "not_analysed": 1, "running": 2, "requested": 3, "completed": 4},
    value=worklist_item.c.ai_status,
    else_=5,
)
_ALERT_RANK = (
    select(func.max(case({"exhausted": 4, "open": 3, "acknowledged": 2}, value=alert.c.state, else_=1)))
    .where(alert.c.study_id == worklist_item.c.study_id)
    .scalar_subquery()
)
_ORDERED_RANK = case({"STAT": 2, "URGENT": 1}, value=worklist_item.c.ordered_priority, else_=0)
OF_TABS = ("arrived", "read")  # sorts of no column: what the tabs of closed studies come in
SORTS: Mapping[str, tuple[Kind, Expression]] = {
    "due": ("time", lambda _: worklist_item.c.due_at),
    "age": ("time", lambda _: _SINCE),  # the page turns it round: the longest wait is the oldest time
    "pat": ("text", _text(patient.c.patient_name)),
    "mrn": ("text", _text(patient.c.patient_id)),
    "mod": ("text", _text(worklist_item.c.modality)),
    "body": ("text", _text(worklist_item.c.body_part)),
    "desc": ("text", _text(study.c.study_description)),
    "loc": ("text", _text(worklist_item.c.location)),
    "site": ("text", _text(study.c.site)),
    "ord": ("number", lambda _: _ORDERED_RANK),
    "ai": ("number", lambda _: _AI_RANK),
    "img": ("number", lambda _: func.coalesce(_of_series(_RATIO), 0.0)),
    "claim": (
        "text",
        lambda now: func.lower(func.coalesce(case((claim.c.expires_at > now, claim.c.reader)), "")),
    ),
    "alert": ("number", lambda _: func.coalesce(_ALERT_RANK, 0)),
    "acc": ("text", _text(study.c.accession_number)),
    "src": ("text", lambda _: func.lower(func.coalesce(_of_series(func.max(series.c.calling_ae_title)), ""))),
    "acq": ("time", lambda _: _SINCE),
    "arrived": ("number", lambda _: worklist_item.c.id),
    "read": ("time", lambda _: worklist_item.c.read_at),
    "recv": ("time", lambda _: study.c.first_received_at),
    "ref": ("text", _text(study.c.referring_physician_name)),
    "rep": ("text", _text(worklist_item.c.report_state)),
    "cmp": ("text", lambda _: func.lower(func.coalesce(_of_series(func.max(series.c.complete_because)), ""))),
}
_TEXTS: Mapping[str, ColumnElement[Any]] = {
    "pat": patient.c.patient_name, "mrn": patient.c.patient_id, "acc": study.c.accession_number,
    "desc": study.c.study_description, "body": worklist_item.c.body_part, "ref": study.c.referring_physician_name,
}  # fmt: skip


def _conditions(filters: Filters, now: datetime) -> list[ColumnElement[bool]]:
    w = worklist_item.c
    conditions: list[ColumnElement[bool]] = [waiting()] if _open_alone(filters) else [w.constancy.is_(False)]
    if set(filters.states) != set(OPEN_STATES):
        states: list[ColumnElement[Any]] = [literal_column(f"'{s}'") for s in STATES if s in filters.states]
        if len(states) < len(STATES):  # one alone is spelled as index worklist_item_read has it
            conditions.append(w.state == states[0] if len(states) == 1 else w.state.in_(states))
    for column, values in (
        (w.modality, filters.modalities), (w.priority_class, filters.priority_classes), (w.ai_status, filters.ai_statuses),
        (w.location, filters.locations), (study.c.site, filters.sites), (w.ordered_priority, filters.ordered),
        (w.report_state, filters.reports),
    ):  # fmt: skip
        if values:
            conditions.append(column.in_(list(values)))
    if filters.senders:
        sent = select(series.c.study_id).where(series.c.calling_ae_title.in_(list(filters.senders)))
        conditions.append(w.study_id.in_(sent))
    if filters.reader == "-":
        conditions.append(or_(claim.c.id.is_(None), claim.c.expires_at <= now))
    elif filters.reader:
        conditions.append(and_(claim.c.reader == filters.reader, claim.c.expires_at > now))
    if filters.alerts_open:
        live = select(alert.c.study_id).where(alert.c.state.in_(LIVE_ALERTS), is_alive())
        conditions.append(w.study_id.in_(live))
    if filters.flagged:
        conditions.append(w.priority_class > w.base_class)
    if filters.study_uid:
        conditions.append(study.c.study_instance_uid == filters.study_uid)
    return conditions + _time_conditions(filters) + _text_conditions(filters)


def _open_alone(filters: Filters) -> bool:
    return set(filters.states) <= set(OPEN_STATES)


def _time_conditions(filters: Filters) -> list[ColumnElement[bool]]:
    conditions = []
    if filters.waited_since is not None:
        conditions.append(filters.waited_since >= _SINCE)
    if filters.received_since is not None:
        conditions.append(study.c.first_received_at >= filters.received_since)
    if filters.read_since is not None:
        conditions.append(worklist_item.c.read_at >= filters.read_since)
    return conditions


def _text_conditions(filters: Filters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        _TEXTS[column].ilike(_part(text), escape="\\")
        for column, text in sorted(filters.texts.items())
        if text
    ]
    if filters.text:
        exact = filters.text
        conditions.append(
            or_(
                study.c.accession_number == exact,
                patient.c.patient_id == exact,
                patient.c.patient_name.ilike(_part(exact), escape="\\"),
                study.c.study_description.ilike(_part(exact), escape="\\"),
            )
        )
    return conditions


def _part(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


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
    w = worklist_item.c
    if sort == READING_ORDER and _open_alone(filters):
        page, keys = _head(filters, now, limit, after), 3
    else:
        page, keys = _sorted(filters, now, limit, after, sort)
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
            case((claim.c.expires_at > now, claim.c.reader)).label("claimed_by"),
            case((claim.c.expires_at > now, claim.c.expires_at)).label("claimed_until"),
        )
        .select_from(page)
        .join(worklist_item, w.id == page.c.id)
        .join(study, study.c.id == w.study_id)
        .join(patient, patient.c.id == study.c.patient_id)
        .outerjoin(claim, claim.c.worklist_item_id == w.id)
        .order_by(*(k.desc() if sort.descending else k.asc() for k in order))
    )  # fmt: skip
    return [{**r, "key": tuple(r[f"key_{i}"] for i in range(keys))} for r in tx.execute(query).mappings()]


def _head(filters: Filters, now: datetime, limit: int, after: Key | None) -> Subquery:
    """Keys of one page in reading order: the first of each run of rows that index worklist_item_waiting has in order.

    Group 1 is high ones and, beside them, what is overdue of the classes below (`order_group`, `domain.priority`).
    """
    w = worklist_item.c
    late, in_time = w.bound_at < now, w.bound_at >= now
    runs: tuple[tuple[int, int, ColumnElement[bool] | None], ...] = (
        (0, CRITICAL, None), (1, HIGH, None), (1, ELEVATED, late), (1, ROUTINE, late), (2, ELEVATED, in_time),
        (3, ROUTINE, in_time),
    )  # fmt: skip
    conditions = _conditions(filters, now)
    parts = []
    for group, of_class, when in runs:
        if (after is not None and group < after[0]) or (
            filters.priority_classes and of_class not in filters.priority_classes
        ):
            continue
        wanted = [w.priority_class == literal_column(str(of_class)), *conditions]
        wanted += [when] if when is not None else []
        if after is not None and group == after[0]:
            wanted.append(_beyond([w.due_at, w.id], list(after[1:]), descending=False))
        keys = [literal_column(str(group)).label("key_0"), w.due_at.label("key_1"), w.id.label("key_2")]
        part = _narrow(keys, wanted).order_by(w.due_at, w.id).limit(limit).subquery()
        parts.append(select(*part.c))
    if not parts:
        return _sorted(filters, now, limit, after, READING_ORDER)[0]
    found = union_all(*parts).subquery()
    return select(found).order_by(found.c.key_0, found.c.key_1, found.c.key_2).limit(limit).subquery()


def _sorted(
    filters: Filters, now: datetime, limit: int, after: Key | None, sort: Sort
) -> tuple[Subquery, int]:
    """Keys of one page in any order, and how many they are."""
    w = worklist_item.c
    keys: list[ColumnElement[Any]] = (
        [order_group(w.priority_class, now), w.due_at, w.id]
        if sort.column == "order"
        else [SORTS[sort.column][1](now), w.id]
    )
    conditions = _conditions(filters, now)
    if after is not None:
        conditions.append(_beyond(keys, list(after), sort.descending))
    order = [k.desc() if sort.descending else k.asc() for k in keys]
    named = [k.label(f"key_{i}") for i, k in enumerate(keys)]
    return _narrow(named, conditions).order_by(*order).limit(limit).subquery(), len(keys)


def _narrow(keys: Sequence[ColumnElement[Any]], conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    return select(worklist_item.c.id, *keys).select_from(_source([*keys, *conditions])).where(*conditions)


def _source(said: Iterable[ColumnElement[Any]]) -> FromClause:
    """The list with those tables beside it that these expressions speak of, and no other."""
    tables = {c.table for element in said for c in visitors.iterate(element) if isinstance(c, Column)}
    found: FromClause = worklist_item
    if study in tables or patient in tables:
        found = found.join(study, study.c.id == worklist_item.c.study_id)
    if patient in tables:
        found = found.join(patient, patient.c.id == study.c.patient_id)
    if claim in tables:
        found = found.outerjoin(claim, claim.c.worklist_item_id == worklist_item.c.id)
    return found


def _beyond(keys: list[ColumnElement[Any]], values: list[Any], descending: bool) -> ColumnElement[bool]:
    """(a, b, c) > (x, y, z) in words that every database plans well."""
    column, value = keys[0], values[0]
    further: ColumnElement[bool] = column < value if descending else column > value
    if len(keys) == 1:
        return further
    return or_(further, and_(column == value, _beyond(keys[1:], values[1:], descending)))


def total(tx: Connection, filters: Filters, now: datetime) -> int:
    conditions = _conditions(filters, now)
    query = select(func.count()).select_from(_source(conditions)).where(*conditions)
    return int(tx.execute(query).scalar_one())


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
