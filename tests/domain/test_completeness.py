"""The decision table of standards 3.2, row by row, and that it always comes to an end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import NOON
from triage.domain.completeness import (
    HARD_LIMIT,
    Evidence,
    Verdict,
    judge,
    longest_wait,
)

BASE = Evidence(
    is_film=False, instance_count=150, expected_count=None, has_gap=False, association_open=False,
    association_aborted=False, first_instance_at=NOON, last_instance_at=NOON,
)  # fmt: skip

evidence = st.builds(
    Evidence,
    is_film=st.booleans(),
    instance_count=st.integers(1, 500),
    expected_count=st.none() | st.integers(0, 500),
    has_gap=st.booleans(),
    association_open=st.booleans(),
    association_aborted=st.booleans(),
    missing_count=st.none() | st.integers(0, 20),
    first_instance_at=st.integers(-4000, 4000).map(lambda s: NOON + timedelta(seconds=s)),
    last_instance_at=st.integers(-4000, 4000).map(lambda s: NOON + timedelta(seconds=s)),
)
quiet = st.floats(0.5, 60)


@pytest.mark.parametrize(
    ("changes", "seconds", "because", "gives_up"),
    [
        ({}, 10, "no gap, association released", False),
        (
            {"missing_count": 0, "has_gap": False, "association_open": True},
            0,
            "every listed instance is here",
            False,
        ),
        ({"missing_count": 2, "expected_count": 150}, 120, "quiet, fewer than listed", True),
        ({"association_open": True}, 45, "quiet", False),
        ({"has_gap": True}, 120, "quiet, gap in positions", True),
        ({"association_aborted": True}, 120, "quiet after abort", False),
        ({"association_aborted": True, "has_gap": True}, 120, "quiet after abort", True),
        ({"expected_count": 150}, 0, "count met", False),
        ({"expected_count": 149, "association_open": True}, 0, "count met", False),
        ({"expected_count": 151}, 120, "quiet, fewer than counted", True),
    ],
)
def test_each_row_of_the_table(
    changes: dict[str, object], seconds: int, because: str, gives_up: bool
) -> None:
    series = replace(BASE, **changes)  # type: ignore[arg-type]

    if seconds:
        early = judge(series, 10.0, NOON + timedelta(seconds=seconds - 1))
        assert early.verdict is Verdict.WAITING
        assert early.look_again_at == NOON + timedelta(seconds=seconds)
    ripe = judge(series, 10.0, NOON + timedelta(seconds=seconds))
    assert ripe.verdict is (Verdict.GIVEN_UP if gives_up else Verdict.WHOLE)
    assert ripe.because == because
    assert ripe.look_again_at is None


def test_a_film_is_whole_on_arrival() -> None:
    assert judge(replace(BASE, is_film=True, has_gap=True), 10.0, NOON).verdict is Verdict.WHOLE


def test_half_an_hour_after_the_first_slice_it_is_decided_with_what_is_here() -> None:
    late = NOON + HARD_LIMIT
    dripping = replace(BASE, association_open=True, last_instance_at=late - timedelta(seconds=1))

    assert judge(dripping, 10.0, late).because == "hard limit"
    assert judge(dripping, 10.0, late).verdict is Verdict.GIVEN_UP


@given(evidence, quiet)
def test_who_waits_is_told_when_to_look_again_and_then_there_is_an_answer(
    series: Evidence, quiet_seconds: float
) -> None:
    answer = judge(series, quiet_seconds, NOON)

    if answer.verdict is Verdict.WAITING:
        assert answer.look_again_at is not None
        assert NOON < answer.look_again_at <= NOON + longest_wait(quiet_seconds)
        # The sweeper has brought stamps of a clock that was ahead back to now.
        clamped = replace(
            series,
            first_instance_at=min(series.first_instance_at, NOON),
            last_instance_at=min(series.last_instance_at, NOON),
        )
        assert judge(clamped, quiet_seconds, answer.look_again_at).verdict is not Verdict.WAITING
    else:
        assert answer.look_again_at is None


@given(evidence, quiet)
def test_a_series_with_a_known_hole_is_never_called_whole(series: Evidence, quiet_seconds: float) -> None:
    if not series.is_film and (series.has_gap or series.is_short):
        for seconds in (0, 60, 3600, 86_400):
            answer = judge(series, quiet_seconds, NOON + timedelta(seconds=seconds))
            assert answer.verdict is not Verdict.WHOLE
