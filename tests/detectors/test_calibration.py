"""Calibration: order is kept, a flag is a rule with a number, and a budget is never overrun."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triage.detectors.calibration import (
    Calibration,
    OperatingPoint,
    Platt,
    fit_platt,
    sigmoid,
    threshold_within_budget,
)
from triage.domain.finding import Band, Location

POINT = OperatingPoint(low=0.05, moderate=0.2, high=0.5, actionable=0.3)
PLACE = Location(outline=((0.0, 0.0), (4.0, 0.0), (4.0, 4.0)))


def a_calibration(point: OperatingPoint = POINT) -> Calibration:
    return Calibration({"effusion": Platt()}, {"effusion": point})


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(-8, 8)), min_size=3, max_size=60))
def test_calibration_never_turns_the_order_round(cases: list[tuple[bool, float]]) -> None:
    truth = [True, False, *(t for t, _ in cases)]
    logits = [1.0, -1.0, *(v for _, v in cases)]

    line = fit_platt(truth, logits)

    assert line.slope > 0
    assert all(line.probability(a) <= line.probability(b) for a in logits for b in logits if a <= b)


def test_overconfident_logits_are_pulled_to_what_was_observed() -> None:
    dice = np.random.default_rng(0)
    logit = dice.normal(-1, 1, 4000)
    truth = dice.random(4000) < 1 / (1 + np.exp(-logit))

    line = fit_platt(truth, 3 * logit + 2)

    assert line.slope == pytest.approx(1 / 3, abs=0.04)
    assert np.mean([line.probability(v) for v in 3 * logit + 2]) == pytest.approx(truth.mean(), abs=0.01)


def test_calibration_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="at least one positive"):
        fit_platt([False, False], [0.1, 0.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=80), st.floats(0, 1))
def test_a_threshold_never_flags_more_than_its_budget(values: list[float], budget: float) -> None:
    cut = threshold_within_budget(values, budget)

    assert sum(v >= cut for v in values) <= max(budget * len(values), 0) + 1e-9


def test_a_budget_is_used_as_far_as_it_goes() -> None:
    values = np.linspace(0, 0.99, 100)

    assert (values >= threshold_within_budget(values, 0.05)).sum() == 5
    assert (values >= threshold_within_budget(values, 1.0)).sum() == 100


@pytest.mark.parametrize(
    ("logit", "band", "actionable"),
    [
        (-3.0, Band.LOW, False),
        (-1.0, Band.MODERATE, False),
        (-0.5, Band.MODERATE, True),
        (2.0, Band.HIGH, True),
    ],
)
def test_band_and_decision_follow_the_calibrated_probability(
    logit: float, band: Band, actionable: bool
) -> None:
    finding = a_calibration().finding("effusion", logit, PLACE)

    assert (finding.band, finding.actionable) == (band, actionable)
    assert finding.location == (PLACE if actionable else None)
    assert finding.probability_raw == pytest.approx(sigmoid(logit))


def test_a_finding_without_threshold_is_stored_and_never_pushed() -> None:
    stored = a_calibration(OperatingPoint(0.05, 0.2, 0.5, None)).finding("effusion", 9.0)

    assert stored.band is Band.HIGH and not stored.actionable and stored.threshold is None


def test_a_release_gives_back_the_calibration_that_was_put_in() -> None:
    assert Calibration.from_release(a_calibration().as_release()) == a_calibration()
