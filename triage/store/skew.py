"""Stamps from a clock that was ahead, brought back, so that a clock which was wrong delays nothing (P17).

A stamp of something that happened may not lie in the future; a deadline not further ahead than the longest that its
step ever sets. Only rows that still wait for something are looked at, through the partial indexes of `schema`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Table, Update, and_, bindparam, case, or_, true, update

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


def clamp_future(tx: Connection, now: datetime, longest: Longest) -> list[int]:
    """Bring every such stamp back; returns the studies whose arrival moved, to be ranked anew."""
    latest = {"none": now} | {name: now + ahead for name, ahead in asdict(longest).items()}
    values = {f"to_{name}": at for name, at in latest.items()}
    values |= {f"above_{name}": at + TOLERATED for name, at in latest.items()}
    for statement, names in _CLAMPS:
        tx.execute(statement, {n: values[n] for n in names})
    return sorted(tx.execute(_ARRIVED, {n: values[n] for n in ("to_none", "above_none")}).scalars())


def _clamp(
    table: Table, rows: ColumnElement[bool], columns: dict[str, str]
) -> tuple[Update, tuple[str, ...]]:
    """One statement, made once, and the names of its values; `columns` says which limit holds for each stamp."""
    time = UtcTime()
    ahead = {c: table.c[c] > bindparam(f"above_{limit}", type_=time) for c, limit in columns.items()}
    back = {
        c: case((ahead[c], bindparam(_target(limit), type_=time)), else_=table.c[c])
        for c, limit in columns.items()
    }
    names = {f"above_{limit}" for limit in columns.values()} | {_target(limit) for limit in columns.values()}
    return update(table).where(and_(rows, or_(*ahead.values()))).values(back), tuple(sorted(names))


def _target(limit: str) -> str:
    """A thing to be done that was put off too far is done now; what somebody holds keeps its full length."""
    return "to_none" if limit in ("judge", "retry") else f"to_{limit}"


_OPEN_ITEM = worklist_item.c.state.in_(("arriving", "to_read", "claimed"))
_CLAMPS = (
    _clamp(series, series.c.judge_at.is_not(None),
           {"first_instance_at": "none", "last_instance_at": "none", "judge_at": "judge"}),
    _clamp(run, run.c.state.in_(("requested", "running")),
           {"requested_at": "none", "started_at": "none", "lease_until": "lease"}),
    _clamp(alert, alert.c.state == "open", {"raised_at": "none", "later_until": "later"}),
    _clamp(claim, true(), {"expires_at": "claim"}),
    _clamp(delivery, delivery.c.state == "waiting", {"next_attempt_at": "retry"}),
    _clamp(operator_notice, operator_notice.c.sent_at.is_(None), {"next_attempt_at": "retry"}),
    _clamp(constancy_check, constancy_check.c.ok.is_(None), {"due_at": "check"}),
    _clamp(heartbeat, true(), {"at": "none"}),
    _clamp(worklist_item, _OPEN_ITEM, {"raised_at": "none"}),
)  # fmt: skip
_ARRIVED = (
    update(worklist_item)
    .where(_OPEN_ITEM, worklist_item.c.arrived_at > bindparam("above_none", type_=UtcTime()))
    .values(arrived_at=bindparam("to_none", type_=UtcTime()))
    .returning(worklist_item.c.study_id)
)
