"""Decoded pixels for detectors: a film as `Radiograph`, a CT series as `Volume`.

Workers keep one `Decoder`; everything that touches foreign pixel bytes happens in its guarded child.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triage.dicom.child import OBJECT_SECONDS, DecodingChild, SharedArray, Task
from triage.dicom.geometry import StackPlan, check_step, ladder, open_slices, plan_stack
from triage.domain.eligibility import view_of
from triage.domain.image import Radiograph, Volume
from triage.domain.odd_images import notes_on, odd_ones
from triage.domain.study import LOSSY_SYNTAXES, InstanceHeader
from triage.domain.suitability import NotSuitableError, ReasonCode

FILM_PIXELS = 6_000 * 6_000  # standards 5.1
SLICE_PIXELS = 1_024 * 1_024
VOLUME_BYTES = 1 << 30  # of int16; half of what a child may address


class Decoder:
    """with Decoder() as decoder: decoder.radiograph(path, header)"""

    def __init__(self, object_seconds: float = OBJECT_SECONDS) -> None:
        self._child = DecodingChild(object_seconds)

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._child.close()

    def radiograph(self, path: Path, header: InstanceHeader) -> Radiograph:
        """One film, dense bone bright, as received (neither turned nor mirrored).

        returns  float32 in [0, 1]: Modality LUT, VOI (LUT before window), polarity; padding 0
        raises   NotSuitableError (TOO_LARGE, PIXELS_MISSING, CORRUPT_PIXELS, UNSUPPORTED_SYNTAX, TIMEOUT,
                 LOW_QUALITY for a constant image); Unavailable
        source   PS3.4 N.2, standards 5.1
        """
        _check_size(header, FILM_PIXELS)
        if header.number_of_frames != 1:
            raise NotSuitableError(ReasonCode.GEOMETRY, f"{header.number_of_frames} frames in one film")
        shared = SharedArray((header.rows, header.columns), np.float32)
        try:
            report = self._child.decode("film", [Task(path)], header.rows, header.columns, shared)
        finally:
            shared.close()
        return Radiograph(
            pixels=shared.array,
            spacing_mm=header.pixel_spacing_mm,
            view=view if (view := view_of(header)) in ("PA", "AP", "LATERAL") else "",
            sex=header.patient_sex,
            age_years=header.patient_age_years,
            sop_instance_uid=header.sop_instance_uid,
            decoder=report.decoder,
            patient_orientation=header.patient_orientation,
            notes=(*report.notes, *_marks([header])),
        )

    def samples(self, path: Path, header: InstanceHeader, frames: Sequence[int]) -> list[bytes]:
        """Frames (from 0) of one grey object as native little endian samples. raises as `radiograph`"""
        _check_size(header, FILM_PIXELS)
        size = header.rows * header.columns * (header.bits_allocated // 8)
        if size == 0 or size * len(frames) > VOLUME_BYTES:
            raise NotSuitableError(ReasonCode.TOO_LARGE, f"{len(frames)} frames of {size} bytes")
        shared = SharedArray((len(frames), size), np.uint8)
        tasks = [Task(path, frame, header.number_of_frames, place) for place, frame in enumerate(frames)]
        try:
            self._child.decode("samples", tasks, header.rows, header.columns, shared)
        finally:
            shared.close()
        return [frame.tobytes() for frame in shared.array]

    def volume(self, paths: Sequence[Path], headers: Sequence[InstanceHeader]) -> Volume:
        """One CT series as a stack from feet to head, in HU by each slice's own rescale; padding -1024.

        paths, headers  every instance of the series, in any order; multi-frame instances are opened, a few odd images
                        are left out and noted
        raises          NotSuitableError (the codes of `domain.stack.plan_stack`, THICK_SLICES, NO_RESCALE, TOO_LARGE
                        and those of `radiograph`), Refused, Unavailable
        source          PS3.3 C.7.6.2, standards 5.2
        """
        odd = odd_ones(headers)
        kept = [i for i in range(len(headers)) if i not in odd]
        slices = open_slices([paths[i] for i in kept], [headers[i] for i in kept])
        plan = plan_stack([s.header for s in slices])
        check_step(ladder([s.header for s in slices]))
        first = slices[plan.order[0]].header
        _check_size(first, SLICE_PIXELS)
        chosen = [*plan.order, *(other for _, other in plan.duplicates)]
        if 2 * first.rows * first.columns * len(chosen) > VOLUME_BYTES:
            raise NotSuitableError(
                ReasonCode.TOO_LARGE, f"{len(chosen)} slices of {first.rows} x {first.columns}"
            )
        # Frames of one file stand together, so that the child opens each file once.
        numbered = sorted(enumerate(chosen), key=lambda n: (slices[n[1]].path, slices[n[1]].frame))
        tasks = [
            Task(s.path, s.frame, s.frames, place, s.slope, s.intercept)
            for place, s in ((place, slices[i]) for place, i in numbered)
        ]
        shared = SharedArray((len(chosen), first.rows, first.columns), np.int16)
        try:
            report = self._child.decode("slices", tasks, first.rows, first.columns, shared)
        finally:
            shared.close()
        _compare_duplicates(shared.array, plan)
        notes = [*notes_on(odd), *plan.notes, *_marks([slices[i].header for i in chosen])]
        if plan.duplicates:
            notes.append(f"{len(plan.duplicates)} duplicate slices dropped")
        return Volume(
            hu=shared.array[: len(plan.order)],
            affine=plan.affine,
            kernel=first.convolution_kernel,
            thickness_mm=first.slice_thickness_mm,
            sex=first.patient_sex,
            age_years=first.patient_age_years,
            sop_instance_uids=tuple(slices[i].header.sop_instance_uid for i in plan.order),
            decoder=report.decoder,
            notes=tuple(notes),
        )


def _marks(headers: Sequence[InstanceHeader]) -> list[str]:
    """What a Run must say of its images: they are not quite what the detector was made for (standards 4.1)."""
    lossy = any(h.lossy or h.transfer_syntax_uid in LOSSY_SYNTAXES for h in headers)
    return ["compressed with loss"] if lossy else []


def _compare_duplicates(hu: NDArray[np.int16], plan: StackPlan) -> None:
    """Two images at one place must be the same image; else nobody knows which one is right (standards 5.2, step 4)."""
    places = {index: place for place, index in enumerate(plan.order)}
    for extra, (kept, _) in enumerate(plan.duplicates):
        if not np.array_equal(hu[places[kept]], hu[len(plan.order) + extra]):
            raise NotSuitableError(ReasonCode.MIXED_SERIES, "different images at one place")


def _check_size(header: InstanceHeader, most: int) -> None:
    if not header.has_pixel_data:
        raise NotSuitableError(ReasonCode.PIXELS_MISSING)
    if header.rows == 0 or header.columns == 0:
        raise NotSuitableError(ReasonCode.CORRUPT_PIXELS, "the header does not say how many rows and columns")
    if header.rows * header.columns > most:
        raise NotSuitableError(ReasonCode.TOO_LARGE, f"{header.rows} x {header.columns} pixels, limit {most}")
