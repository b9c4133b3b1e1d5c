"""One study before any rule, the same studies under each rule, and the figures of their waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from triage.domain.finding import Band, Finding, PriorityClass
from triage.domain.priority import ItemFacts, OrderedPriority, Policy, prioritize
from triage.domain.queueing import Case, Standing
from triage.domain.statistics import poisson_rate
from triage.qa.batches import figures

RULES = ("first_come", "order", "policy", "policy_without_bound")
NEVER = datetime.max.replace(tzinfo=UTC)
CLASSES = tuple(sorted(PriorityClass, reverse=True))
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Arrival:
    """One study before any rule: `batch` is what intervals are computed over (a replication, a day)."""

    id: int
    batch: int
    arrived_at: datetime
    ordered: OrderedPriority
    reading: timedelta
    flags: tuple[str, ...]
    flagged_at: datetime | None
    counted: bool = True


def cases_under(rule: str, arrivals: Sequence[Arrival], policy: Policy) -> list[Case]:
    """The same studies as this rule would list them."""
    if rule == "first_come":
        return [_case(a, Standing(PriorityClass.ROUTINE, a.arrived_at, NEVER)) for a in arrivals]
    bounded = rule == "policy"
    at_first = {a.id: _standing(a, (), policy, bounded, 0)[0] for a in arrivals}
    lifted: dict[int, tuple[datetime, Standing]] = {}
    if rule != "order":
        raises: deque[datetime] = deque()  # of the last hour, below critical: what the hourly cap counts
        for a in sorted((a for a in arrivals if a.flagged_at), key=lambda a: (a.flagged_at, a.id)):
            at = a.flagged_at
            assert at is not None
            while raises and raises[0] < at - HOUR:
                raises.popleft()
            standing, raised = _standing(a, a.flags, policy, bounded, len(raises))
            if raised and standing.priority_class < PriorityClass.CRITICAL:
                raises.append(at)
            lifted[a.id] = (at, standing)
    return [_case(a, at_first[a.id], lifted.get(a.id)) for a in arrivals]


def _case(a: Arrival, standing: Standing, lifted: tuple[datetime, Standing] | None = None) -> Case:
    return Case(id=a.id, arrived_at=a.arrived_at, reading=a.reading, standing=standing, lifted=lifted)


def _standing(
    a: Arrival, flags: Sequence[str], policy: Policy, bounded: bool, raised_last_hour: int
) -> tuple[Standing, bool]:
    """By the product's own rule. Class and place do not depend on the probability of an actionable finding."""
    findings = [Finding(name, 1.0, 1.0, Band.HIGH, actionable=True) for name in flags]
    answer = prioritize(
        ItemFacts(arrived_at=a.arrived_at, ordered_priority=a.ordered), findings, policy, raised_last_hour
    )
    bound = answer.bound_at if bounded else NEVER
    return Standing(answer.priority_class, answer.due_at, bound), answer.raised_by_ai


def told(arrivals: Sequence[Arrival], policy: Policy, reader_hours: float) -> dict[str, Any]:
    flagged = sum(bool(a.flags) for a in arrivals)
    rate = poisson_rate(flagged, reader_hours)
    return {
        "policy": {"version": policy.version, **policy.as_json()},
        "studies": len(arrivals),
        "reader_hours": round(reader_hours, 3),
        "flagged": flagged,
        "flags_per_reader_hour": {
            "value": round(rate.value, 4),
            "low": round(rate.low, 4),
            "high": round(rate.high, 4),
        },
    }


def groups_of(
    arrivals: Sequence[Arrival], waits: Sequence[float], still_open: Sequence[bool], policy: Policy
) -> dict[str, dict[str, Any]]:
    """Figures of everybody, of flagged and unflagged, by order, and by the class that order and flags give."""
    base = [_standing(a, (), policy, False, 0)[0].priority_class for a in arrivals]
    lifted = [_standing(a, a.flags, policy, False, 0)[0].priority_class for a in arrivals]
    wait, batch = np.array(waits), np.array([a.batch for a in arrivals])
    allowed = np.array([minutes(policy.longest_wait[b]) for b in base])
    groups: dict[str, Callable[[int], bool]] = {
        "all": lambda _: True,
        "flagged": lambda i: bool(arrivals[i].flags),
        "unflagged": lambda i: not arrivals[i].flags,
    }
    groups |= {f"class {c.word}": lambda i, c=c: lifted[i] is c for c in CLASSES}  # type: ignore[misc]
    groups |= {f"ordered {p.value}": lambda i, p=p: arrivals[i].ordered is p for p in OrderedPriority}  # type: ignore[misc]
    found = {}
    for name, belongs in groups.items():
        rows = np.array([i for i in range(len(arrivals)) if belongs(i)], dtype=np.intp)
        if rows.size:
            found[name] = figures(
                wait[rows], batch[rows], np.array(still_open)[rows], wait[rows] > allowed[rows]
            )
    return found


def minutes(span: timedelta) -> float:
    return span.total_seconds() / 60
