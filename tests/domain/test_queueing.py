"""The reading room against closed formulas, and the replay against the rule applied by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triage.domain.finding import PriorityClass
from triage.domain.priority import sort_key
from triage.domain.queueing import Case, Shift, Standing, cobham_waits, erlang_c, replay

T0 = datetime(2026, 11, 1, tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


@pytest.mark.parametrize(
    ("offered", "readers", "waits"),
    [(0.5, 1, 0.5), (1.0, 2, 1 / 3), (4.0, 5, 0.5541), (3.0, 3, 1.0), (0.0, 2, 0.0)],
)
def test_erlang_c_has_its_textbook_values(offered: float, readers: int, waits: float) -> None:
    assert erlang_c(offered, readers) == pytest.approx(waits, abs=5e-5)


def test_cobham_has_its_textbook_values() -> None:
    assert cobham_waits([0.2, 0.3], 1.0, 1) == pytest.approx([0.625, 1.25])
    assert cobham_waits([0.5], 1.0, 1) == pytest.approx([1.0])  # M/M/1: rho / (mu - lambda)
    assert cobham_waits([0.5, 0.6], 1.0, 1) == [pytest.approx(2.0), math.inf]


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5), st.integers(1, 6), st.floats(0.1, 0.98))
def test_priority_only_redistributes_waiting(weights: list[float], readers: int, load: float) -> None:
    """Kleinrock's conservation law: the mean over all classes is that of first come, first served."""
    rates = [w / sum(weights) * load * readers for w in weights]
    waits = cobham_waits(rates, 1.0, readers)
    together = cobham_waits([sum(rates)], 1.0, readers)[0]
    assert sum(r * w for r, w in zip(rates, waits, strict=True)) / sum(rates) == pytest.approx(together)
    assert waits == sorted(waits)


def _poisson_cases(rates: list[float], n: int, seed: int) -> list[Case]:
    """Arrivals of three classes with exponential reading times of mean 1 minute; rates per minute."""
    dice = np.random.default_rng(seed)
    at = np.cumsum(dice.exponential(1 / sum(rates), n))
    which = dice.choice(len(rates), n, p=np.array(rates) / sum(rates))
    reading = dice.exponential(1.0, n)
    classes = [PriorityClass.CRITICAL, PriorityClass.HIGH, PriorityClass.ROUTINE]
    return [
        Case(
            id=i, arrived_at=T0 + minutes(at[i]), reading=minutes(reading[i]),
            standing=Standing(classes[which[i]], T0 + minutes(at[i]), NEVER),
        )
        for i in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize(("rates", "readers"), [([0.15, 0.25, 0.4], 1), ([0.35, 0.7, 1.35], 3)])
def test_the_replay_has_the_waits_that_cobham_computed(rates: list[float], readers: int) -> None:
    n, batches = 60_000, 30
    cases = _poisson_cases(rates, n, seed=4)
    started = replay(cases, [Shift(T0, readers)], NEVER)
    assert len(started) == n
    expected = cobham_waits(rates, 1.0, readers)
    classes = [PriorityClass.CRITICAL, PriorityClass.HIGH, PriorityClass.ROUTINE]
    for mean, priority_class in zip(expected, classes, strict=True):
        waits = np.array(
            [
                (started[c.id] - c.arrived_at).total_seconds() / 60
                for c in cases
                if c.standing.priority_class == priority_class
            ]
        )
        parts = [p.mean() for p in np.array_split(waits, batches)]
        error = np.std(parts, ddof=1) / math.sqrt(batches)
        assert abs(waits.mean() - mean) < 4 * error, f"{priority_class.word}: {waits.mean()} for {mean}"
        assert error < 0.12 * mean, "too few cases to prove anything"


CASES = st.lists(
    st.tuples(
        st.integers(0, 60), st.integers(1, 20), st.sampled_from(list(PriorityClass)), st.integers(0, 60),
        st.integers(1, 90), st.one_of(st.none(), st.tuples(st.integers(0, 40), st.integers(0, 40))),
    ),
    min_size=1, max_size=25,
)  # fmt: skip


def _case(i: int, arrived: int, reading: int, c: PriorityClass, due: int, bound: int, lift: object) -> Case:
    at = T0 + minutes(arrived)
    lifted = None
    if isinstance(lift, tuple) and c < PriorityClass.CRITICAL:
        lifted = (
            at + minutes(lift[0]),
            Standing(PriorityClass(c + 1), at + minutes(min(due, lift[1])), at + minutes(bound)),
        )
    return Case(id=i, arrived_at=at, reading=minutes(reading), lifted=lifted,
                standing=Standing(c, at + minutes(due), at + minutes(bound)))  # fmt: skip


@settings(max_examples=80)
@given(CASES, st.lists(st.tuples(st.integers(0, 90), st.integers(0, 3)), max_size=3))
def test_every_start_is_the_first_of_the_list_at_that_moment(
    rows: list[tuple[int, int, PriorityClass, int, int, object]], changes: list[tuple[int, int]]
) -> None:
    """The whole replay again, minute by minute, by scanning everybody with `sort_key`."""
    cases = [_case(i, *row) for i, row in enumerate(rows)]
    shifts = [Shift(T0, 1), *(Shift(T0 + minutes(at), n) for at, n in dict(changes).items() if at > 0)]
    until = T0 + minutes(2000)
    got = replay(cases, shifts, until)
    started: dict[int, datetime] = {}
    for minute in range(2000):
        if len(started) == len(cases):
            break
        now = T0 + minutes(minute)
        here = [s.readers for s in sorted(shifts, key=lambda s: s.at) if s.at <= now][-1]
        busy = sum(s + cases[i].reading > now for i, s in started.items())
        waiting = [c for c in cases if c.arrived_at <= now and c.id not in started]
        while waiting and busy < here:

            def place(c: Case, now: datetime = now) -> tuple[int, datetime, int]:
                s = c.lifted[1] if c.lifted and c.lifted[0] <= now else c.standing
                return sort_key(s.priority_class, s.due_at, s.bound_at, now, c.id)

            first = min(waiting, key=place)
            started[first.id] = now
            waiting.remove(first)
            busy += 1
    assert got == started


def test_whom_nobody_comes_to_is_absent() -> None:
    cases = [
        _case(0, 5, 10, PriorityClass.ROUTINE, 60, 60, None),
        _case(1, 6, 10, PriorityClass.ROUTINE, 60, 60, None),
    ]
    assert replay(cases, [Shift(T0, 1), Shift(T0 + minutes(7), 0)], T0 + minutes(600)) == {0: T0 + minutes(5)}
    assert replay(cases, [], T0 + minutes(600)) == {}


def test_a_reader_who_leaves_finishes_the_study_in_hand_and_takes_no_other() -> None:
    cases = [_case(i, 0, 30, PriorityClass.ROUTINE, 60, 999, None) for i in range(3)]
    got = replay(cases, [Shift(T0, 2), Shift(T0 + minutes(10), 1)], T0 + minutes(600))
    assert [got[i] - T0 for i in range(3)] == [minutes(0), minutes(0), minutes(30)]
