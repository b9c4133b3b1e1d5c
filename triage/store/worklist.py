"""The reading worklist: items, the order in SQL, claims.

`ORDER` says in SQL what `domain.priority.sort_key` says in Python; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, literal, or_, select, update

from triage.domain.finding import PriorityClass
from triage.domain.priority import ItemFacts, OrderedPriority, Override, Priority
from triage.store.schema import alert, claim, patient, series, study, worklist_item
from triage.store.upsert import insert_or_get

OPEN_STATES = ("arriving", "to_read", "claimed")
HIGH, CRITICAL = int(PriorityClass.HIGH), int(PriorityClass.CRITICAL)


def _group(class_column: ColumnElement[Any], now: datetime) -> ColumnElement[int]:
    """0 critical, 1 high or overdue, 2 elevated, 3 routine: an item past its bound counts as high."""
    overdue = and_(worklist_item.c.bound_at < now, class_column < HIGH)
    return case((overdue, literal(CRITICAL - HIGH)), else_=CRITICAL - class_column)


def ensure_item(
    tx: Connection, study_id: int, priority: Priority, ordered: OrderedPriority, arrived_at: datetime
) -> int:
    """The worklist item of a study; made on its first image."""
    item_id, _ = insert_or_get(
        tx,
        worklist_item,
        {"study_id": study_id},
        {
            "ordered_priority": ordered.value,
            "base_class": int(priority.base_class),
            "priority_class": int(priority.priority_class),
            "score": priority.score,
            "reasons": [r.as_json() for r in priority.reasons],
            "arrived_at": arrived_at,
            "due_at": priority.due_at,
            "bound_at": priority.bound_at,
        },
    )
    return item_id


def find_item(tx: Connection, study_id: int) -> dict[str, Any] | None:
    row = tx.execute(select(worklist_item).where(worklist_item.c.study_id == study_id)).mappings().first()
    return dict(row) if row else None


def lock_item(tx: Connection, study_id: int) -> dict[str, Any] | None:
    """The item, held until the end of this unit of work: who changes it looks first, one after the other.

    On PostgreSQL two workers that finish runs of one study at once would each not see the other's, and the later
    write would say what is no longer so (I17). SQLite's BEGIN IMMEDIATE already excludes other writers.
    """
    query = select(worklist_item).where(worklist_item.c.study_id == study_id)
    if tx.dialect.name == "postgresql":
        query = query.with_for_update()
    row = tx.execute(query).mappings().first()
    return dict(row) if row else None


def facts(item: dict[str, Any]) -> ItemFacts:
    """What `prioritize` needs, from a row."""
    override = None
    if item["override_class"] is not None:
        override = Override(
            PriorityClass(item["override_class"]), item["override_by"], item["override_reason"]
        )
    return ItemFacts(
        arrived_at=item["arrived_at"],
        ordered_priority=OrderedPriority(item["ordered_priority"]),
        override=override,
        already_raised=item["raised_at"] is not None,
    )


def raised_since(tx: Connection, since: datetime, except_study_id: int) -> int:
    """Other studies that AI lifted below critical since then."""
    query = (
        select(func.count())
        .select_from(worklist_item)
        .join(study, study.c.id == worklist_item.c.study_id)
        .where(
            worklist_item.c.raised_at >= since,
            worklist_item.c.priority_class < CRITICAL,
            worklist_item.c.study_id != except_study_id,
            study.c.constancy.is_(False),
        )
    )
    return int(tx.execute(query).scalar_one())


def store_priority(
    tx: Connection, item_id: int, priority: Priority, now: datetime, first_raise: bool
) -> None:
    values: dict[str, Any] = {
        "base_class": int(priority.base_class),
        "priority_class": int(priority.priority_class),
        "score": priority.score,
        "reasons": [r.as_json() for r in priority.reasons],
        "due_at": priority.due_at,
        "bound_at": priority.bound_at,
        "version": worklist_item.c.version + 1,
    }
    if first_raise:
        values["raised_at"] = now
    tx.execute(update(worklist_item).where(worklist_item.c.id == item_id).values(**values))


def set_values(tx: Connection, item_id: int, **values: Any) -> None:
    """Facts about the item that are no place in the order (ai_status, view, state of arrival ...)."""
    tx.execute(
        update(worklist_item)
        .where(worklist_item.c.id == item_id)
        .values(**values, version=worklist_item.c.version + 1)
    )


def change(tx: Connection, item_id: int, version: int | None, **values: Any) -> bool:
    """A person's change; False when the row is no longer at `version`."""
    query = update(worklist_item).where(worklist_item.c.id == item_id)
    if version is not None:
        query = query.where(worklist_item.c.version == version)
    return tx.execute(query.values(**values, version=worklist_item.c.version + 1)).rowcount == 1


