"""The change feed for open pages, leases and heartbeats. All written in the step's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from triage.store.database import at_the_end
from triage.store.schema import event, heartbeat, lease
from triage.store.skew import TOLERATED
from triage.store.upsert import upsert


@dataclass(frozen=True)
class Event:
    id: int
    kind: str
    study_id: int | None
    data: dict[str, Any]
    at: datetime


def publish(tx: Connection, now: datetime, kind: str, study_id: int | None = None, **data: Any) -> None:
    """Tell open pages; kind "worklist", "alert" or "health".

    The row gets its number as a last act of the unit of work: numbers are in the order of commits, so that whoever
    resumes after the newest has missed none (P12).
    """
    row = {"kind": kind, "study_id": study_id, "data": data, "at": now}
    at_the_end(tx, lambda last: last.execute(insert(event).values(**row)))


def since(tx: Connection, last_id: int, limit: int = 500) -> list[Event]:
    rows = tx.execute(select(event).where(event.c.id > last_id).order_by(event.c.id).limit(limit))
    return [Event(**row) for row in map(dict, rows.mappings())]


def last_event_id(tx: Connection) -> int:
    return int(tx.execute(select(func.coalesce(func.max(event.c.id), 0))).scalar_one())


def forget_events(tx: Connection, before: datetime) -> int:
    """The feed serves open pages alone; history is the audit's."""
    # The newest stays: SQLite gives the ids of an emptied table again, and pages resume by id.
    newest = select(func.max(event.c.id)).scalar_subquery()
    return tx.execute(delete(event).where(event.c.at < before, event.c.id < newest)).rowcount


def take_lease(tx: Connection, name: str, holder: str, now: datetime, length: timedelta) -> int | None:
    """Fencing token when `holder` has (or renews) the lease, None while another lives (I26)."""
    upsert(
        tx, lease, {"name": name}, {"holder": "", "fencing_token": 0, "until": now - length}, replace=False
    )
    renewed = tx.execute(
        update(lease)
        .where(lease.c.name == name, lease.c.holder == holder, lease.c.until >= now)
        .values(until=now + length)
        .returning(lease.c.fencing_token)
    ).scalar_one_or_none()
    if renewed is not None:
        return int(renewed)
    taken = tx.execute(
        update(lease)
        .where(
            lease.c.name == name,
            # Longer than a lease is ever given: its holder's clock was ahead, and may be dead (P17).
            or_(lease.c.until < now, lease.c.holder == holder, lease.c.until > now + length + TOLERATED),
        )
        .values(holder=holder, until=now + length, fencing_token=lease.c.fencing_token + 1)
        .returning(lease.c.fencing_token)
    ).scalar_one_or_none()
    return None if taken is None else int(taken)


def beat(tx: Connection, part: str, pid: int, now: datetime, detail: dict[str, Any] | None = None) -> None:
    """This part of the product lives; `/health` looks at the age of the last beat."""
    values = {"pid": pid, "at": now, "detail": detail or {}}
    if tx.execute(update(heartbeat).where(heartbeat.c.part == part).values(**values)).rowcount == 0:
        upsert(tx, heartbeat, {"part": part}, {**values, "started_at": now})


def forget_beats(tx: Connection, before: datetime) -> int:
    """Parts of hosts that are gone for good: told long enough."""
    return tx.execute(delete(heartbeat).where(heartbeat.c.at < before)).rowcount


def beats(tx: Connection) -> list[dict[str, Any]]:
    return [dict(r) for r in tx.execute(select(heartbeat).order_by(heartbeat.c.part)).mappings()]
