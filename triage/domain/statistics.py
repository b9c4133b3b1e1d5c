"""Figures with their intervals: what QA, evaluation and training report, as pure functions.

No figure leaves here without n and an interval. Formulas and test vectors: standards 11.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import ArrayLike, NDArray

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
        float(2 * scipy.stats.norm.sf(abs(z))),
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
    ranks = scipy.stats.rankdata(np.concatenate([positive, negative]))
    by_positive = (ranks[:m] - scipy.stats.rankdata(positive)) / n
    by_negative = 1 - (ranks[m:] - scipy.stats.rankdata(negative)) / m
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


def average_precision(truth: ArrayLike, score: ArrayLike) -> float:
    """Area under the precision-recall steps, ties taken together; for prevalence below 5 % beside the AUC."""
    is_positive = np.asarray(truth, dtype=bool)
    values = np.asarray(score, dtype=np.float64)
    if not is_positive.any():
        raise ValueError("average precision needs at least one positive case")
    thresholds, flagged = np.unique(-values, return_counts=True)
    hits = np.bincount(np.searchsorted(thresholds, -values), weights=is_positive, minlength=len(thresholds))
    precision = np.cumsum(hits) / np.cumsum(flagged)
    return float((precision * hits).sum() / is_positive.sum())


def wilson(successes: int, n: int) -> Estimate:
    """A proportion with Wilson's interval; n = 0 gives nan with the interval 0 to 1. source: standards 11.2."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes among {n} cases")
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    z2 = Z95**2
    middle = (successes + z2 / 2) / (n + z2)
    half = Z95 / (n + z2) * math.sqrt(successes * (n - successes) / n + z2 / 4)
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == n else middle + half
    return Estimate(successes / n, low, high, n)


def poisson_rate(events: int, exposure: float) -> Estimate:
    """Events per unit (alerts per day) with the exact interval by chi-square. source: standards 11.2."""
    low = scipy.stats.chi2.ppf(0.025, 2 * events) / 2 if events else 0.0
    high = scipy.stats.chi2.ppf(0.975, 2 * events + 2) / 2
    return Estimate(events / exposure, float(low) / exposure, float(high) / exposure, events)


def ppv_at_prevalence(sensitivity: float, specificity: float, prevalence: float) -> float:
    """Bayes: what a flag means where the finding is rarer than in an enriched test. source: standards 11.2."""
    true, false = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
    return true / (true + false) if true + false > 0 else math.nan


def brier(truth: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared distance of probability and truth."""
    return float(np.mean((np.asarray(probability, np.float64) - np.asarray(truth, np.float64)) ** 2))


@dataclass(frozen=True)
class ReliabilityBin:
    """One of the equal-count bins of a reliability diagram: mean probability and observed share."""

    probability: float
    observed: Estimate


def reliability(truth: ArrayLike, probability: ArrayLike, bins: int = 10) -> list[ReliabilityBin]:
    """Equal-count bins by rising probability; fewer when there are fewer cases. source: standards 11.4."""
    is_positive = np.asarray(truth, dtype=bool)
    values = np.asarray(probability, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    return [
        ReliabilityBin(float(values[part].mean()), wilson(int(is_positive[part].sum()), part.size))
        for part in parts
    ]


def expected_calibration_error(truth: ArrayLike, probability: ArrayLike, bins: int = 10) -> float:
    """Weighted mean distance of observed share and mean probability over equal-count bins. source: standards 11.4."""
    rows = reliability(truth, probability, bins)
    total = sum(row.observed.n for row in rows)
    return sum(row.observed.n / total * abs(row.observed.value - row.probability) for row in rows)


def calibration_line(truth: ArrayLike, probability: ArrayLike) -> tuple[float, float]:
    """(intercept in the large, slope) of truth on logit(probability); ideal is 0 and 1. source: standards 11.4."""
    target = np.asarray(truth, dtype=np.float64)
    clipped = np.clip(np.asarray(probability, dtype=np.float64), 1e-6, 1 - 1e-6)
    logit = np.log(clipped / (1 - clipped))

    def cost(line: NDArray[np.float64]) -> float:
        z = line[0] + (line[1] if line.size > 1 else 1.0) * logit
        return float((np.logaddexp(0, z) - target * z).sum())

    in_the_large = scipy.optimize.minimize(cost, np.array([0.0]))
    line = scipy.optimize.minimize(cost, np.array([0.0, 1.0]))
    return float(in_the_large.x[0]), float(line.x[1])


def population_stability(reference: ArrayLike, current: ArrayLike) -> float:
    """PSI of two lists of bin shares; below 0.1 none, 0.1 to 0.2 look, above act. source: standards 11.9."""
    p = np.maximum(np.asarray(current, dtype=np.float64), 1e-4)
    q = np.maximum(np.asarray(reference, dtype=np.float64), 1e-4)
    return float(((p - q) * np.log(p / q)).sum())


def shares_in_reference_bins(
    reference: ArrayLike, current: ArrayLike, bins: int = 10
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of both samples in the quantile bins of the reference, as `population_stability` wants them."""
    old, new = np.asarray(reference, np.float64), np.asarray(current, np.float64)
    inner = np.unique(np.quantile(old, np.linspace(0, 1, bins + 1)[1:-1]))
    count = len(inner) + 1
    places = [np.searchsorted(inner, sample, side="right") for sample in (old, new)]
    old_share, new_share = (np.bincount(p, minlength=count) / max(p.size, 1) for p in places)
    return old_share, new_share


def cohen_kappa(first: ArrayLike, second: ArrayLike) -> float:
    """Agreement of two raters beyond chance; nan when both always say the same one thing. source: standards 11.8."""
    a, b = np.asarray(first), np.asarray(second)
    observed = float((a == b).mean())
    chance = float(sum((a == c).mean() * (b == c).mean() for c in np.union1d(a, b)))
    return math.nan if chance >= 1 else (observed - chance) / (1 - chance)


def bootstrap_by_patient(
    patients: ArrayLike, figure: Callable[[NDArray[np.int64]], float], *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of `figure(row numbers)`, patients drawn with all their rows.

    A resample for which the figure raises ValueError (no positive drawn) is drawn again, at most ten times.
    source  standards 11.3
    """
    names, group = np.unique(np.asarray(patients), return_inverse=True)
    order = np.argsort(group, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(group))[:-1])
    dice = np.random.default_rng(seed)
    values: list[float] = []
    for _ in range(resamples * 10):
        if len(values) == resamples:
            break
        drawn = dice.integers(len(names), size=len(names))
        try:
            values.append(figure(np.concatenate([rows_of[i] for i in drawn])))
        except ValueError:
            continue
    if not values:
        raise ValueError("no resample of these patients gives a figure")
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
