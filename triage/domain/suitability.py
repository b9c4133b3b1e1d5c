"""May this detector look at this input? If not, the reason a reader sees.

Codes are those of the pages' specification (ux 5.4). Tag rules are pure functions over the header values of
`domain.study`; what pixels say is decided in `detectors.suitability` with the same codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReasonCode(StrEnum):
    """Why an input was not analysed. Stored, counted, shown with `SENTENCES`."""

    OUT_OF_AGE = "OUT_OF_AGE"
    WRONG_MODALITY = "WRONG_MODALITY"
    WRONG_BODY_PART = "WRONG_BODY_PART"
    LATERAL_ONLY = "LATERAL_ONLY"
    NO_FRONTAL = "NO_FRONTAL"
    POSITION_OUT_OF_SCOPE = "POSITION_OUT_OF_SCOPE"
    FIELD_OF_VIEW = "FIELD_OF_VIEW"
    LOW_QUALITY = "LOW_QUALITY"
    THICK_SLICES = "THICK_SLICES"
    FEW_SLICES = "FEW_SLICES"
    GAP_IN_SERIES = "GAP_IN_SERIES"
    KERNEL_OUT_OF_SCOPE = "KERNEL_OUT_OF_SCOPE"
    UNSUPPORTED_SYNTAX = "UNSUPPORTED_SYNTAX"
    PIXELS_MISSING = "PIXELS_MISSING"
    INCOMPLETE_AT_LIMIT = "INCOMPLETE_AT_LIMIT"
    DUPLICATE = "DUPLICATE"
    MODEL_OFF = "MODEL_OFF"
    SITE_OFF = "SITE_OFF"
    AI_DOWN = "AI_DOWN"
    TIMEOUT = "TIMEOUT"
    DISK_LOW = "DISK_LOW"
    OPTED_OUT = "OPTED_OUT"
    AGE_UNKNOWN = "AGE_UNKNOWN"
    VIEW_UNKNOWN = "VIEW_UNKNOWN"
    FOR_PROCESSING = "FOR_PROCESSING"
    DERIVED = "DERIVED"
    SECONDARY_CAPTURE = "SECONDARY_CAPTURE"
    LOCALIZER = "LOCALIZER"
    PROJECTION_MIP = "PROJECTION_MIP"
    GEOMETRY = "GEOMETRY"
    GANTRY_TILT = "GANTRY_TILT"
    MIXED_SERIES = "MIXED_SERIES"
    NO_RESCALE = "NO_RESCALE"
    CORRUPT_PIXELS = "CORRUPT_PIXELS"
    TOO_SMALL = "TOO_SMALL"
    TOO_LARGE = "TOO_LARGE"
    REJECTED = "REJECTED"
    OUT_OF_DISTRIBUTION = "OUT_OF_DISTRIBUTION"


SENTENCES: dict[ReasonCode, str] = {
    ReasonCode.OUT_OF_AGE: "patient younger than 18 years",
    ReasonCode.WRONG_MODALITY: "no detector reads this modality",
    ReasonCode.WRONG_BODY_PART: "not a chest examination",
    ReasonCode.LATERAL_ONLY: "lateral view",
    ReasonCode.NO_FRONTAL: "no frontal view",
    ReasonCode.POSITION_OUT_OF_SCOPE: "view or position out of scope",
    ReasonCode.FIELD_OF_VIEW: "lungs not wholly in the field of view",
    ReasonCode.LOW_QUALITY: "image quality too low",
    ReasonCode.THICK_SLICES: "slices too thick",
    ReasonCode.FEW_SLICES: "too few slices",
    ReasonCode.GAP_IN_SERIES: "slices missing inside the series",
    ReasonCode.KERNEL_OUT_OF_SCOPE: "reconstruction kernel out of scope",
    ReasonCode.UNSUPPORTED_SYNTAX: "compression that we cannot read",
    ReasonCode.PIXELS_MISSING: "no pixels in the object",
    ReasonCode.INCOMPLETE_AT_LIMIT: "series still incomplete at the time limit",
    ReasonCode.DUPLICATE: "same images as another series",
    ReasonCode.MODEL_OFF: "detector switched off",
    ReasonCode.SITE_OFF: "triage switched off for this site",
    ReasonCode.AI_DOWN: "triage is not working at the moment",
    ReasonCode.TIMEOUT: "analysis took too long",
    ReasonCode.DISK_LOW: "not enough disk space",
    ReasonCode.OPTED_OUT: "excluded from analysis by request",
    ReasonCode.AGE_UNKNOWN: "age of the patient unknown",
    ReasonCode.VIEW_UNKNOWN: "view unknown",
    ReasonCode.FOR_PROCESSING: "raw image (for processing)",
    ReasonCode.DERIVED: "derived image",
    ReasonCode.SECONDARY_CAPTURE: "secondary capture",
    ReasonCode.LOCALIZER: "localizer",
    ReasonCode.PROJECTION_MIP: "projection or reformatted image",
    ReasonCode.GEOMETRY: "geometry not usable",
    ReasonCode.GANTRY_TILT: "tilted gantry",
    ReasonCode.MIXED_SERIES: "several acquisitions mixed in one series",
    ReasonCode.NO_RESCALE: "Hounsfield scale missing",
    ReasonCode.CORRUPT_PIXELS: "pixel data damaged",
    ReasonCode.TOO_SMALL: "image too small",
    ReasonCode.TOO_LARGE: "image too large",
    ReasonCode.REJECTED: "rejected by the sender",
    ReasonCode.OUT_OF_DISTRIBUTION: "unlike the images that the detector was built for",
}


# These say that images are missing, nothing against what was found in those that were there.
NOT_WHOLE = frozenset({ReasonCode.INCOMPLETE_AT_LIMIT, ReasonCode.GAP_IN_SERIES})


@dataclass(frozen=True)
class NotSuitable:
    """An answer, not an error: this input is not analysed.

    code    what a reader sees and QA counts
    detail  what was found and what is allowed ("slice thickness 5.0 mm, limit 3.0 mm"); never patient data
    """

    code: ReasonCode
    detail: str = ""

    @property
    def sentence(self) -> str:
        return f"{SENTENCES[self.code]} ({self.detail})" if self.detail else SENTENCES[self.code]


class NotSuitableError(Exception):
    """Carries a `NotSuitable` out of deep decoding or detector code to the step that records it."""

    def __init__(self, code: ReasonCode, detail: str = "") -> None:
        self.answer = NotSuitable(code, detail)
        super().__init__(self.answer.sentence)
