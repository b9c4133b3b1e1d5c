"""Runs that wait: whom to wake, what goes first, how long it is. Read by the sweeper, the pages and `/health`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, literal_column, or_, select, update

from triage.domain.run import RunState
from triage.store.schema import release, run

QUEUES = ("stat", "routine", "shadow")


def is_open() -> ColumnElement[bool]:
    """What should be running, spelled as index run_open has it: SQLite proves nothing of bound values, nor of one of two."""
    return run.c.state.in_([literal_column("'requested'"), literal_column("'running'")])


def to_wake(tx: Connection, now: datetime, patience: timedelta, limit: int = 50) -> list[tuple[int, str]]:
    """(run id, queue) of runs that nobody holds and nobody was woken for lately; marks them as woken."""
    waiting = or_(
        run.c.state == RunState.REQUESTED.value,
        and_(run.c.state == RunState.RUNNING.value, run.c.lease_until < now),
    )
    stale = or_(run.c.woken_at.is_(None), run.c.woken_at < now - patience, run.c.woken_at > now)
    found: list[tuple[int, str]] = []
    for queue in QUEUES:  # of each queue the oldest few alone: calls for all that wait would fill the broker
        oldest = (
            select(run.c.id)
            .where(is_open(), waiting, run.c.queue == queue)
            .order_by(run.c.requested_at, run.c.id)
            .limit(limit)
        )
        rows = tx.execute(
            select(run.c.id).where(run.c.id.in_(oldest), stale).order_by(run.c.requested_at, run.c.id)
        )
        found += [(int(r.id), queue) for r in rows]
    if found:
        tx.execute(update(run).where(run.c.id.in_([i for i, _ in found])).values(woken_at=now))
    return found


def hurry(tx: Connection, study_id: int) -> int:
    """The order turned out to be urgent: runs that wait go before the others, and are called anew by the sweeper."""
    query = update(run).where(
        run.c.study_id == study_id, run.c.state == RunState.REQUESTED.value, run.c.queue == "routine"
    )
    return tx.execute(query.values(queue="stat", woken_at=None)).rowcount


def oldest_waiting(tx: Connection) -> datetime | None:
    """When the longest waiting run was asked for; None when nothing waits."""
    waiting = select(func.min(run.c.requested_at)).where(is_open(), run.c.state == RunState.REQUESTED.value)
    oldest: datetime | None = tx.execute(waiting).scalar_one()
    return oldest


def places(tx: Connection, study_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """{study id: {"place" in its queue from 1, "attempts", "requested_at"}} of its oldest run that is not done."""
    place = func.row_number().over(partition_by=run.c.queue, order_by=(run.c.requested_at, run.c.id))
    queued = (
        select(run.c.study_id, run.c.attempts, run.c.requested_at, place.label("place"))
        .where(is_open())
        .subquery()
    )
    query = select(queued).where(queued.c.study_id.in_(list(study_ids))).order_by(queued.c.place.desc())
    return {int(r["study_id"]): dict(r) for r in tx.execute(query).mappings()} if study_ids else {}


def waiting_by_detector(tx: Connection) -> list[tuple[str, int, datetime]]:
    """[(detector, runs that wait, since when the oldest)]"""
    query = (
        select(release.c.detector, func.count(), func.min(run.c.requested_at))
        .join(release, release.c.id == run.c.release_id)
        .where(is_open(), run.c.state == RunState.REQUESTED.value)
        .group_by(release.c.detector)
        .order_by(release.c.detector)
    )
    return [(d, int(n), at) for d, n, at in tx.execute(query).tuples()]


def nobody_takes(tx: Connection, now: datetime, patience: timedelta) -> bool:
    """Rows wait longer than `patience` although no run is being worked on: the workers do not hear (F16)."""
    oldest = oldest_waiting(tx)
    if oldest is None or now - oldest < patience:
        return False
    working = select(func.count()).where(
        is_open(), run.c.state == RunState.RUNNING.value, run.c.lease_until >= now
    )
    lately = select(func.count()).where(run.c.started_at >= now - patience)
    return not tx.execute(working).scalar_one() and not tx.execute(lately).scalar_one()