# --- claims --------------------------------------------------------------------------------------------------


def live_claim(tx: Connection, item_id: int, now: datetime) -> dict[str, Any] | None:
    row = (
        tx.execute(select(claim).where(claim.c.worklist_item_id == item_id, claim.c.expires_at > now))
        .mappings()
        .first()
    )
    return dict(row) if row else None


def take_claim(
    tx: Connection, item_id: int, reader: str, now: datetime, length: timedelta, *, take_over: bool = False
) -> bool:
    """One study, one reader: a free or expired claim, or one's own, or taken over. False when another holds it."""
    claim_id, inserted = insert_or_get(
        tx,
        claim,
        {"worklist_item_id": item_id},
        {"reader": reader, "claimed_at": now, "expires_at": now + length},
    )
    if inserted:
        return True
    query = update(claim).where(claim.c.id == claim_id)
    if not take_over:
        query = query.where(or_(claim.c.expires_at <= now, claim.c.reader == reader))
    changed = tx.execute(
        query.values(
            reader=reader,
            claimed_at=case((claim.c.reader == reader, claim.c.claimed_at), else_=now),
            expires_at=now + length,
        )
    )
    return changed.rowcount == 1


def drop_claim(tx: Connection, item_id: int, reader: str) -> bool:
    return (
        tx.execute(
            delete(claim).where(claim.c.worklist_item_id == item_id, claim.c.reader == reader)
        ).rowcount
        == 1
    )


def open_claims(tx: Connection, reader: str, now: datetime) -> int:
    return int(
        tx.execute(
            select(func.count()).select_from(claim).where(claim.c.reader == reader, claim.c.expires_at > now)
        ).scalar_one()
    )


def expired_claims(tx: Connection, now: datetime) -> list[tuple[int, int, str]]:
    """(item id, study id, reader) of claims that ended; removes them."""
    rows = tx.execute(
        select(claim.c.id, claim.c.worklist_item_id, claim.c.reader, worklist_item.c.study_id)
        .join(worklist_item, worklist_item.c.id == claim.c.worklist_item_id)
        .where(claim.c.expires_at <= now)
    ).all()
    if rows:
        tx.execute(delete(claim).where(claim.c.id.in_([r.id for r in rows]), claim.c.expires_at <= now))
    return [(int(r.worklist_item_id), int(r.study_id), r.reader) for r in rows]


def best_free(tx: Connection, reader: str, now: datetime) -> int | None:
    """Item id that *next* takes: first in true order, free, and read-able (whole, or critical already)."""
    held = and_(
        claim.c.worklist_item_id == worklist_item.c.id, claim.c.expires_at > now, claim.c.reader != reader
    )
    query = (
        select(worklist_item.c.id)
        .join(study, study.c.id == worklist_item.c.study_id)
        .outerjoin(claim, held)
        .where(
            worklist_item.c.state.in_(("to_read", "claimed", "arriving")),
            or_(worklist_item.c.state != "arriving", worklist_item.c.priority_class == CRITICAL),
            study.c.constancy.is_(False),
            claim.c.id.is_(None),
            worklist_item.c.id.not_in(
                select(claim.c.worklist_item_id).where(claim.c.reader == reader, claim.c.expires_at > now)
            ),
        )
        .order_by(_group(worklist_item.c.priority_class, now), worklist_item.c.due_at, worklist_item.c.id)
        .limit(1)
    )
    return tx.execute(query).scalar_one_or_none()


# --- the list ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a list may be narrowed by; every value is bound, never spliced (T14)."""

    states: Sequence[str] = OPEN_STATES
    modalities: Sequence[str] = ()
    priority_classes: Sequence[int] = ()
    ai_statuses: Sequence[str] = ()
    locations: Sequence[str] = ()
    sites: Sequence[str] = ()
    reader: str = ""  # claimed by
    alerts_open: bool = False
    text: str = ""  # accession, patient id or name, description
    study_uid: str = ""  # this study alone


