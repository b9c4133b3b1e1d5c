"""FROC curve and its mean (CPM) by the rule of the LUNA16 challenge; values in, values out.

Rule (standards 11.6, as in the challenge's public evaluation script; Setio et al. 2017, arXiv 1612.08012):
a candidate hits a nodule when it lies strictly within its radius; a nodule counts once, with its best hit;
candidates on excluded findings count neither way; every other candidate is a false positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # false positives per scan at which CPM reads the curve
MOST_CANDIDATES = 100  # per scan
UNSIZED_MM = 10.0  # diameter of an entry without one (LUNA16 writes a negative number)


@dataclass(frozen=True)
class Reference:
    """One entry of the reference list; LPS mm. texture, attachment: as whoever made the list calls them, "" unsaid."""

    center_lps_mm: tuple[float, float, float]
    diameter_mm: float
    excluded: bool = False
    texture: str = ""
    attachment: str = ""


@dataclass(frozen=True)
class Candidate:
    center_lps_mm: tuple[float, float, float]
    probability: float


@dataclass(frozen=True)
class ScanMatch:
    """One scan by the hit rule.

    hits  best probability for each included nodule in the given order, None for a missed one
    false_positives  probabilities of the candidates that hit nothing
    """

    hits: tuple[float | None, ...]
    false_positives: tuple[float, ...]


@dataclass(frozen=True)
class Froc:
    """points (false positives per scan, sensitivity) at `RATES`; cpm their mean; 95 % bootstrap interval by scan group."""

    points: tuple[tuple[float, float], ...]
    cpm: float
    cpm_low: float
    cpm_high: float


def match(candidates: Sequence[Candidate], references: Sequence[Reference]) -> ScanMatch:
    """Hits and false positives of one scan.

    source  standards 11.6: at most 100 candidates, kept strictly above the 101st; included entries first
    """
    kept = list(candidates)
    if len(kept) > MOST_CANDIDATES:
        limit = sorted((c.probability for c in kept), reverse=True)[MOST_CANDIDATES]
        kept = [c for c in kept if c.probability > limit]
    places = np.array([c.center_lps_mm for c in kept], float).reshape(-1, 3)
    pool = set(range(len(kept)))
    hits: list[float | None] = []
    for reference in sorted(references, key=lambda r: r.excluded):
        diameter = reference.diameter_mm if reference.diameter_mm >= 0 else UNSIZED_MM
        gap = ((places - np.array(reference.center_lps_mm)) ** 2).sum(1)
        hitting = np.flatnonzero(gap < (diameter / 2) ** 2)
        pool -= set(hitting.tolist())
        if not reference.excluded:
            hits.append(max((kept[i].probability for i in hitting), default=None))
    return ScanMatch(tuple(hits), tuple(kept[i].probability for i in sorted(pool)))


def sensitivities(scans: Sequence[ScanMatch]) -> NDArray[np.float64]:
    """Sensitivity at each of `RATES`, on the stepped curve as the challenge reads it; NaN without nodules."""
    nodules = sum(len(s.hits) for s in scans)
    if not scans or nodules == 0:
        return np.full(len(RATES), np.nan)
    found = np.array([h for s in scans for h in s.hits if h is not None], float)
    false = np.array([p for s in scans for p in s.false_positives], float)
    thresholds = np.unique(np.concatenate([found, false]))[::-1]
    rate = np.array([0.0, *((false >= t).sum() / len(scans) for t in thresholds)])
    sensitivity = np.array([0.0, *((found >= t).sum() / nodules for t in thresholds)])
    # Steps stay steps: at a rate that several thresholds share, interp takes the last and highest of them.
    return np.asarray(np.interp(RATES, rate, sensitivity), dtype=np.float64)


def froc(scans: Sequence[ScanMatch], groups: Sequence[str], *, rounds: int = 1000, seed: int = 0) -> Froc:
    """The curve over all scans, with a bootstrap interval of its mean that draws whole groups (patients).

    groups  one name per scan; scans of one patient are no independent witnesses
    """
    curve = sensitivities(scans)
    names = sorted(set(groups))
    members = [[s for s, g in zip(scans, groups, strict=True) if g == name] for name in names]
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(rounds if names else 0):
        drawn = [s for i in rng.integers(len(names), size=len(names)) for s in members[int(i)]]
        means.append(float(np.mean(sensitivities(drawn))))
    means = [m for m in means if not np.isnan(m)]
    low, high = np.percentile(means, [2.5, 97.5]) if means else (np.nan, np.nan)
    points = tuple((r, float(s)) for r, s in zip(RATES, curve, strict=True))
    return Froc(points, float(np.mean(curve)), float(low), float(high))
