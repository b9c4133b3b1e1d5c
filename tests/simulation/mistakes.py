"""Mistakes planted on purpose (assurance 4.3): each takes one defence away, and the simulation must see it.

A mistake is either a name in `World.mistakes` that an actor looks at, or a step of the product replaced for the
time of a run. Where a neighbour would mend it, the neighbour is off (4.1 rule 6).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, update

from triage.domain.finding import PriorityClass
from triage.domain.priority import Priority, prioritize
from triage.store import completeness, leases, registration
from triage.store.schema import delivery, run, series
from triage.workflow import relay


@dataclass(frozen=True)
class Mistake:
    """seen: of which numbers one must be broken; seeds: how many are tried until then."""

    seen: frozenset[str]
    seeds: int
    actors: frozenset[str] = frozenset()
    steps: tuple[tuple[str, Any], ...] = ()

    @contextmanager
    def planted(self) -> Iterator[None]:
        with ExitStack() as stack:
            for target, replacement in self.steps:
                stack.enter_context(patch(target, replacement))
            yield


def _lowers(item: Any, findings: Any, policy: Any, raised: int) -> Priority:
    """AI's word alone, also downwards."""
    found = list(findings)
    right = prioritize(item, found, policy, raised)
    flagged = any(f.actionable for f in found)
    if not found or flagged:
        return right
    lowest = PriorityClass.ROUTINE
    due = item.arrived_at + policy.longest_wait[lowest]
    return replace(right, priority_class=lowest, base_class=lowest, due_at=due, bound_at=due)


_touch = registration._touch


def _late_is_ignored(tx: Connection, arrival: Any, study_id: int, series_id: int, *rest: Any) -> bool:
    """A whole series stays whole, whatever comes after."""
    before = completeness.get_series(tx, series_id)
    reopened = _touch(tx, arrival, study_id, series_id, *rest)
    if before["state"] == "complete":
        tx.execute(update(series).where(series.c.id == series_id).values(state="complete", judge_at=None))
    return reopened


_prepare = relay.prepare
_retries = 0


def _new_key(tx: Connection, route: Any, site: Any, now: datetime) -> dict[str, Any] | None:
    """A fresh control id at each attempt."""
    global _retries
    row = _prepare(tx, route, site, now)
    if row is None or row["attempts"] == 0:
        return row
    _retries += 1
    fresh = f"RETRY{_retries:015d}"
    payload = bytes(row["payload"]).replace(row["control_id"].encode(), fresh.encode())
    tx.execute(update(delivery).where(delivery.c.id == row["id"]).values(control_id=fresh, payload=payload))
    return {**row, "control_id": fresh, "payload": payload}


_finish = leases.finish


def _without_token(tx: Connection, run_id: int, token: str, *args: Any, **kw: Any) -> bool:
    """Whoever comes commits, whosever lease it is."""
    tx.execute(update(run).where(run.c.id == run_id, run.c.state == "running").values(lease_token=token))
    return _finish(tx, run_id, token, *args, **kw)


MISTAKES = {
    "success before storing": Mistake(frozenset({"I1"}), 5, frozenset({"success_first"})),
    "AI may lower the class": Mistake(
        frozenset({"I14"}), 40, steps=(("triage.workflow.rank.prioritize", _lowers),)
    ),
    "late slices ignored": Mistake(
        frozenset({"L2"}), 40, steps=(("triage.store.registration._touch", _late_is_ignored),)
    ),
    "new key at each retry": Mistake(
        frozenset({"I10"}), 40, steps=(("triage.workflow.relay.prepare", _new_key),)
    ),
    "no sweeper": Mistake(frozenset({"L2", "L3", "L5"}), 40, frozenset({"no_sweeper"})),
    "future stamps not clamped": Mistake(
        frozenset({"L2", "L3", "L4", "L5", "P11"}), 120,
        steps=(("triage.workflow.sweep.clamp_future", lambda *_, **__: []),),
    ),
    "lease token not checked": Mistake(
        frozenset({"I7"}), 300, steps=(("triage.store.leases.finish", _without_token),)
    ),
    "marked as sent, then sent": Mistake(frozenset({"I11"}), 40, frozenset({"mark_then_send"})),
}  # fmt: skip
