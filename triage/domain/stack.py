"""Order in space: which headers make one stack of slices, and what keeps them from it (standards 5.2).

Positions decide, never Instance Number or Slice Location, which both lie. Pure functions over header values; the
same ladder judges whether a series is whole and how a volume is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import acos, cos, degrees, radians, sqrt

import numpy as np
from numpy.typing import NDArray

from triage.domain.odd_images import odd_ones
from triage.domain.slice_groups import (
    AXIAL_DEGREES,
    COSINE_TOLERANCE,
    LEAST_SLICES,
    choose_group,
    distance,
    groups_of,
    is_placed,
    normal,
    ranked,
)
from triage.domain.study import InstanceHeader
from triage.domain.suitability import NotSuitableError, ReasonCode

SAME_PLACE_MM = 0.01
EVEN_SHARE, EVEN_MM = 0.01, 0.01  # places this near to a grid are even
JITTER_SHARE, ROUNDING_MM = (
    0.05,
    0.06,
)  # so far from it still a grid, said in a note: jitter, positions in 0.1 mm
MISSING_AT_MOST = 200  # steps of one gap that count as whole multiples
TILT_DEGREES = 0.5  # a stack sheared by more is put upright by the detector
LOCALIZER = "LOCALIZER"


@dataclass(frozen=True)
class SliceLadder:
    """Positions of one series along its normal.

    places      distinct positions; step_mm: distance of the even grid through them, None below two
    missing     slices that are missing between the first and the last
    duplicates  images at a place that another one holds
    uneven_mm   largest distance of a place from the even grid
    """

    places: int
    step_mm: float | None
    missing: int
    duplicates: int
    uneven_mm: float

    @property
    def has_gap(self) -> bool:
        return self.missing > 0


@dataclass(frozen=True, eq=False)
class StackPlan:
    """How to build a volume from the given headers.

    order       indices into the headers, feet to head
    duplicates  (kept, other): two images at one place; the pixels must be compared, equal ones count once
    affine      (column, row, slice, 1) to LPS millimetres
    notes       what was left out
    """

    order: tuple[int, ...]
    duplicates: tuple[tuple[int, int], ...]
    affine: NDArray[np.float64]
    notes: tuple[str, ...]


def ladder(headers: Sequence[InstanceHeader]) -> SliceLadder:
    """The ladder of the group of slices that would be read; localizers and a few odd images do not count."""
    odd = odd_ones(headers)
    slices = [
        i for i, h in enumerate(headers) if LOCALIZER not in h.image_type and is_placed(h) and i not in odd
    ]
    if not slices:
        return SliceLadder(0, None, 0, 0, 0.0)
    return _ladder(_along(headers, ranked(headers, groups_of(headers, slices))[0]))


def plan_stack(headers: Sequence[InstanceHeader]) -> StackPlan:
    """Order, geometry and leftovers of one series of single frames.

    raises  NotSuitableError: LOCALIZER, GEOMETRY, MIXED_SERIES, FEW_SLICES, GANTRY_TILT, GAP_IN_SERIES
    source  PS3.3 C.7.6.2, standards 5.2
    """
    slices = [i for i, h in enumerate(headers) if LOCALIZER not in h.image_type]
    notes = []
    if not slices:
        raise NotSuitableError(ReasonCode.LOCALIZER)
    if len(slices) < len(headers):
        notes.append(f"{len(headers) - len(slices)} localizers left out")
    unplaced = sum(not is_placed(headers[i]) for i in slices)
    if unplaced:
        raise NotSuitableError(
            ReasonCode.GEOMETRY, f"{unplaced} slices without position, orientation or spacing"
        )
    group = choose_group(headers, groups_of(headers, slices), notes)
    _check_orientation(headers[group[0]])
    group, duplicates = _settle_repeats(headers, group, notes)
    if len(group) < LEAST_SLICES:
        raise NotSuitableError(ReasonCode.FEW_SLICES, f"{len(group)} slices, at least {LEAST_SLICES}")
    order = sorted(group, key=lambda i: distance(headers[i]))
    _check_tilt(headers, order, notes)
    _check_steps(_ladder(_along(headers, order)), notes)
    return StackPlan(tuple(order), tuple(duplicates), _affine(headers, order), tuple(notes))


def _along(headers: Sequence[InstanceHeader], group: Sequence[int]) -> NDArray[np.float64]:
    return np.sort(np.array([distance(headers[i]) for i in group]))


def _settle_repeats(
    headers: Sequence[InstanceHeader], group: list[int], notes: list[str]
) -> tuple[list[int], list[tuple[int, int]]]:
    """One image for each place. A second whole set is another acquisition, and the later one counts (step 4)."""
    place = {i: distance(headers[i]) for i in group}
    kept: list[int] = []
    repeats: list[tuple[int, int]] = []
    for i in sorted(group, key=lambda i: (place[i], _age_key(headers[i]))):
        if kept and place[i] - place[kept[-1]] <= SAME_PLACE_MM:
            repeats.append((kept[-1], i))
        else:
            kept.append(i)
    if not repeats:
        return kept, []
    sets: dict[object, list[int]] = {}
    for i in group:
        sets.setdefault(headers[i].acquisition_number, []).append(i)
    whole = [s for s in sets.values() if len(s) == len(kept) and not _ladder(_along(headers, s)).duplicates]
    if len(whole) > 1 and sum(map(len, whole)) == len(group):
        notes.append(f"{len(whole)} acquisitions of the same places, the latest taken")
        return max(whole, key=lambda s: _age_key(headers[s[0]])), []
    longest = max(sets.values(), key=lambda s: (len(s), _age_key(headers[s[0]])))
    if len(longest) == len(kept) and not _ladder(_along(headers, longest)).duplicates:
        notes.append(f"{len(group) - len(longest)} slices of acquisitions of a part of it left out")
        return longest, []
    if 2 * len(repeats) >= len(kept):
        raise NotSuitableError(ReasonCode.MIXED_SERIES, f"{len(group)} images at {len(kept)} places")
    return kept, repeats


def _age_key(header: InstanceHeader) -> tuple[int, str, int]:
    return header.acquisition_number or 0, header.acquisition_datetime, header.instance_number or 0


def _ladder(along: NDArray[np.float64]) -> SliceLadder:
    steps = np.diff(along)
    duplicates = int(np.sum(steps <= SAME_PLACE_MM))
    steps = steps[steps > SAME_PLACE_MM]
    if not steps.size:
        return SliceLadder(len(along) - duplicates, None, 0, duplicates, 0.0)
    multiples = np.clip(np.rint(steps / np.median(steps)), 1, MISSING_AT_MOST)
    rungs = np.concatenate([[0], np.cumsum(multiples)])
    places = np.concatenate([[0], np.cumsum(steps)])
    # A straight line through all of them: single steps are rounded by the sender, to 0.1 mm even.
    step_mm = float(rungs @ places / (rungs @ rungs))
    offset = places - step_mm * rungs
    return SliceLadder(
        places=len(along) - duplicates,
        step_mm=step_mm,
        missing=int(np.sum(multiples - 1)),
        duplicates=duplicates,
        uneven_mm=float(np.ptp(offset)) / 2,
    )


def _check_orientation(header: InstanceHeader) -> None:
    assert header.image_orientation_patient is not None
    row, column = header.image_orientation_patient[:3], header.image_orientation_patient[3:]
    lengths = [abs(sqrt(sum(x * x for x in v)) - 1) for v in (row, column)]
    slant = abs(sum(r * c for r, c in zip(row, column, strict=True)))
    if max(*lengths, slant) > COSINE_TOLERANCE:
        raise NotSuitableError(ReasonCode.GEOMETRY, "orientation is no pair of unit vectors")
    across = abs(normal(header)[2])
    if across < cos(radians(AXIAL_DEGREES)):
        raise NotSuitableError(
            ReasonCode.GEOMETRY, f"slices stand {degrees(acos(across)):.0f} degrees off axial"
        )


def _check_tilt(headers: Sequence[InstanceHeader], order: Sequence[int], notes: list[str]) -> None:
    """Shear of the stack: the line through the origins against the normal (step 7)."""
    first, last = (np.array(headers[i].image_position_patient) for i in (order[0], order[-1]))
    line = (last - first) / np.linalg.norm(last - first)
    tilt = degrees(acos(min(1.0, abs(float(line @ normal(headers[order[0]]))))))
    if tilt > AXIAL_DEGREES:
        raise NotSuitableError(ReasonCode.GANTRY_TILT, f"{tilt:.1f} degrees, limit {AXIAL_DEGREES:.0f}")
    if tilt > TILT_DEGREES:
        notes.append(f"gantry tilt {tilt:.1f} degrees corrected")


def _check_steps(found: SliceLadder, notes: list[str]) -> None:
    assert found.step_mm is not None
    if found.uneven_mm > max(JITTER_SHARE * found.step_mm, ROUNDING_MM):
        raise NotSuitableError(
            ReasonCode.GEOMETRY, f"places {found.uneven_mm:.2f} mm off a grid of {found.step_mm:.2f} mm"
        )
    if found.missing:
        raise NotSuitableError(
            ReasonCode.GAP_IN_SERIES, f"{found.missing} of {found.places + found.missing} slices missing"
        )
    if found.uneven_mm > max(EVEN_SHARE * found.step_mm, EVEN_MM):
        notes.append(f"places up to {found.uneven_mm:.2f} mm off an even grid")


def _affine(headers: Sequence[InstanceHeader], order: Sequence[int]) -> NDArray[np.float64]:
    first, last = headers[order[0]], headers[order[-1]]
    assert first.pixel_spacing_mm is not None
    row, column = np.array(first.image_orientation_patient).reshape(2, 3)
    between_rows, between_columns = first.pixel_spacing_mm
    origin = np.array(first.image_position_patient)
    affine = np.eye(4)
    affine[:3, 0] = row * between_columns
    affine[:3, 1] = column * between_rows
    affine[:3, 2] = (np.array(last.image_position_patient) - origin) / (len(order) - 1)
    affine[:3, 3] = origin
    return affine
