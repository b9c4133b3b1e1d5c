"""From a network's number to a probability, a band and a decision. The numbers live in release.json, versioned.

Fitted on films that the network did not learn from (standards 11.4); a site can fit them again on its own.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from triage.domain.finding import FINDING_CODES, Band, Finding, Location, PriorityClass

# Prior of a Platt fit in logits: with few positives the slope stays near 1 and no sign is ever turned round.
_SLOPE_SPREAD = 0.5
_LEAST_SLOPE = 0.05

ENOUGH = 20  # positives, and negatives, below which a line and a sensitivity say too little; standards 11.10
MODERATE, HIGH = 0.2, 0.5  # calibrated probability from which a reader sees these bands


class Limits(NamedTuple):
    """What a priority class allows and demands (standards 13.3)."""

    budget: float  # share of films that its flags may take together
    sensitivity: float  # a finding below these two floors is stored, not pushed
    ppv: float


LIMITS = {
    PriorityClass.CRITICAL: Limits(0.03, 0.80, 0.20),
    PriorityClass.HIGH: Limits(0.10, 0.75, 0.20),
    PriorityClass.ELEVATED: Limits(0.25, 0.70, 0.10),
}


@dataclass(frozen=True)
class Platt:
    """probability = sigmoid(slope * logit + intercept); slope is positive, so the order never changes."""

    slope: float = 1.0
    intercept: float = 0.0

    def probability(self, logit: float) -> float:
        return sigmoid(self.slope * logit + self.intercept)


@dataclass(frozen=True)
class OperatingPoint:
    """Cuts on the calibrated probability.

    low         below it the finding is improbable (nine in ten true ones of the calibration films lie above)
    moderate, high  lower limits of those bands
    actionable  from here the finding is pushed; None: stored and shown on request, never pushed
    """

    low: float
    moderate: float
    high: float
    actionable: float | None

    def band(self, probability: float) -> Band:
        if probability >= self.high:
            return Band.HIGH
        return Band.MODERATE if probability >= self.moderate else Band.LOW


def operating_point(of_positives: NDArray[np.float64], actionable: float | None) -> OperatingPoint:
    """The cuts of a finding: of_positives are the probabilities of true films; no flag lies below its own band."""
    moderate = MODERATE if actionable is None else min(MODERATE, actionable)
    low = float(np.quantile(of_positives, 0.1))
    return OperatingPoint(min(low, moderate), moderate, HIGH, actionable)


def pushed(measured: Mapping[str, Mapping[str, Any]], kept: Container[str] = ()) -> set[str]:
    """Findings that are actionable: of each class the most sensitive that reaches the class's floors, on ENOUGH positives.

    At most one of a class, since each was measured with the whole budget. Findings in `kept` need not reach the floors.
    measured  by finding: positives and, where its class has limits, cut, sensitivity, ppv (None where nothing was flagged)
    """
    best: dict[PriorityClass, str] = {}
    for name, row in measured.items():
        kind = FINDING_CODES[name].priority_class
        if "cut" not in row or not (name in kept or _reaches(row, LIMITS[kind])):
            continue
        if kind not in best or row["sensitivity"] > measured[best[kind]]["sensitivity"]:
            best[kind] = name
    return set(best.values())


def _reaches(row: Mapping[str, Any], limits: Limits) -> bool:
    known = row["positives"] >= ENOUGH and row["ppv"] is not None
    return known and row["sensitivity"] >= limits.sensitivity and row["ppv"] >= limits.ppv


@dataclass(frozen=True)
class Calibration:
    """Platt line and operating point of every finding of a release."""

    lines: Mapping[str, Platt]
    points: Mapping[str, OperatingPoint]

    @classmethod
    def from_release(cls, content: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Calibration:
        """`calibration` and `thresholds` of release.json."""
        return cls(
            {name: Platt(**line) for name, line in content["calibration"].items()},
            {name: OperatingPoint(**point) for name, point in content["thresholds"].items()},
        )

    def as_release(self) -> dict[str, dict[str, dict[str, float | None]]]:
        return {
            "calibration": {name: asdict(line) for name, line in self.lines.items()},
            "thresholds": {name: asdict(point) for name, point in self.points.items()},
        }

    def finding(self, name: str, logit: float, location: Location | None = None) -> Finding:
        """The Finding of one logit; decided once, here."""
        point = self.points[name]
        probability = self.lines[name].probability(logit)
        actionable = point.actionable is not None and probability >= point.actionable
        return Finding(
            name=name,
            probability_raw=sigmoid(logit),
            probability=probability,
            band=point.band(probability),
            actionable=actionable,
            threshold=point.actionable,
            location=location if actionable else None,
        )


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def fit_platt(truth: ArrayLike, logits: ArrayLike) -> Platt:
    """Slope and intercept by penalised maximum likelihood on films not trained on.

    truth   (n,) of bool or 0/1, at least one of each; logits (n,)
    source  Platt 1999, with his smoothed targets; standards 11.4
    """
    is_positive = np.asarray(truth, dtype=bool)
    values = np.asarray(logits, dtype=np.float64)
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if not positives or not negatives:
        raise ValueError("calibration needs at least one positive and one negative case")
    target = np.where(is_positive, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def cost(line: NDArray[np.float64]) -> float:
        z = line[0] * values + line[1]
        return float((np.logaddexp(0, z) - target * z).sum() + 0.5 * ((line[0] - 1) / _SLOPE_SPREAD) ** 2)

    found = optimize.minimize(cost, np.array([1.0, 0.0]), bounds=[(_LEAST_SLOPE, None), (None, None)])
    return Platt(slope=float(found.x[0]), intercept=float(found.x[1]))


def threshold_within_budget(probabilities: ArrayLike, budget: float) -> float:
    """The smallest threshold that flags at most `budget` (a share, 0.03) of these films. source: standards 11.5."""
    falling = np.sort(np.asarray(probabilities, dtype=np.float64))[::-1]
    allowed = int(budget * len(falling))
    if allowed >= len(falling):
        return 0.0
    # Just above the first film that must not be flagged, so that its ties are not flagged either.
    return float(np.nextafter(falling[allowed], 2.0))
