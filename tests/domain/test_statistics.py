"""Statistics: the test vectors of standards 11, and what must hold for any data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triage.domain import statistics

POSITIVE, NEGATIVE = [0.9, 0.8, 0.4], [0.7, 0.3, 0.2, 0.1]
scores = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=4, max_size=40).filter(
    lambda cases: {truth for truth, _ in cases} == {True, False}
)


def test_delong_gives_the_published_test_vector() -> None:
    area = statistics.auc([1] * 3 + [0] * 4, POSITIVE + NEGATIVE)

    assert area.value == pytest.approx(0.916667, abs=1e-6)
    assert area.variance == pytest.approx(0.0138889, abs=1e-7)
    assert (area.low, area.high) == pytest.approx((0.3484, 0.9956), abs=5e-5)


@given(scores)
def test_auc_is_the_share_of_rightly_ordered_pairs_with_ties_as_half(cases: list[tuple[bool, int]]) -> None:
    truth, score = [t for t, _ in cases], [float(s) for _, s in cases]
    pairs = [(p > n) + 0.5 * (p == n) for t, p in cases if t for u, n in cases if not u]

    area = statistics.auc(truth, score)

    assert area.value == pytest.approx(np.mean(pairs))
    assert 0 <= area.low <= area.value <= area.high <= 1


def test_auc_of_one_class_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one positive and one negative"):
        statistics.auc([1, 1], [0.2, 0.3])


def test_perfect_separation_of_few_cases_still_has_a_wide_interval() -> None:
    area = statistics.auc([1, 1, 1, 0, 0, 0], [3, 3, 3, 1, 1, 1])

    assert area.value == 1 and area.low < 0.5 and area.high == 1


@given(scores)
def test_a_score_does_not_differ_from_itself(cases: list[tuple[bool, int]]) -> None:
    truth, score = [t for t, _ in cases], [float(s) for _, s in cases]

    paired = statistics.paired_auc(truth, score, score)

    assert paired.difference == 0 and paired.z == 0 and paired.p == 1


def test_paired_interval_is_narrower_than_two_separate_ones_for_alike_scores() -> None:
    dice = np.random.default_rng(3)
    truth = dice.random(300) < 0.3
    first = truth + dice.normal(size=300)
    second = first + 0.2 * dice.normal(size=300)

    paired = statistics.paired_auc(truth, first, second)

    separate = math.sqrt(paired.first.variance + paired.second.variance)
    assert (paired.high - paired.low) / 2 < 0.5 * statistics.Z95 * separate


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 20, 0, 0.1611), (10, 10, 0.7225, 1)]
)
def test_wilson_gives_the_published_test_vectors(successes: int, n: int, low: float, high: float) -> None:
    share = statistics.wilson(successes, n)

    assert (share.low, share.high) == pytest.approx((low, high), abs=5e-5)


def test_no_cases_are_no_figure() -> None:
    nothing = statistics.wilson(0, 0)

    assert math.isnan(nothing.value) and (nothing.low, nothing.high) == (0, 1)
    with pytest.raises(ValueError, match="successes"):
        statistics.wilson(3, 2)


def test_poisson_interval_is_exact() -> None:
    ten = statistics.poisson_rate(10, 2.0)

    assert (ten.value, ten.low, ten.high) == pytest.approx((5.0, 4.795 / 2, 18.39 / 2), abs=2e-3)
    assert statistics.poisson_rate(0, 1.0).high == pytest.approx(3.689, abs=1e-3)


def test_ppv_falls_with_prevalence_as_in_the_worked_example() -> None:
    assert statistics.ppv_at_prevalence(0.85, 0.97, 0.01) == pytest.approx(0.2225, abs=1e-3)
    assert math.isnan(statistics.ppv_at_prevalence(0.0, 1.0, 0.1))


def test_population_stability_gives_the_published_test_vector() -> None:
    assert statistics.population_stability([0.1] * 10, [0.2, *[0.1] * 7, 0.05, 0.05]) == pytest.approx(
        0.138629, abs=1e-6
    )


def test_the_same_sample_is_stable() -> None:
    sample = np.random.default_rng(1).normal(size=500)

    old, new = statistics.shares_in_reference_bins(sample, sample)

    assert old == pytest.approx(np.full(10, 0.1)) and statistics.population_stability(old, new) == 0


def test_calibrated_probabilities_have_no_calibration_error() -> None:
    dice = np.random.default_rng(5)
    probability = dice.uniform(0.05, 0.95, 20000)
    truth = dice.random(20000) < probability

    intercept, slope = statistics.calibration_line(truth, probability)

    assert statistics.expected_calibration_error(truth, probability) < 0.02
    assert abs(intercept) < 0.06 and abs(slope - 1) < 0.06
    assert statistics.brier(truth, probability) == pytest.approx(
        np.mean(probability * (1 - probability)), abs=0.01
    )


def test_overconfidence_shows_as_a_slope_below_one() -> None:
    dice = np.random.default_rng(6)
    logit = dice.normal(size=20000)
    truth = dice.random(20000) < 1 / (1 + np.exp(-logit))

    _, slope = statistics.calibration_line(truth, 1 / (1 + np.exp(-3 * logit)))

    assert slope == pytest.approx(1 / 3, abs=0.03)


def test_average_precision_takes_ties_together() -> None:
    assert statistics.average_precision([1, 0, 1, 0], [4, 3, 2, 1]) == pytest.approx((1 + 2 / 3) / 2)
    assert statistics.average_precision([1, 0, 0, 0], [1, 1, 1, 1]) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="positive"):
        statistics.average_precision([0], [1])


def test_kappa_is_agreement_beyond_chance() -> None:
    assert statistics.cohen_kappa([1, 1, 0, 0], [1, 0, 1, 0]) == pytest.approx(0)
    assert statistics.cohen_kappa([1, 0, 1], [1, 0, 1]) == 1
    assert math.isnan(statistics.cohen_kappa([1, 1], [1, 1]))


def test_bootstrap_draws_patients_with_all_their_rows() -> None:
    patients = np.repeat(["a", "b", "c", "d"], [1, 2, 3, 4])
    value = np.repeat([0.0, 0.0, 1.0, 1.0], [1, 2, 3, 4])

    low, high = statistics.bootstrap_by_patient(
        patients, lambda rows: float(value[rows].mean()), resamples=400
    )

    assert low == 0 and high == 1


def test_bootstrap_draws_again_where_a_resample_has_no_figure() -> None:
    truth, score = np.array([1, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3])

    low, high = statistics.bootstrap_by_patient(
        ["a", "b", "c", "d"], lambda rows: statistics.auc(truth[rows], score[rows]).value, resamples=50
    )

    assert (low, high) == (1, 1)


def test_bootstrap_says_when_no_resample_can_have_a_figure() -> None:
    def never(rows: np.ndarray) -> float:
        raise ValueError

    with pytest.raises(ValueError, match="no resample"):
        statistics.bootstrap_by_patient(["a", "b"], never, resamples=5)
