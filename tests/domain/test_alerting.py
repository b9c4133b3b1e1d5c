"""Which findings call a person, and that the ladder climbs every rung once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import NOON, a_finding
from triage.domain.alerting import RETRY_SECONDS, Rung, alerting, retry_after, rungs_due
from triage.domain.finding import FINDING_CODES, PriorityClass

LADDER = [Rung(timedelta(minutes=m), (f"route{m}",)) for m in (0, 3, 5, 10, 15)]


@pytest.mark.parametrize("name", sorted(FINDING_CODES))
def test_only_an_actionable_critical_finding_alerts(name: str) -> None:
    critical = FINDING_CODES[name].priority_class is PriorityClass.CRITICAL

    assert (name in alerting([a_finding(name)])) == critical
    assert alerting([a_finding(name, 0.4)]) == {}


def test_of_two_films_with_the_same_finding_the_more_probable_stands() -> None:
    low, high = a_finding(probability=0.7), a_finding(probability=0.9)

    assert alerting([low, high]) == alerting([high, low]) == {"pneumothorax": high}


@given(st.integers(0, 4), st.integers(0, 3600))
def test_due_rungs_lie_above_the_step_in_order_and_not_before_their_time(step: int, seconds: int) -> None:
    now = NOON + timedelta(seconds=seconds)

    due = rungs_due(LADDER, NOON, step, now)

    assert due == sorted(due)
    assert due == [i for i in range(step + 1, 5) if seconds >= LADDER[i].after.total_seconds()]


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_waits_between_attempts_grow_to_five_minutes_and_a_quarter_of_jitter(
    attempts: int, jitter: float
) -> None:
    wait = retry_after(attempts, jitter).total_seconds()

    assert retry_after(attempts, 0).total_seconds() == RETRY_SECONDS[min(attempts, len(RETRY_SECONDS)) - 1]
    assert 2 <= wait <= 375
    assert wait <= retry_after(attempts, 0).total_seconds() * 1.25 + 1e-6
