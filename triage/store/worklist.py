"""The reading worklist: items, the order in SQL, claims. What a page shows of it is asked in `store.listing`.

`order_group` says in SQL what `domain.priority.sort_key` says in Python; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    func,
    literal,
    literal_column,
    or_,
    select,
    update,
)

from triage.domain.finding import PriorityClass
from triage.domain.priority import ItemFacts, OrderedPriority, Override, Priority
from triage.store.schema import claim, study, worklist_item
from triage.store.upsert import insert_or_get

OPEN_STATES = ("arriving", "to_read", "claimed")
_BOUND_MAX = 1000  # ids in one statement; of a longer list every place is told
HIGH, CRITICAL = int(PriorityClass.HIGH), int(PriorityClass.CRITICAL)


def waiting() -> ColumnElement[bool]:
    """What stands on the list, spelled as index worklist_item_waiting has it: SQLite proves nothing of bound values."""
    states: list[ColumnElement[Any]] = [literal_column(f"'{s}'") for s in OPEN_STATES]
    return and_(worklist_item.c.constancy.is_(False), worklist_item.c.state.in_(states))


def order_group(
    class_column: ColumnElement[Any], now: datetime | ColumnElement[datetime]
) -> ColumnElement[int]:
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
            "constancy": select(study.c.constancy).where(study.c.id == study_id).scalar_subquery(),
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
        .where(
            worklist_item.c.raised_at >= since,
            worklist_item.c.priority_class < CRITICAL,
            worklist_item.c.study_id != except_study_id,
            worklist_item.c.constancy.is_(False),
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


def open_study_ids(tx: Connection) -> list[int]:
    """Every study that waits, first in order of its key."""
    query = (
        select(worklist_item.c.study_id)
        .where(worklist_item.c.state.in_(OPEN_STATES))
        .order_by(worklist_item.c.id)
    )
    return list(tx.execute(query).scalars())


def arrived_since(tx: Connection, since: datetime) -> list[dict[str, Any]]:
    """study_id, study_instance_uid, arrived_at, ordered_priority of what came since then and still counts."""
    w = worklist_item.c
    query = (
        select(w.study_id, study.c.study_instance_uid, w.arrived_at, w.ordered_priority)
        .join(study, study.c.id == w.study_id)
        .where(w.arrived_at >= since, w.state != "withdrawn", study.c.constancy.is_(False))
        .order_by(w.arrived_at, w.id)
    )
    return [dict(r) for r in tx.execute(query).mappings()]


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
            asked_by=case((claim.c.reader == reader, claim.c.asked_by), else_=""),
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


def expired_claims(tx: Connection, now: datetime) -> list[tuple[int, int, str, list[str]]]:
    """(item id, study id, reader, who waits for it) of claims that ended; removes them."""
    rows = tx.execute(
        select(
            claim.c.id, claim.c.worklist_item_id, claim.c.reader, claim.c.asked_by, worklist_item.c.study_id
        )
        .join(worklist_item, worklist_item.c.id == claim.c.worklist_item_id)
        .where(claim.c.expires_at <= now)
    ).all()
    if rows:
        tx.execute(delete(claim).where(claim.c.id.in_([r.id for r in rows]), claim.c.expires_at <= now))
    return [(int(r.worklist_item_id), int(r.study_id), r.reader, r.asked_by.split("\n")[1:]) for r in rows]


def note_asker(tx: Connection, claim_id: int, person: str) -> None:
    """Kept with the claim, one a line; twice by one person is once."""
    line = f"\n{person}"
    tx.execute(
        update(claim)
        .where(claim.c.id == claim_id, (claim.c.asked_by + "\n").not_like(f"%{line}\n%"))
        .values(asked_by=claim.c.asked_by + line)
    )


def askers(held: dict[str, Any] | None) -> list[str]:
    return held["asked_by"].split("\n")[1:] if held else []


def best_free(tx: Connection, reader: str, now: datetime) -> int | None:
    """Item id that *next* takes: first in true order, free, and read-able (whole, or critical already)."""
    held = and_(
        claim.c.worklist_item_id == worklist_item.c.id, claim.c.expires_at > now, claim.c.reader != reader
    )
    query = (
        select(worklist_item.c.id)
        .outerjoin(claim, held)
        .where(
            waiting(),
            or_(worklist_item.c.state != "arriving", worklist_item.c.priority_class == CRITICAL),
            claim.c.id.is_(None),
            worklist_item.c.id.not_in(
                select(claim.c.worklist_item_id).where(claim.c.reader == reader, claim.c.expires_at > now)
            ),
        )
        .order_by(
            order_group(worklist_item.c.priority_class, now), worklist_item.c.due_at, worklist_item.c.id
        )
        .limit(1)
    )
    return tx.execute(query).scalar_one_or_none()


def ranks(tx: Connection, now: datetime, item_ids: Sequence[int] | None = None) -> dict[int, tuple[int, int]]:
    """{item id: (rank, rank without AI)} among all open items, both from 1; told from index worklist_item_waiting.

    item_ids  these alone are wanted; None for all
    """
    w = worklist_item.c
    placed = _places(tx, [order_group(w.priority_class, now), w.due_at, w.id], item_ids)
    base = _places(tx, [order_group(w.base_class, now), w.bound_at, w.id], item_ids)
    # Two looks: at READ COMMITTED an item may come or go between them.
    return {i: (place, base[i]) for i, place in placed.items() if i in base}


def _places(
    tx: Connection, order: Sequence[ColumnElement[Any]], item_ids: Sequence[int] | None
) -> dict[int, int]:
    """{item id: its place among all open items in this order, from 1}; counted by the database, which hands over only
    what is told: a thread may have to wait for the interpreter at every row (pysqlite)."""
    places = (
        select(worklist_item.c.id, func.row_number().over(order_by=order).label("place"))
        .where(waiting())
        .subquery()
    )
    query = select(places.c.id, places.c.place)
    if item_ids is not None and len(item_ids) <= _BOUND_MAX:
        query = query.where(places.c.id.in_(list(item_ids)))
    return {int(i): int(place) for i, place in tx.execute(query)}
