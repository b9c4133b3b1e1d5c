"""Slices of a CT series as one stack: frames opened, places and scales checked, ready to be decoded.

The rules of order and spacing are pure and stand in `domain.stack`; `ladder` and `plan_stack` are theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from triage.dicom.header import read_frame_headers
from triage.domain.errors import Refused
from triage.domain.stack import SliceLadder, StackPlan, ladder, plan_stack
from triage.domain.study import CT_CLASSES, InstanceHeader
from triage.domain.suitability import NotSuitableError, ReasonCode

__all__ = ["Slice", "SliceLadder", "StackPlan", "ladder", "open_slices", "plan_stack"]

MAX_FRAMES = 4_000  # standards 5.1
THICKEST_STEP_MM = 3.0  # standards 4.2


@dataclass(frozen=True)
class Slice:
    """One frame and where it lies; header: values of this frame; slope and intercept to HU."""

    path: Path
    frame: int
    frames: int
    header: InstanceHeader
    slope: float
    intercept: float


def open_slices(paths: Sequence[Path], headers: Sequence[InstanceHeader]) -> list[Slice]:
    """Every frame of a series, multi-frame instances opened into theirs.

    raises  NotSuitableError: WRONG_MODALITY, TOO_LARGE (frames), NO_RESCALE, PIXELS_MISSING, GEOMETRY when
            frames are not described
    """
    slices: list[Slice] = []
    for path, header in zip(paths, headers, strict=True):
        if header.sop_class_uid not in CT_CLASSES:
            raise NotSuitableError(ReasonCode.WRONG_MODALITY, header.modality)
        if not header.has_pixel_data:
            raise NotSuitableError(ReasonCode.PIXELS_MISSING)
        if header.number_of_frames > MAX_FRAMES or len(slices) > MAX_FRAMES:
            raise NotSuitableError(ReasonCode.TOO_LARGE, f"more than {MAX_FRAMES} frames")
        frames = [header] if header.number_of_frames == 1 else _frames(path, header)
        for number, frame in enumerate(frames):
            if not frame.rescale_slope or frame.rescale_intercept is None:
                raise NotSuitableError(ReasonCode.NO_RESCALE)
            slices.append(
                Slice(path, number, len(frames), frame, frame.rescale_slope, frame.rescale_intercept)
            )
    return slices


def _frames(path: Path, header: InstanceHeader) -> list[InstanceHeader]:
    try:
        return read_frame_headers(path, header)
    except Refused as e:
        raise NotSuitableError(ReasonCode.GEOMETRY, str(e)) from e


def check_step(found: SliceLadder) -> None:
    """raises NotSuitableError(THICK_SLICES): for frames, whose places nobody knew before they were opened."""
    if found.step_mm is not None and found.step_mm > THICKEST_STEP_MM:
        raise NotSuitableError(
            ReasonCode.THICK_SLICES, f"{found.step_mm:.1f} mm apart, limit {THICKEST_STEP_MM}"
        )
