"""Where a finding lies on the received images: outlines in the frame of SCOORD and GSPS, points on slices."""

from __future__ import annotations

from collections.abc import Sequence

from triage.domain.finding import Finding
from triage.domain.study import InstanceHeader


def outline_of(finding: Finding) -> tuple[tuple[float, float], ...]:
    """The finding's polygon on its film; () when it has none that encloses anything."""
    outline = finding.location.outline if finding.location else ()
    return outline if len(outline) > 2 else ()


def on_film(outline: Sequence[tuple[float, float]], film: InstanceHeader) -> list[tuple[float, float]]:
    """From pixel centres counted from 0 to the corner-based frame of SCOORD and GSPS, kept on the film."""
    return [(min(max(x + 0.5, 0.0), film.columns), min(max(y + 0.5, 0.0), film.rows)) for x, y in outline]


def nearest(sources: Sequence[InstanceHeader], findings: Sequence[Finding]) -> tuple[InstanceHeader, ...]:
    """Slices nearest to the measured centres, in the order of the series; () when no place may be told."""
    centers = [f.measurements.center_lps_mm for f in findings if f.measurements is not None]
    if any(h.image_position_patient is None or h.image_orientation_patient is None for h in sources):
        return ()
    places = {min(range(len(sources)), key=lambda i: _distance(sources[i], c)) for c in centers}
    return tuple(sources[i] for i in sorted(places))


def _distance(header: InstanceHeader, center: tuple[float, float, float]) -> float:
    """mm from the plane of an image (PS3.3 C.7.6.2.1.1)."""
    position, o = header.image_position_patient, header.image_orientation_patient
    assert position is not None and o is not None
    normal = (o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3])
    return abs(sum(n * (c - p) for n, c, p in zip(normal, center, position, strict=True)))


def position_on(header: InstanceHeader, column: float, row: float) -> tuple[float, float, float]:
    """LPS mm of a pixel centre counted from 0 (PS3.3 C.7.6.2.1.1); the header has position, orientation, spacing."""
    position, o, spacing = (
        header.image_position_patient,
        header.image_orientation_patient,
        header.pixel_spacing_mm,
    )
    assert position is not None and o is not None and spacing is not None
    x, y, z = (position[i] + o[i] * spacing[1] * column + o[i + 3] * spacing[0] * row for i in range(3))
    return x, y, z


def pixel_at(header: InstanceHeader, lps_mm: tuple[float, float, float]) -> tuple[float, float]:
    """(column, row) on the slice of the point's projection; the inverse of `position_on`."""
    position, o, spacing = (
        header.image_position_patient,
        header.image_orientation_patient,
        header.pixel_spacing_mm,
    )
    assert position is not None and o is not None and spacing is not None
    away = [lps_mm[i] - position[i] for i in range(3)]
    column = sum(away[i] * o[i] for i in range(3)) / spacing[1]
    return column, sum(away[i] * o[i + 3] for i in range(3)) / spacing[0]


def is_placed(header: InstanceHeader) -> bool:
    return None not in (
        header.image_position_patient,
        header.image_orientation_patient,
        header.pixel_spacing_mm,
    )
