"""Waiting times with those who still wait: Kaplan-Meier, its quantiles and the log-rank test.

A study that nobody opened yet is right-censored, never dropped (standards 11.7).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import NDArray

from triage.domain.statistics import Z95

_EVEN = 1e-9  # a share that is one half but for rounding counts as one half


@dataclass(frozen=True)
class Survival:
    """Steps of "still waiting at t", one for each time at which somebody was done.

    times              (k,) rising; share, low, high (k,) just after each: 95 % band on the log-log scale;
                       once nobody waits any more low is 0 and high unknown (nan)
    n, events          who entered, and how many were done; longest is the longest wait, `longest_open` whether it lasts
    """

    times: NDArray[np.float64]
    share: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n: int
    events: int
    longest: float
    longest_open: bool


@dataclass(frozen=True)
class Quantile:
    """Time by which this part was done; None where the curve (or its band) does not come so far."""

    value: float | None
    low: float | None
    high: float | None


def kaplan_meier(waits: Sequence[float], done: Sequence[bool]) -> Survival:
    """Share still waiting at each time.

    waits   (n,) how long each waited, any unit; done: False when the wait still lasts (right-censored)
    raises  ValueError for a negative wait (I23: durations are never negative) or unequal lengths
    source  Kaplan and Meier 1958; Greenwood's variance with the log-log band (Kalbfleisch and Prentice)
    """
    t, d = np.asarray(waits, np.float64), np.asarray(done, bool)
    if t.shape != d.shape or (t < 0).any():
        raise ValueError("waits and done must have one length, and no wait may be negative")
    if t.size == 0:
        nothing = np.empty(0)
        return Survival(nothing, nothing, nothing, nothing, 0, 0, math.nan, False)
    times = np.unique(t[d])
    at_risk = t.size - np.searchsorted(np.sort(t), times, side="left")
    events = np.bincount(np.searchsorted(times, t[d]), minlength=len(times)) if len(times) else np.empty(0)
    share = np.cumprod(1 - events / at_risk).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(events / (at_risk * (at_risk - events)))
        factor = np.exp(Z95 * np.sqrt(greenwood) / np.abs(np.log(share)))
        low, high = share**factor, share ** (1 / factor)
    low[share <= 0], high[share <= 0] = 0.0, math.nan
    longest = float(t.max())
    return Survival(
        times, share, low, high, int(t.size), int(d.sum()), longest, bool((~d[t == longest]).any())
    )


def quantile(curve: Survival, part: float) -> Quantile:
    """The earliest time by which `part` of all were done, with the interval where the band crosses.

    source  Brookmeyer and Crowley 1982
    """
    left = 1 - part + _EVEN
    return Quantile(*(_first(curve.times, band <= left) for band in (curve.share, curve.low, curve.high)))


def _first(times: NDArray[np.float64], reached: NDArray[np.bool_]) -> float | None:
    return float(times[int(np.argmax(reached))]) if reached.any() else None


def log_rank(
    waits_a: Sequence[float], done_a: Sequence[bool], waits_b: Sequence[float], done_b: Sequence[bool]
) -> float:
    """Two-sided p of "both groups wait alike"; nan when nobody was done. source: Mantel 1966, standards 11.7."""
    if not any(done_a) and not any(done_b):
        return math.nan
    return float(scipy.stats.logrank(_censored(waits_a, done_a), _censored(waits_b, done_b)).pvalue)


def _censored(waits: Sequence[float], done: Sequence[bool]) -> scipy.stats.CensoredData:
    pairs = list(zip(waits, done, strict=True))
    return scipy.stats.CensoredData(
        uncensored=[w for w, d in pairs if d], right=[w for w, d in pairs if not d]
    )
