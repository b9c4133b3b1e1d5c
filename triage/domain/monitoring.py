"""Has it changed? Statistics of drift that are looked at every day, with their false alarms under control.

Looking daily at a 95 % interval cries wolf within weeks; these methods say beforehand how rarely they do (standards 11.9).
Pure functions; the QA charts hand them counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PSI_ACT = 0.2  # of the index: an input that shifted so far is looked at (standards 11.9)
EWMA_WEIGHT, EWMA_LIMIT = 0.2, 2.86  # in-control run length about 370 days
RUN_RULE = 8  # so many points on one side of the centre: Western Electric rule 4
LIMIT_SIGMA = 3.0
GOLDEN_FITS = "golden.fits"  # acts of the audit: what the daily golden case of a release said
GOLDEN_DRIFTED = "golden.drifted"
GOLDEN_ACTS = (GOLDEN_FITS, GOLDEN_DRIFTED)
GOLDEN_TOLERANCE = 5e-3  # of outputs; weights rest in fp16, and runtimes round differently


def psi_by_chance(bins: int, n_reference: int, n: int) -> float:
    """What the population stability index comes to without any change: judge a small sample against this.

    source  standards 11.9; Yurdakul 2018
    """
    return (bins - 1) * (1 / n_reference + 1 / n)


@dataclass(frozen=True)
class ControlPoint:
    """One day of a control chart. value None: no case that day."""

    value: float | None
    low: float
    high: float
    count: int
    n: int
    beyond: bool  # outside three sigma
    run: bool  # the last eight days with cases lie on one side of the centre


def p_chart(counts: Sequence[int], ns: Sequence[int], centre: float) -> list[ControlPoint]:
    """Daily shares against a centre from the reference period; limits follow each day's n.

    counts, ns  per day; centre in [0, 1]
    source      Shewhart p-chart; three sigma and eight on one side (ux 10, chart 8)
    """
    points: list[ControlPoint] = []
    sides: list[bool] = []  # above the centre?
    for count, n in zip(counts, ns, strict=True):
        if n == 0:
            points.append(ControlPoint(None, 0.0, 1.0, 0, 0, beyond=False, run=False))
            continue
        value = count / n
        spread = LIMIT_SIGMA * math.sqrt(centre * (1 - centre) / n)
        low, high = max(0.0, centre - spread), min(1.0, centre + spread)
        if value != centre:
            sides.append(value > centre)
        last = sides[-RUN_RULE:]
        run = len(last) == RUN_RULE and len(set(last)) == 1
        points.append(ControlPoint(value, low, high, count, n, beyond=not low <= value <= high, run=run))
    return points


@dataclass(frozen=True)
class EwmaPoint:
    value: float
    low: float
    high: float

    @property
    def alarm(self) -> bool:
        return not self.low <= self.value <= self.high


def ewma(counts: Sequence[int], ns: Sequence[int], centre: float) -> list[EwmaPoint]:
    """Exponentially weighted daily share: finds small lasting shifts that a p-chart misses.

    A day without cases keeps the value and its variance.
    source  Roberts 1959; weight 0.2, limit 2.86 sigma: one false alarm in about 370 days (standards 11.9)
    """
    value, variance = centre, 0.0
    points = []
    for count, n in zip(counts, ns, strict=True):
        if n:
            value = (1 - EWMA_WEIGHT) * value + EWMA_WEIGHT * count / n
            variance = (1 - EWMA_WEIGHT) ** 2 * variance + EWMA_WEIGHT**2 * centre * (1 - centre) / n
        spread = EWMA_LIMIT * math.sqrt(variance)
        points.append(EwmaPoint(value, centre - spread, centre + spread))
    return points


def bernoulli_cusum(outcomes: Sequence[bool], accepted: float, bad: float) -> list[float]:
    """Evidence, in log-likelihood, that the rate of True rose from `accepted` to `bad`; never below 0.

    outcomes  in order of time, True is the event that should be rare (a flag that readers reject)
    raises    ValueError unless 0 < accepted < bad < 1
    source    Reynolds and Stoumbos 1999
    """
    if not 0 < accepted < bad < 1:
        raise ValueError("0 < accepted < bad < 1")
    up, down = math.log(bad / accepted), math.log((1 - bad) / (1 - accepted))
    level, path = 0.0, []
    for event in outcomes:
        level = max(0.0, level + (up if event else down))
        path.append(level)
    return path


CUSUM_LIMIT = 4.6  # ln 100: so far the evidence for `bad` is a hundred to one


def discoveries(p_values: Sequence[float], rate: float = 0.05) -> list[bool]:
    """Which of many tests stand when at most `rate` of the findings may be false (Benjamini and Hochberg 1995)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    last = -1
    for place, i in enumerate(order, start=1):
        if p_values[i] <= rate * place / len(p_values):
            last = place
    stands = {i for place, i in enumerate(order, start=1) if place <= last}
    return [i in stands for i in range(len(p_values))]
