"""Drift statistics: false alarms are as rare as promised, real shifts are found, and the formulas are the textbook's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from triage.domain.monitoring import (
    CUSUM_LIMIT,
    bernoulli_cusum,
    discoveries,
    ewma,
    p_chart,
    psi_by_chance,
)
from triage.domain.statistics import population_stability, shares_in_reference_bins


def test_the_index_of_an_unchanged_population_is_near_what_chance_gives() -> None:
    dice = np.random.default_rng(1)
    reference = dice.normal(size=2000)
    found = [
        population_stability(*shares_in_reference_bins(reference, dice.normal(size=200))) for _ in range(200)
    ]
    assert np.mean(found) == pytest.approx(psi_by_chance(10, 2000, 200), rel=0.15)


def test_a_day_beyond_three_sigma_is_marked_with_the_limits_of_its_own_size() -> None:
    big, small, none = p_chart([40, 4, 0], [400, 40, 0], 0.05)
    assert big.beyond and big.high == pytest.approx(0.05 + 3 * math.sqrt(0.05 * 0.95 / 400))
    assert not small.beyond and small.high > big.high
    assert none.value is None and not none.beyond


def test_eight_days_on_one_side_are_marked_and_days_without_cases_do_not_break_the_run() -> None:
    days = [6, 6, 6, 6, 0, 6, 6, 6, 6]
    ns = [100, 100, 100, 100, 0, 100, 100, 100, 100]
    points = p_chart(days, ns, 0.05)
    assert [p.run for p in points] == [False] * 8 + [True]
    assert not any(p.run for p in p_chart([5] * 20, [100] * 20, 0.05)), "a share on the centre has no side"


def test_ewma_cries_wolf_about_once_a_year_and_finds_a_small_lasting_shift() -> None:
    dice = np.random.default_rng(2)
    years, days, n, share = 300, 365, 200, 0.1
    first = []
    for _ in range(years):
        alarms = [p.alarm for p in ewma(list(dice.binomial(n, share, days)), [n] * days, share)]
        first.append(alarms.index(True) if True in alarms else days)
    assert 0.45 < np.mean(np.array(first) < days) < 0.80  # run length 370: 1 - exp(-365/370) = 0.63
    found = [
        [p.alarm for p in ewma(list(dice.binomial(n, 0.125, 60)), [n] * 60, share)].index(True)
        for _ in range(50)
    ]
    assert np.median(found) < 15


def test_a_day_without_cases_changes_nothing() -> None:
    full, gap = ewma([12], [100], 0.1), ewma([12, 0], [100, 0], 0.1)
    assert gap[1] == full[0] == gap[0]


def test_the_cusum_is_the_sum_of_log_likelihoods_and_passes_its_limit_when_the_rate_rose() -> None:
    path = bernoulli_cusum([True, False, True], 0.1, 0.3)
    up, down = math.log(3), math.log(0.7 / 0.9)
    assert path == pytest.approx([up, up + down, up + down + up])
    assert bernoulli_cusum([False] * 5, 0.1, 0.3) == [0.0] * 5
    dice = np.random.default_rng(3)
    assert max(bernoulli_cusum(list(dice.random(300) < 0.3), 0.1, 0.3)) > CUSUM_LIMIT
    for accepted, bad in ((0.3, 0.1), (0.0, 0.1), (0.1, 1.0)):
        with pytest.raises(ValueError, match="accepted"):
            bernoulli_cusum([True], accepted, bad)


def test_of_many_tests_the_same_stand_as_scipy_says() -> None:
    dice = np.random.default_rng(4)
    for _ in range(20):
        p_values = np.concatenate([dice.random(15), dice.random(5) * 0.01])
        expected = stats.false_discovery_control(p_values) <= 0.05
        assert discoveries(list(p_values)) == list(expected)
    assert discoveries([]) == []
