"""Stamps from a clock that was ahead, brought back, so that a clock which was wrong delays nothing (P17).

A stamp of something that happened may not lie in the future; a deadline not further ahead than the longest that its
step ever sets. Only rows that still wait for something are looked at, through the partial indexes of `schema`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Table, and_, case, literal, or_, true, update

from triage.store.schema import (
    UtcTime,
    alert,
    claim,
    constancy_check,
    delivery,
    heartbeat,
    operator_notice,
    run,
    series,
    worklist_item,
)

TOLERATED = timedelta(seconds=5)  # machines that share a database differ by this much and nobody minds


@dataclass(frozen=True, kw_only=True)
class Longest:
    """The furthest ahead that each deadline is ever set by its own step."""

    judge: timedelta
    lease: timedelta
    claim: timedelta
    retry: timedelta
    later: timedelta
    check: timedelta


_ZERO = timedelta(0)


def clamp_future(tx: Connection, now: datetime, longest: Longest) -> list[int]:
    """Bring every such stamp back; returns the studies whose arrival moved, to be ranked anew."""
    s, r, a, w = series.c, run.c, alert.c, worklist_item.c
    waiting_run = r.state.in_(("requested", "running"))
    _clamp(tx, now, series, s.judge_at.is_not(None),
           {"first_instance_at": _ZERO, "last_instance_at": _ZERO, "judge_at": longest.judge})  # fmt: skip
    _clamp(tx, now, run, waiting_run,
           {"requested_at": _ZERO, "started_at": _ZERO, "lease_until": longest.lease})  # fmt: skip
    _clamp(tx, now, alert, a.state == "open", {"raised_at": _ZERO, "later_until": longest.later})
    _clamp(tx, now, claim, true(), {"expires_at": longest.claim})
    _clamp(tx, now, delivery, delivery.c.state == "waiting", {"next_attempt_at": longest.retry})
    _clamp(tx, now, operator_notice, operator_notice.c.sent_at.is_(None), {"next_attempt_at": longest.retry})
    _clamp(tx, now, constancy_check, constancy_check.c.ok.is_(None), {"due_at": longest.check})
    _clamp(tx, now, heartbeat, true(), {"at": _ZERO})
    is_open = w.state.in_(("arriving", "to_read", "claimed"))
    _clamp(tx, now, worklist_item, is_open, {"raised_at": _ZERO})
    moved = update(worklist_item).where(is_open, w.arrived_at > now + TOLERATED).values(arrived_at=now)
    return sorted(tx.execute(moved.returning(w.study_id)).scalars())


def _clamp(
    tx: Connection, now: datetime, table: Table, rows: ColumnElement[bool], columns: dict[str, timedelta]
) -> None:
    """One statement: each of `columns` at most its timedelta ahead of now."""
    ahead = {name: table.c[name] > now + longest + TOLERATED for name, longest in columns.items()}
    brought_back = {
        name: case((ahead[name], literal(now + longest, UtcTime())), else_=table.c[name])
        for name, longest in columns.items()
    }
    tx.execute(update(table).where(and_(rows, or_(*ahead.values()))).values(**brought_back))
