"""The nodules of one Run as all its objects name them: one order, one identity, one segment number.

Report, segmentation and presentation state are built apart and must agree (standards 6.4, 6.5).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from triage.dicom.objects.common import Analysis, derived_uid
from triage.dicom.objects.places import is_placed, position_on
from triage.domain.finding import Finding, SliceMask
from triage.domain.study import InstanceHeader

SAME_PLACE_MM = 4.0
APART_MM = 5.0  # voxels whose middle is so far from the measured centre lie on other planes than was measured


@dataclass(frozen=True)
class Nodule:
    """One measured finding.

    name       Tracking Identifier, by descending probability
    followed   Tracking Unique Identifier, the same after every re-run
    masks      (index into `Analysis.sources`, voxels) in the order of the sources; () when they cannot be told
    segment    its Segment Number, None without voxels
    """

    finding: Finding
    name: str
    followed: str
    masks: tuple[tuple[int, SliceMask], ...] = field(default=())
    segment: int | None = None


def nodules(analysis: Analysis) -> list[Nodule]:
    """Measured findings, most probable first; none where sizes may not be told (`domain.finding.shown`)."""
    seen: Counter[tuple[int, ...]] = Counter()
    place = {str(h.sop_instance_uid): i for i, h in enumerate(analysis.sources)}
    made: list[Nodule] = []
    segments = 0
    measured = [f for f in analysis.findings if f.measurements is not None]
    for number, f in enumerate(sorted(measured, key=lambda f: -f.probability), start=1):
        assert f.measurements is not None
        # Follows a nodule over re-runs; one that sits on a cell's border may get a new identity, never another's.
        cell = tuple(round(v / SAME_PLACE_MM) for v in f.measurements.center_lps_mm)
        followed = derived_uid(
            "nodule", analysis.sources[0].series_instance_uid, analysis.detector, *cell, seen[cell]
        )
        seen[cell] += 1
        masks = _masks(f, place, analysis.sources)
        segments += bool(masks)
        made.append(Nodule(f, f"Nodule {number}", followed, masks, segments if masks else None))
    return made


def pixels(mask: SliceMask) -> NDArray[np.bool_]:
    """(height, width) bool of the mask's box."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(mask.bits), np.uint8), count=mask.height * mask.width)
    return bits.reshape(mask.height, mask.width).astype(bool)


def _masks(
    finding: Finding, place: dict[str, int], sources: tuple[InstanceHeader, ...]
) -> tuple[tuple[int, SliceMask], ...]:
    """The voxels on the slices that we hold, when slice by slice they lie where the nodule was measured."""
    region = finding.location.region if finding.location else ()
    found = sorted((place[m.sop_instance_uid], m) for m in region if m.sop_instance_uid in place)
    if not found or len(found) != len(region) or not all(_fits(m, sources[i]) for i, m in found):
        return ()
    total = np.zeros(3)
    count = 0
    for i, m in found:
        rows, columns = np.nonzero(pixels(m))
        for row, column in zip(rows, columns, strict=True):
            total += position_on(sources[i], m.column + float(column), m.row + float(row))
        count += len(rows)
    assert finding.measurements is not None
    if not count or np.linalg.norm(total / count - finding.measurements.center_lps_mm) > APART_MM:
        return ()
    return tuple(found)


def _fits(mask: SliceMask, header: InstanceHeader) -> bool:
    return (
        is_placed(header)
        and header.number_of_frames == 1
        and 0 <= mask.row <= header.rows - mask.height
        and 0 <= mask.column <= header.columns - mask.width
    )