def _conditions(filters: Filters, now: datetime) -> list[ColumnElement[bool]]:
    w = worklist_item.c
    conditions: list[ColumnElement[bool]] = [study.c.constancy.is_(False), w.state.in_(list(filters.states))]
    for column, values in (
        (w.modality, filters.modalities),
        (w.priority_class, filters.priority_classes),
        (w.ai_status, filters.ai_statuses),
        (w.location, filters.locations),
        (study.c.site, filters.sites),
    ):
        if values:
            conditions.append(column.in_(list(values)))
    if filters.reader:
        conditions.append(and_(claim.c.reader == filters.reader, claim.c.expires_at > now))
    if filters.alerts_open:
        conditions.append(
            w.study_id.in_(select(alert.c.study_id).where(alert.c.state.in_(("open", "exhausted"))))
        )
    if filters.study_uid:
        conditions.append(study.c.study_instance_uid == filters.study_uid)
    if filters.text:
        found = f"%{_escaped(filters.text)}%"
        conditions.append(
            or_(
                study.c.accession_number == filters.text,
                patient.c.patient_id == filters.text,
                patient.c.patient_name.ilike(found, escape="\\"),
                study.c.study_description.ilike(found, escape="\\"),
            )
        )
    return conditions


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def listing(
    tx: Connection,
    filters: Filters,
    now: datetime,
    *,
    limit: int,
    after: tuple[int, datetime, int] | None = None,
) -> list[dict[str, Any]]:
    """Rows in true order with everything a page shows of a study; index worklist_item_open.

    after  (group, due_at, id) of the last row of the page before (keyset, never OFFSET)
    """
    w = worklist_item.c
    group = _group(w.priority_class, now)
    conditions = _conditions(filters, now)
    if after is not None:
        g, due, last = after
        conditions.append(
            or_(group > g, and_(group == g, or_(w.due_at > due, and_(w.due_at == due, w.id > last))))
        )
    query = (
        select(
            worklist_item,
            group.label("group"),
            study.c.study_instance_uid, study.c.accession_number, study.c.study_description,
            study.c.acquired_at, study.c.site, study.c.patient_age_years, study.c.referring_physician_name,
            study.c.first_received_at, study.c.last_received_at, study.c.timezone_offset,
            patient.c.patient_id.label("patient_code"), patient.c.issuer_of_patient_id, patient.c.patient_name,
            patient.c.patient_birth_date, patient.c.patient_sex,
            case((claim.c.expires_at > now, claim.c.reader)).label("claimed_by"),
            case((claim.c.expires_at > now, claim.c.expires_at)).label("claimed_until"),
        )
        .join(study, study.c.id == w.study_id)
        .join(patient, patient.c.id == study.c.patient_id)
        .outerjoin(claim, claim.c.worklist_item_id == w.id)
        .where(*conditions)
        .order_by(group, w.due_at, w.id)
        .limit(limit)
    )  # fmt: skip
    return [dict(r) for r in tx.execute(query).mappings()]


def ranks(tx: Connection, now: datetime, item_ids: Sequence[int] | None = None) -> dict[int, tuple[int, int]]:
    """{item id: (rank, rank without AI)} among all open items, both from 1.

    item_ids  only these are told (at most a page of them); None for all
    """
    w = worklist_item.c
    with_ai = func.row_number().over(order_by=(_group(w.priority_class, now), w.due_at, w.id))
    without = func.row_number().over(order_by=(_group(w.base_class, now), w.bound_at, w.id))
    placed = (
        select(w.id, with_ai.label("with_ai"), without.label("without"))
        .join(study, study.c.id == w.study_id)
        .where(w.state.in_(OPEN_STATES), study.c.constancy.is_(False))
        .subquery()
    )
    query = select(placed.c.id, placed.c.with_ai, placed.c.without)
    if item_ids is not None:
        query = query.where(placed.c.id.in_(list(item_ids)))
    return {int(i): (int(a), int(b)) for i, a, b in tx.execute(query).tuples()}


def total(tx: Connection, filters: Filters, now: datetime) -> int:
    query = (
        select(func.count())
        .select_from(worklist_item)
        .join(study, study.c.id == worklist_item.c.study_id)
        .join(patient, patient.c.id == study.c.patient_id)
        .outerjoin(claim, claim.c.worklist_item_id == worklist_item.c.id)
        .where(*_conditions(filters, now))
    )
    return int(tx.execute(query).scalar_one())


def hidden_critical(tx: Connection, filters: Filters, now: datetime) -> int:
    """Open critical studies with an unanswered alert or no reader that these filters do not show."""
    open_critical = Filters(priority_classes=(CRITICAL,))
    narrowed = Filters(
        states=[s for s in filters.states if s in OPEN_STATES] or ["-"],
        modalities=filters.modalities,
        priority_classes=[c for c in filters.priority_classes if c == CRITICAL]
        or ([CRITICAL] if not filters.priority_classes else [-1]),
        ai_statuses=filters.ai_statuses,
        locations=filters.locations,
        sites=filters.sites,
        reader=filters.reader,
        alerts_open=filters.alerts_open,
        text=filters.text,
    )
    return total(tx, open_critical, now) - total(tx, narrowed, now)


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
