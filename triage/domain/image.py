"""Decoded pixels as values: what `dicom` makes and `detectors` read. Neither knows the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One projection image, dense bone bright.

    pixels      (rows, columns) float32 in [0, 1]; the same stored value always gives the same number
    spacing_mm  (between rows, between columns) at the detector, or None when the header does not say
    view        "PA", "AP", "LATERAL" or "" as the tags say
    sex         "M", "F", "O" or ""; age_years None when unknown
    sop_instance_uid  of the object the pixels came from, "" for a plain picture file
    decoder     plug-in and version that made the pixels (two decoders may differ by a grey level)
    patient_orientation  (0020,0020): where a row and a column point, ("L", "F") as displayed; () unknown
    notes       what the pixels needed: "no window, percentiles used", ...
    """

    pixels: NDArray[np.float32]
    spacing_mm: tuple[float, float] | None = None
    view: str = ""
    sex: str = ""
    age_years: float | None = None
    sop_instance_uid: str = ""
    decoder: str = ""
    patient_orientation: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Volume:
    """One CT series as a regular or irregular stack, slices from feet to head.

    hu         (slices, rows, columns) int16 Hounsfield units; padding is -1024
    affine     (4, 4) float64 from (column, row, slice, 1) to patient LPS millimetres (PS3.3 C.7.6.2)
    kernel     Convolution Kernel (0018,1210) or ""
    thickness_mm  Slice Thickness (0018,0050) or None
    sop_instance_uids  in slice order
    notes      what geometry did: "gantry tilt 3.0 degrees corrected", "1 duplicate dropped", ...
    """

    hu: NDArray[np.int16]
    affine: NDArray[np.float64]
    kernel: str = ""
    thickness_mm: float | None = None
    sex: str = ""
    age_years: float | None = None
    sop_instance_uids: tuple[str, ...] = ()
    decoder: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(slice, row, column) voxel size in millimetres."""
        columns = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(columns[2]), float(columns[1]), float(columns[0])
