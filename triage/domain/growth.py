"""Change of a nodule since an earlier scan: which nodules are the same, and how their sizes differ.

Information beside a finding and nothing more: it changes no probability, no band and no priority (standards 13.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from triage.domain.finding import Band, Finding, Growth, Measurements

APART_MM = 12.0  # breath and posture move a nodule this far although the lungs are aligned
LEAST_DAYS = 1  # two scans of one day show how well we measure, not growth


def compared(
    current: Sequence[Finding],
    prior: Sequence[Finding],
    to_prior: NDArray[np.float64],
    *,
    days: int,
    prior_study_uid: str,
) -> tuple[Finding, ...]:
    """The current findings in their order, those that the earlier scan also has with their `growth`.

    to_prior  (4, 4) rigid matrix from LPS mm of this scan to LPS mm of the earlier one
    Pairs are taken nearest first and each nodule once; low-band candidates are too often nothing to be compared.
    """
    if days < LEAST_DAYS:
        return tuple(current)
    gaps = sorted(
        (gap, i, j)
        for i, a in enumerate(current)
        for j, b in enumerate(prior)
        if (gap := _gap(a, b, to_prior)) is not None
    )
    partner: dict[int, int] = {}
    for _, i, j in gaps:
        if i not in partner and j not in partner.values():
            partner[i] = j
    return tuple(
        replace(f, growth=_growth(f, prior[partner[i]], days, prior_study_uid)) if i in partner else f
        for i, f in enumerate(current)
    )


def _gap(a: Finding, b: Finding, to_prior: NDArray[np.float64]) -> float | None:
    """Distance in mm after alignment; None when they are not the same nodule."""
    if a.measurements is None or b.measurements is None or Band.LOW in (a.band, b.band):
        return None
    moved = to_prior[:3, :3] @ np.array(a.measurements.center_lps_mm) + to_prior[:3, 3]
    gap = float(np.linalg.norm(moved - b.measurements.center_lps_mm))
    largest = max(_diameter(a.measurements), _diameter(b.measurements))
    return gap if gap <= max(APART_MM, largest / 2) else None


def _growth(now: Finding, then: Finding, days: int, uid: str) -> Growth:
    m, p = now.measurements, then.measurements
    assert m is not None and p is not None
    percent = round(100 * (m.volume_mm3 / p.volume_mm3 - 1), 1) if p.volume_mm3 > 0 else None
    return Growth(
        prior_study_uid=uid,
        days=days,
        prior_diameter_mm=round(_diameter(p), 1),
        prior_volume_mm3=p.volume_mm3,
        diameter_change_mm=round(_diameter(m) - _diameter(p), 1),
        volume_change_percent=percent,
    )


def _diameter(m: Measurements) -> float:
    return (m.long_axis_mm + m.short_axis_mm) / 2
