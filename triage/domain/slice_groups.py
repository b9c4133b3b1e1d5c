"""Which slices of a series belong together, and which of several such groups is read (standards 5.2, step 3).

A series may hold reformats, a second kernel or a zoomed field beside the scan itself. What cannot be read at all does
not compete; of what can, the longest is read when it shows all that the others show. Otherwise nobody could say what
was looked at, and the series is refused as mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, radians, sqrt

from triage.domain.study import InstanceHeader
from triage.domain.suitability import NotSuitableError, ReasonCode

COSINE_TOLERANCE = 1e-3
SPACING_TOLERANCE = 1e-3
AXIAL_DEGREES = 15.05  # standards 4.2 says 15; the rest is what cosines of six decimals round
LEAST_SLICES = 8
WIDER_SHARE = 0.1  # a field so much wider shows more
BEYOND_MM = 10.0  # and so much longer; reconstructions of one scan end a slice or two apart


def is_placed(header: InstanceHeader) -> bool:
    return (
        header.image_position_patient is not None
        and header.image_orientation_patient is not None
        and header.pixel_spacing_mm is not None
    )


def normal(header: InstanceHeader) -> tuple[float, float, float]:
    """Unit normal of a slice: row direction x column direction; towards the head for an axial slice."""
    assert header.image_orientation_patient is not None
    a, b, c, d, e, f = header.image_orientation_patient
    x, y, z = b * f - c * e, c * d - a * f, a * e - b * d
    length = sqrt(x * x + y * y + z * z)
    return (x / length, y / length, z / length) if length else (0.0, 0.0, 0.0)


def distance(header: InstanceHeader) -> float:
    """Place along the normal, in mm. Plain arithmetic: a series is judged at every arrival, numpy would be slower."""
    assert header.image_position_patient is not None
    return sum(n * p for n, p in zip(normal(header), header.image_position_patient, strict=True))


def groups_of(headers: Sequence[InstanceHeader], indices: Sequence[int]) -> list[list[int]]:
    """Slices of equal matrix, orientation, spacing, kernel and frame of reference."""
    groups: list[list[int]] = []
    for i in indices:
        for group in groups:
            if _belong_together(headers[group[0]], headers[i]):
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def ranked(headers: Sequence[InstanceHeader], groups: Sequence[list[int]]) -> list[list[int]]:
    """Best first, whatever the order of arrival: readable, more slices, wider field; then by name."""

    def key(group: list[int]) -> tuple[bool, int, float, str, str]:
        first = headers[group[0]]
        uid = min(str(headers[i].sop_instance_uid) for i in group)
        return (
            not _is_readable(headers, group),
            -len(group),
            -_field_mm(first),
            first.convolution_kernel,
            uid,
        )

    return sorted(groups, key=key)


def choose_group(
    headers: Sequence[InstanceHeader], groups: Sequence[list[int]], notes: list[str]
) -> list[int]:
    """The group that is read; what is left out goes into `notes`.

    raises  NotSuitableError(MIXED_SERIES): another one, not much smaller, shows what this one does not
    """
    best, *others = ranked(headers, groups)
    for other in others:
        if 2 * len(other) > len(best) and _is_readable(headers, other) and not _covers(headers, best, other):
            why = _differences(headers[best[0]], headers[other[0]])[0]
            raise NotSuitableError(
                ReasonCode.MIXED_SERIES, f"{len(best)} and {len(other)} slices of different {why}"
            )
    for other in others:
        why = " and ".join(_differences(headers[best[0]], headers[other[0]]))
        notes.append(f"{len(other)} slices of another {why} left out")
    return best


def _is_readable(headers: Sequence[InstanceHeader], group: Sequence[int]) -> bool:
    return len(group) >= LEAST_SLICES and abs(normal(headers[group[0]])[2]) >= cos(radians(AXIAL_DEGREES))


def _covers(headers: Sequence[InstanceHeader], best: Sequence[int], other: Sequence[int]) -> bool:
    """Does `best` show all of the patient that `other` shows? Fields are compared by size, not by place."""
    a, b = headers[best[0]], headers[other[0]]
    if a.frame_of_reference_uid != b.frame_of_reference_uid:
        return False
    have, wanted = ([distance(headers[i]) for i in group] for group in (best, other))
    return (
        min(have) - BEYOND_MM <= min(wanted)
        and max(wanted) <= max(have) + BEYOND_MM
        and _field_mm(b) <= (1 + WIDER_SHARE) * _field_mm(a)
    )


def _field_mm(header: InstanceHeader) -> float:
    assert header.pixel_spacing_mm is not None
    return header.columns * header.pixel_spacing_mm[1]


def _belong_together(a: InstanceHeader, b: InstanceHeader) -> bool:
    return (
        (a.rows, a.columns, a.convolution_kernel, a.frame_of_reference_uid)
        == (b.rows, b.columns, b.convolution_kernel, b.frame_of_reference_uid)
        and _near(a.image_orientation_patient, b.image_orientation_patient, COSINE_TOLERANCE)
        and _near(a.pixel_spacing_mm, b.pixel_spacing_mm, SPACING_TOLERANCE)
    )


def _differences(a: InstanceHeader, b: InstanceHeader) -> list[str]:
    """In what two slices do not belong together, in a reader's words."""
    found = {
        "orientation": not _near(a.image_orientation_patient, b.image_orientation_patient, COSINE_TOLERANCE),
        "kernel": a.convolution_kernel != b.convolution_kernel,
        "matrix": (a.rows, a.columns) != (b.rows, b.columns),
        "pixel spacing": not _near(a.pixel_spacing_mm, b.pixel_spacing_mm, SPACING_TOLERANCE),
        "frame of reference": a.frame_of_reference_uid != b.frame_of_reference_uid,
    }
    return [name for name, differs in found.items() if differs]


def _near(a: tuple[float, ...] | None, b: tuple[float, ...] | None, tolerance: float) -> bool:
    assert a is not None and b is not None
    return all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))
