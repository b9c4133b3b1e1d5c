"""A reading room as a queue: closed formulas for the simple cases, and an exact replay for all others.

The replay takes the next study by `domain.priority.sort_key`, the same rule as the list; readers finish what they have
begun (non-preemptive). Pure: arrivals, reading times and shifts come in, starting times come out.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from triage.domain.finding import PriorityClass
from triage.domain.priority import sort_key

# --- formulas ------------------------------------------------------------------------------------------------


def erlang_c(offered: float, readers: int) -> float:
    """Probability that an arrival waits in M/M/c; 1 when the readers cannot keep up.

    offered  arrival rate times mean reading time (erlangs)
    source   Erlang 1917, by the stable recursion of the blocking formula
    """
    if offered >= readers:
        return 1.0
    blocked = 1.0
    for c in range(1, readers + 1):
        blocked = offered * blocked / (c + offered * blocked)
    return blocked / (1 - offered / readers * (1 - blocked))


def cobham_waits(rates: Sequence[float], reading: float, readers: int) -> list[float]:
    """Mean wait before reading of each class in M/M/c with non-preemptive priority, first come within a class.

    rates    arrivals per unit of time, the most urgent class first; reading is the mean reading time of every class
    returns  in the unit of `reading`; inf for classes that the readers never come to
    source   Cobham 1954, eq. 3 and 12; with one class it is Erlang's M/M/c
    """
    offered = sum(rates) * reading
    if offered < readers:
        base = erlang_c(offered, readers) * reading / readers
    else:  # every reader is busy always: what is left is the mean time until the next of them is free
        base = reading / readers
    waits, before = [], 0.0
    for rate in rates:
        upto = before + rate * reading / readers
        waits.append(base / ((1 - before) * (1 - upto)) if upto < 1 else math.inf)
        before = upto
    return waits


# --- replay --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """Where a study stands in the list; `bound_at` of `datetime.max` means that waiting lifts nobody."""

    priority_class: PriorityClass
    due_at: datetime
    bound_at: datetime


@dataclass(frozen=True, kw_only=True)
class Case:
    """One study on its way through the reading room.

    reading    how long it keeps a reader busy
    standing   on arrival; lifted: (when, where) once a flag or a person moved it, if ever
    """

    id: int
    arrived_at: datetime
    reading: timedelta
    standing: Standing
    lifted: tuple[datetime, Standing] | None = None


@dataclass(frozen=True)
class Shift:
    """From `at` on so many readers are there."""

    at: datetime
    readers: int


def replay(cases: Iterable[Case], shifts: Sequence[Shift], until: datetime) -> dict[int, datetime]:
    """When each case began to be read; a case that nobody had begun by `until` is absent.

    A reader who is free takes the first of the list as it is at that moment; who leaves finishes the study in hand.
    """
    arrivals = sorted(cases, key=lambda c: (c.arrived_at, c.id))
    by_id = {c.id: c for c in arrivals}
    lifts = sorted((c.lifted[0], c.id) for c in arrivals if c.lifted)
    changes = sorted((s.at, s.readers) for s in shifts)
    line = _Line()
    ends: list[datetime] = []
    started: dict[int, datetime] = {}
    here, next_arrival, next_lift, next_change = 0, 0, 0, 0
    while True:
        coming = [arrivals[next_arrival].arrived_at] if next_arrival < len(arrivals) else []
        coming += [lifts[next_lift][0]] if next_lift < len(lifts) else []
        coming += [changes[next_change][0]] if next_change < len(changes) else []
        coming += ends[:1]
        if not coming or (now := min(coming)) >= until:
            return started
        while ends and ends[0] <= now:
            heapq.heappop(ends)
        while next_change < len(changes) and changes[next_change][0] <= now:
            here = changes[next_change][1]
            next_change += 1
        while next_arrival < len(arrivals) and arrivals[next_arrival].arrived_at <= now:
            line.put(arrivals[next_arrival].id, arrivals[next_arrival].standing)
            next_arrival += 1
        while next_lift < len(lifts) and lifts[next_lift][0] <= now:
            lifted = by_id[lifts[next_lift][1]].lifted
            assert lifted is not None
            line.move(lifts[next_lift][1], lifted[1])
            next_lift += 1
        while len(ends) < here and (taken := line.take(now)) is not None:
            started[taken] = now
            heapq.heappush(ends, now + by_id[taken].reading)


class _Line:
    """Those who wait. A heap per class by due time, and one of those past their bound; the rule itself decides."""

    def __init__(self) -> None:
        self._standing: dict[int, Standing] = {}
        self._by_due: dict[PriorityClass, list[tuple[datetime, int]]] = {c: [] for c in PriorityClass}
        self._by_bound: list[tuple[datetime, int]] = []
        self._overdue: list[tuple[datetime, int]] = []

    def put(self, case_id: int, standing: Standing) -> None:
        self._standing[case_id] = standing
        heapq.heappush(self._by_due[standing.priority_class], (standing.due_at, case_id))
        heapq.heappush(self._by_bound, (standing.bound_at, case_id))

    def move(self, case_id: int, standing: Standing) -> None:
        if case_id in self._standing:  # else somebody reads it already
            self.put(case_id, standing)

    def take(self, now: datetime) -> int | None:
        """Remove and return the first by `sort_key`; only the head of each heap can be that."""
        while self._by_bound and self._by_bound[0][0] < now:
            _, case_id = heapq.heappop(self._by_bound)
            if case_id in self._standing:
                heapq.heappush(self._overdue, (self._standing[case_id].due_at, case_id))
        heads = [self._head(heap, c) for c, heap in self._by_due.items()]
        heads.append(self._head(self._overdue, None))
        first = min(
            (h for h in heads if h is not None),
            key=lambda i: sort_key(
                self._standing[i].priority_class, self._standing[i].due_at, self._standing[i].bound_at, now, i
            ),
            default=None,
        )
        if first is not None:
            del self._standing[first]
        return first

    def _head(self, heap: list[tuple[datetime, int]], of_class: PriorityClass | None) -> int | None:
        """Head of a heap, after dropping who was read or has moved elsewhere since."""
        while heap:
            due_at, case_id = heap[0]
            held = self._standing.get(case_id)
            if held is not None and held.due_at == due_at and of_class in (None, held.priority_class):
                return case_id
            heapq.heappop(heap)
        return None
