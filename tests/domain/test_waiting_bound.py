"""P8: nobody waits beyond the maximum of their class because of AI.

Three simulated days of a reading room at 60, 90 and 110 % load with 1 to 40 % of studies flagged, the list's own rule
and cap. Beyond the reading capacity no order keeps a fixed limit, so the oracle is: the worst wait of each class is at
most the class's longest wait or the worst wait of first come, first served.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from datetime import datetime, timedelta

import pytest

from tests.factories import NOON, a_finding
from triage.domain.finding import PriorityClass
from triage.domain.priority import ItemFacts, OrderedPriority, Policy, prioritize
from triage.domain.queueing import Case, Shift, Standing, replay

DAYS, READERS, READING_MINUTES = 3, 2, 5.0
HOUR = timedelta(hours=1)
NEVER = datetime.max.replace(tzinfo=NOON.tzinfo)
LATENCY = timedelta(seconds=5)  # from arrival to the flag


def worst_waits(
    load: float, flagged: float, seed: int, raised_per_hour: int = Policy().raised_per_hour
) -> dict[str, tuple[timedelta, timedelta]]:
    """Per class without AI, and for what AI made critical: (worst wait by our order, by first come first served)."""
    chance, policy = random.Random(seed), Policy(raised_per_hour=raised_per_hour)
    rate = load * READERS / READING_MINUTES  # studies a minute
    raised: deque[datetime] = deque()
    cases, first_come, groups = [], [], {}
    at, number = NOON, 0
    while (at := at + timedelta(minutes=chance.expovariate(rate))) < NOON + timedelta(days=DAYS):
        number += 1
        ordered = chance.choices(list(OrderedPriority), (0.05, 0.15, 0.8))[0]
        facts = ItemFacts(arrived_at=at, ordered_priority=ordered)
        while raised and raised[0] < at - HOUR:
            raised.popleft()
        found = []
        if chance.random() < flagged:
            found = [a_finding(chance.choices(("pneumothorax", "consolidation", "nodule"), (1, 3, 6))[0])]
        plain = prioritize(facts, (), policy, 0)
        lifted = prioritize(facts, found, policy, len(raised))
        if lifted.raised_by_ai and lifted.priority_class < PriorityClass.CRITICAL:
            raised.append(at)
        reading = timedelta(minutes=min(30.0, chance.expovariate(1 / READING_MINUTES)))
        standing = Standing(plain.priority_class, plain.due_at, plain.bound_at)
        move = (
            (at + LATENCY, Standing(lifted.priority_class, lifted.due_at, lifted.bound_at)) if found else None
        )
        cases.append(Case(id=number, arrived_at=at, reading=reading, standing=standing, lifted=move))
        queue = Standing(PriorityClass.ROUTINE, at, NEVER)
        first_come.append(Case(id=number, arrived_at=at, reading=reading, standing=queue))
        critical = lifted.priority_class is PriorityClass.CRITICAL
        groups[number] = PriorityClass.CRITICAL if critical else plain.priority_class
    until = NOON + timedelta(days=DAYS + 10)
    ours, theirs = (replay(c, [Shift(NOON, READERS)], until) for c in (cases, first_come))
    assert len(ours) == len(theirs) == number
    worst: dict[PriorityClass, list[timedelta]] = defaultdict(lambda: [timedelta(0)])
    for case in cases:
        worst[groups[case.id]].append(ours[case.id] - case.arrived_at)
    longest_first_come = max(theirs[c.id] - c.arrived_at for c in cases)
    return {c.word: (max(waits), longest_first_come) for c, waits in worst.items()}


@pytest.mark.parametrize("flagged", [0.01, 0.05, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("load", [0.6, 0.9, 1.1])
def test_the_worst_wait_of_every_class_is_its_limit_or_that_of_first_come(
    load: float, flagged: float
) -> None:
    for seed in range(2):
        for word, (worst, first_come) in worst_waits(load, flagged, seed).items():
            limit = Policy().longest_wait[PriorityClass.from_word(word)]
            assert worst <= max(limit, first_come), (
                f"{word} at {load:.0%}, {flagged:.0%} flagged, seed {seed}"
            )


def test_a_day_of_nothing_but_flags_starves_nobody() -> None:
    """A detector gone mad: everything is flagged, one in ten critical. The cap holds, routine studies still move."""
    worst = worst_waits(0.9, 1.0, 1)

    assert worst["routine"][0] <= max(Policy().longest_wait[PriorityClass.ROUTINE], worst["routine"][1])


ARRIVALS_PER_HOUR = 1.1 * READERS / READING_MINUTES * 60


@pytest.mark.parametrize("flagged", [0.8, 1.0])
def test_under_a_cap_that_fits_the_department_even_a_mad_detector_keeps_the_promise(flagged: float) -> None:
    """docs/decisions/0010: the cap is a number of the site; at 40 % of its arrivals an hour all flags are as 40 %."""
    for seed in range(3):
        for word, (worst, first_come) in worst_waits(
            1.1, flagged, seed, int(0.4 * ARRIVALS_PER_HOUR)
        ).items():
            limit = Policy().longest_wait[PriorityClass.from_word(word)]
            assert worst <= max(limit, first_come), f"{word}, {flagged:.0%} flagged, seed {seed}"


def test_above_it_a_study_past_its_bound_is_begun_within_the_hour() -> None:
    """The default of 30 an hour caps nothing where 26 arrive: the bound still acts, but only once it has passed."""
    beyond = [
        worst - max(Policy().longest_wait[PriorityClass.from_word(word)], first_come)
        for seed in range(3)
        for word, (worst, first_come) in worst_waits(1.1, 1.0, seed).items()
    ]
    assert timedelta(0) < max(beyond) < HOUR
