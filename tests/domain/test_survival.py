"""Waits with censoring, against published values and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from triage.domain.survival import kaplan_meier, log_rank, quantile

# Freireich 1963, weeks of remission under 6-MP (21 patients) and placebo; (weeks, relapsed).
SIX_MP = [(6, 1), (6, 1), (6, 1), (7, 1), (10, 1), (13, 1), (16, 1), (22, 1), (23, 1), (6, 0), (9, 0), (10, 0),
          (11, 0), (17, 0), (19, 0), (20, 0), (25, 0), (32, 0), (32, 0), (34, 0), (35, 0)]  # fmt: skip
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def test_the_curve_of_the_textbook() -> None:
    curve = kaplan_meier([w for w, _ in SIX_MP], [bool(d) for _, d in SIX_MP])
    assert curve.times.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert curve.share.round(3).tolist() == [
        0.857,
        0.807,
        0.753,
        0.69,
        0.627,
        0.538,
        0.448,
    ]  # Collett, table 2.3
    assert quantile(curve, 0.5).value == 23
    assert quantile(curve, 0.5).high is None
    assert (curve.n, curve.events, curve.longest, curve.longest_open) == (21, 9, 35, True)


def test_the_log_rank_test_of_the_textbook() -> None:
    p = log_rank([w for w, _ in SIX_MP], [bool(d) for _, d in SIX_MP], PLACEBO, [True] * 21)
    assert p == pytest.approx(stats.chi2.sf(16.79, 1), rel=0.02)  # chi2 = 16.79, 1 df


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=60))
def test_curve_and_band_are_those_of_scipy(rows: list[tuple[int, bool]]) -> None:
    if not any(d for _, d in rows):
        return
    curve = kaplan_meier([w for w, _ in rows], [d for _, d in rows])
    theirs = stats.ecdf(
        stats.CensoredData(uncensored=[w for w, d in rows if d], right=[w for w, d in rows if not d])
    ).sf
    assert np.allclose(curve.share, theirs.evaluate(curve.times))
    inner = (curve.share > 1e-9) & (curve.share < 1)
    if inner.any():
        band = theirs.confidence_interval(method="log-log")
        assert np.allclose(curve.low[inner], band.low.evaluate(curve.times[inner]), atol=1e-6)
        assert np.allclose(curve.high[inner], band.high.evaluate(curve.times[inner]), atol=1e-6)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50), st.sampled_from([0.5, 0.75, 0.9, 0.95]))
def test_without_censoring_the_quantile_is_the_plain_one(waits: list[int], part: float) -> None:
    got = quantile(kaplan_meier(waits, [True] * len(waits)), part)
    assert got.value == sorted(waits)[math.ceil(part * len(waits) - 1e-6) - 1]
    assert got.low is None or got.low <= got.value
    assert got.high is None or got.high >= got.value


def test_nobody_and_nobody_done() -> None:
    assert kaplan_meier([], []).n == 0
    still = kaplan_meier([3.0, 5.0], [False, False])
    assert quantile(still, 0.5).value is None
    assert (still.longest, still.longest_open) == (5.0, True)
    assert math.isnan(log_rank([1.0], [False], [2.0], [False]))


def test_a_negative_wait_is_a_bug() -> None:
    with pytest.raises(ValueError, match="negative"):
        kaplan_meier([-1.0], [True])
