"""What detectors may say: a closed list of coded findings, and the value that carries one.

Codes: SNOMED CT with RadLex alternate, as in the taxonomy of `docs/reference` (standards 13.1). "Finding" is
coded as observed; that it is only suspected is said by the preliminary status and by words, never by the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import IntEnum, StrEnum
from typing import Any


class PriorityClass(IntEnum):
    """Worklist classes; a larger number is read sooner."""

    ROUTINE = 0
    ELEVATED = 1
    HIGH = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        return self.name.lower()

    @classmethod
    def from_word(cls, word: str) -> PriorityClass:
        return cls[word.upper()]


class Band(StrEnum):
    """How sure, as a reader sees it; cut on the calibrated probability."""

    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"


class Mode(StrEnum):
    """`TRIAGE_MODE`: may readers see where and how large? (standards 0.4)"""

    TRIAGE_ONLY = "triage_only"
    OVERLAY = "overlay"


@dataclass(frozen=True)
class FindingCode:
    """name is the CSV column, JSON key and `--finding` word; display is what a reader reads."""

    name: str
    display: str
    code: str
    scheme: str  # SCT, DCM or 99TRIAGE
    radlex: str
    priority_class: PriorityClass  # the class that an actionable finding raises a study to


_C, _H, _E, _R = PriorityClass.CRITICAL, PriorityClass.HIGH, PriorityClass.ELEVATED, PriorityClass.ROUTINE

FINDING_CODES: Mapping[str, FindingCode] = {
    f.name: f
    for f in (
        FindingCode("pneumothorax", "pneumothorax", "36118008", "SCT", "RID5352", _C),
        FindingCode("effusion", "pleural effusion", "60046008", "SCT", "RID34539", _E),
        FindingCode("consolidation", "consolidation", "95436008", "SCT", "RID43255", _H),
        FindingCode("edema", "pulmonary edema", "19242006", "SCT", "RID4866", _H),
        FindingCode("lung_opacity", "lung opacity", "112001", "DCM", "RID28530", _E),
        FindingCode("infiltration", "infiltrate", "112121", "DCM", "RID28530", _E),
        FindingCode("pneumonia", "lung opacity (pneumonia pattern)", "112001", "DCM", "RID28530", _E),
        FindingCode("atelectasis", "atelectasis", "46621007", "SCT", "RID28493", _R),
        FindingCode("cardiomegaly", "enlarged heart", "8186001", "SCT", "RID35057", _R),
        FindingCode("nodule", "lung nodule", "27925004", "SCT", "RID50149", _E),
        FindingCode("mass", "lung mass", "4147007", "SCT", "RID3874", _E),
        FindingCode("emphysema", "emphysema", "87433001", "SCT", "RID4799", _R),
        FindingCode("fibrosis", "fibrosis", "51615001", "SCT", "RID3820", _R),
        FindingCode("pleural_thickening", "pleural thickening", "PLEURAL-THICK", "99TRIAGE", "RID28509", _R),
        FindingCode("hernia", "hiatal hernia", "84089009", "SCT", "", _R),
        FindingCode("fracture", "fracture", "125605004", "SCT", "RID4650", _E),
        FindingCode("abnormal", "abnormal film", "ABNORMAL", "99TRIAGE", "", _R),
    )
}


@dataclass(frozen=True)
class SliceMask:
    """Voxels of one finding on one received slice, cut to their box.

    row, column     of the box's first pixel, 0-based
    height, width   of the box in pixels
    bits            its pixels row by row, eight a byte, the first in the highest bit, as hexadecimal digits
    """

    sop_instance_uid: str
    row: int
    column: int
    height: int
    width: int
    bits: str


@dataclass(frozen=True)
class Location:
    """Where a finding is; shown only in overlay mode, always stored.

    outline  for a film: closed polygon of (column, row) pixel centres of the received image, 0-based;
             for a scan: () and the place is in `Measurements.center_lps_mm`
    side     "left", "right", "both" or "" when orientation does not say (H13: never guessed)
    region   of a nodule: its voxels, slice by slice; () where they cannot be told on the received slices
    """

    outline: tuple[tuple[float, float], ...] = ()
    side: str = ""
    zone: str = ""
    region: tuple[SliceMask, ...] = ()


@dataclass(frozen=True)
class Measurements:
    """Of one CT nodule; patient LPS millimetres, HU."""

    center_lps_mm: tuple[float, float, float]
    long_axis_mm: float
    short_axis_mm: float
    volume_mm3: float
    mean_hu: float
    texture: str  # "solid", "part_solid", "ground_glass"
    attachment: str = ""  # "pleura", "vessel", "free"; "" when nobody looked


@dataclass(frozen=True)
class Growth:
    """Change since an earlier CT of the same patient (`domain.growth`); information, no judgement.

    diameters are means of long and short axis in mm; change in percent None when the earlier volume was 0
    """

    prior_study_uid: str
    days: int
    prior_diameter_mm: float
    prior_volume_mm3: float
    diameter_change_mm: float
    volume_change_percent: float | None


@dataclass(frozen=True)
class Finding:
    """One coded observation of one Run.

    probability_raw  what the network said; probability is calibrated (both in [0, 1])
    threshold        calibrated probability from which the finding is actionable; None: stored, never pushed
    actionable       probability >= threshold, decided once with the release's operating point
    """

    name: str
    probability_raw: float
    probability: float
    band: Band
    actionable: bool
    threshold: float | None = None
    location: Location | None = None
    measurements: Measurements | None = None
    growth: Growth | None = None

    @property
    def coded(self) -> FindingCode:
        return FINDING_CODES[self.name]


def shown(finding: Finding, mode: Mode, *, may_see_inside: bool) -> Finding:
    """The finding as this viewer may see it: the one gate for places and measurements.

    may_see_inside  role QA, or a reader who opened the study in overlay mode
    source          21 CFR 892.2080: a triage device does not point to a place on the image
    """
    if may_see_inside or mode is Mode.OVERLAY:
        return finding
    return replace(finding, location=None, measurements=None, growth=None)


def as_json(finding: Finding) -> dict[str, Any]:
    """The contract of `assess --json` (architecture 8)."""
    coded = finding.coded
    m = finding.measurements
    return {
        "code": coded.code,
        "scheme": coded.scheme,
        "name": finding.name,
        "display": coded.display,
        "probability_raw": round(finding.probability_raw, 6),
        "probability": round(finding.probability, 6),
        "band": finding.band.value,
        "actionable": finding.actionable,
        "threshold": finding.threshold,
        "location": None
        if finding.location is None
        else {
            "outline": [list(p) for p in finding.location.outline],
            "side": finding.location.side,
            "zone": finding.location.zone,
        },
        "measurements": None
        if m is None
        else {
            "center_lps_mm": list(m.center_lps_mm),
            "long_axis_mm": m.long_axis_mm,
            "short_axis_mm": m.short_axis_mm,
            "volume_mm3": m.volume_mm3,
            "mean_hu": m.mean_hu,
            "texture": m.texture,
            "attachment": m.attachment,
        },
        "growth": None if finding.growth is None else asdict(finding.growth),
    }
