"""Decoded pixels for detectors: a film as `Radiograph`, a CT series as `Volume`.

Workers keep one `Decoder`; everything that touches foreign pixel bytes happens in its guarded child.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from triage.dicom.child import OBJECT_SECONDS, DecodingChild, SharedArray, Task
from triage.domain.image import Radiograph
from triage.domain.study import InstanceHeader
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
            view=header.view_position,
            sex=header.patient_sex,
            age_years=header.patient_age_years,
            sop_instance_uid=header.sop_instance_uid,
            decoder=report.decoder,
            patient_orientation=header.patient_orientation,
            notes=report.notes,
        )


def _check_size(header: InstanceHeader, most: int) -> None:
    if not header.has_pixel_data:
        raise NotSuitableError(ReasonCode.PIXELS_MISSING)
    if header.rows == 0 or header.columns == 0:
        raise NotSuitableError(ReasonCode.CORRUPT_PIXELS, "the header does not say how many rows and columns")
    if header.rows * header.columns > most:
        raise NotSuitableError(ReasonCode.TOO_LARGE, f"{header.rows} x {header.columns} pixels, limit {most}")
