"""Figures with their intervals: what QA, evaluation and training report, as pure functions.

No figure leaves here without n and an interval. Formulas and test vectors: standards 11.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Z95 = 1.959964  # two-sided 95 %, as standards 11.2 gives it


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; n is the number of cases behind it."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Auc:
    """Area under the ROC curve; variance by DeLong, interval on the logit scale."""

    value: float
    low: float
    high: float
    variance: float
    positives: int
    negatives: int


@dataclass(frozen=True)
class PairedAuc:
    """Two scores on the same cases: first minus second, z and two-sided p by paired DeLong."""

    first: Auc
    second: Auc
    difference: float
    low: float
    high: float
    z: float
    p: float


def auc(truth: ArrayLike, score: ArrayLike) -> Auc:
    """AUC = P(score+ > score-) + P(equal) / 2, with DeLong's variance by midranks.

    truth   (n,) of bool or 0/1; score (n,) numbers, larger is more suspicious
    raises  ValueError when there is no positive or no negative case
    source  DeLong 1988; Sun and Xu 2014; standards 11.1
    """
    positive, negative = _split(truth, score)
    by_positive, by_negative = _placements(positive, negative)
    return _auc_from(by_positive, by_negative)


def paired_auc(truth: ArrayLike, first: ArrayLike, second: ArrayLike) -> PairedAuc:
    """Do two scores differ on the same cases? source: DeLong 1988, standards 11.1."""
    a_positive, a_negative = _placements(*_split(truth, first))
    b_positive, b_negative = _placements(*_split(truth, second))
    a, b = _auc_from(a_positive, a_negative), _auc_from(b_positive, b_negative)
    covariance = _covariance(a_positive, b_positive) / len(a_positive)
    covariance += _covariance(a_negative, b_negative) / len(a_negative)
    error = math.sqrt(max(a.variance + b.variance - 2 * covariance, 0.0))
    difference = a.value - b.value
    z = difference / error if error > 0 else 0.0
    return PairedAuc(
        a,
        b,
        difference,
        difference - Z95 * error,
        difference + Z95 * error,
        z,
        float(2 * stats.norm.sf(abs(z))),
    )


def _split(truth: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    is_positive = np.asarray(truth, dtype=bool)
    values = np.asarray(score, dtype=np.float64)
    if is_positive.all() or not is_positive.any():
        raise ValueError("an AUC needs at least one positive and one negative case")
    return values[is_positive], values[~is_positive]


def _placements(
    positive: NDArray[np.float64], negative: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of negatives below each positive, and of positives above each negative; ties count half."""
    m, n = len(positive), len(negative)
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    by_positive = (ranks[:m] - stats.rankdata(positive)) / n
    by_negative = 1 - (ranks[m:] - stats.rankdata(negative)) / m
    return by_positive, by_negative


def _covariance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Sample covariance; with a single case there is no spread to see and it counts as none."""
    return float(np.cov(a, b)[0, 1]) if len(a) > 1 else 0.0


def _auc_from(by_positive: NDArray[np.float64], by_negative: NDArray[np.float64]) -> Auc:
    m, n = len(by_positive), len(by_negative)
    value = float(by_positive.mean())
    variance = _covariance(by_positive, by_positive) / m + _covariance(by_negative, by_negative) / n
    low, high = _logit_interval(value, variance, m, n)
    return Auc(value, low, high, variance, m, n)


def _logit_interval(value: float, variance: float, m: int, n: int) -> tuple[float, float]:
    if variance <= 0 or value <= 0 or value >= 1:
        # All pairs alike: DeLong's variance is 0. The chance that no pair of the smaller group disagrees
        # bounds it (Clopper-Pearson at 0 of min(m, n)), as honest as so few cases allow.
        slack = 1 - 0.025 ** (1 / min(m, n))
        return max(0.0, value - slack), min(1.0, value + slack)
    half = Z95 * math.sqrt(variance) / (value * (1 - value))
    middle = math.log(value / (1 - value))
    return _expit(middle - half), _expit(middle + half)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
