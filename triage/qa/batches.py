"""Waits whose neighbours hang together: means and quantiles with intervals over batches (a replication, a day)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import NDArray

from triage.domain.statistics import wilson


def figures(
    wait: NDArray[np.float64],
    batch: NDArray[np.int64],
    still_open: NDArray[np.bool_],
    beyond: NDArray[np.bool_],
) -> dict[str, Any]:
    """Minutes. Who was not begun before the end counts with the wait so far: means and quantiles are then lower bounds."""
    over = wilson(int(beyond.sum()), wait.size)
    last = int(wait.argmax())
    return {
        "n": int(wait.size),
        "open": int(still_open.sum()),
        "mean": mean_by_batch(wait, batch),
        "median": quantile_by_batch(wait, batch, 0.5),
        "p90": quantile_by_batch(wait, batch, 0.9),
        "longest": round(float(wait[last]), 3),
        "longest_is_open": bool(still_open[last]),
        "beyond_bound": {"value": round(over.value, 6), "low": round(over.low, 6), "high": round(over.high, 6),
                         "count": int(beyond.sum())},
    }  # fmt: skip


def mean_by_batch(values: NDArray[np.float64], batch: NDArray[np.int64]) -> dict[str, float | None]:
    """Mean with its 95 % interval; waits of one batch hang together, so batches are the unit (ratio estimator).

    low and high are None with a single batch. source: Cochran 1977, 6.5 (linearised ratio), t with B - 1
    """
    mean = float(values.mean())
    half = _half_width(values - mean, batch)
    return _interval(mean, None if half is None else mean - half, None if half is None else mean + half)


def quantile_by_batch(
    values: NDArray[np.float64], batch: NDArray[np.int64], part: float
) -> dict[str, float | None]:
    """Quantile with its 95 % interval, by inverting the interval of the share below it. source: Woodruff 1952."""
    value = float(np.quantile(values, part, method="inverted_cdf"))
    half = _half_width((values <= value).astype(np.float64) - part, batch)
    if half is None:
        return _interval(value, None, None)
    ends = np.quantile(values, [max(0.0, part - half), min(1.0, part + half)], method="inverted_cdf")
    return _interval(value, float(ends[0]), float(ends[1]))


def _half_width(residuals: NDArray[np.float64], batch: NDArray[np.int64]) -> float | None:
    _, group = np.unique(batch, return_inverse=True)
    totals = np.bincount(group, weights=residuals)
    count = len(totals)
    if count < 2:
        return None
    error = math.sqrt(count / (count - 1) * float((totals**2).sum())) / residuals.size
    return float(scipy.stats.t.ppf(0.975, count - 1)) * error


def _interval(value: float, low: float | None, high: float | None) -> dict[str, float | None]:
    return {
        "value": round(value, 3),
        "low": None if low is None else round(max(0.0, low), 3),
        "high": None if high is None else round(high, 3),
    }
