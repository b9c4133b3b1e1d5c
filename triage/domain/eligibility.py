"""Tag rules: may a film or a CT series be looked at, and which series of a study? (standards 4)

Tags lie, so pixels are judged after them (`detectors`); but what the tags refuse is never decoded. Order of the rules
is order of the reasons a reader would give first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triage.domain.odd_images import SECONDARY_CAPTURES, no_slice, without_odd_ones
from triage.domain.slice_groups import LEAST_SLICES
from triage.domain.stack import LOCALIZER, ladder, plan_stack
from triage.domain.study import (
    CT_CLASSES,
    DX_FOR_PROCESSING,
    RADIOGRAPH_CLASSES,
    InstanceHeader,
    SeriesInstanceUID,
)
from triage.domain.suitability import NotSuitable, NotSuitableError, ReasonCode

# Film (standards 4.1)
FILM_MODALITIES = frozenset({"CR", "DX", "RG", "XR"})
CHEST_PARTS = frozenset(
    [
        "CHEST",
        "THORAX",
        "TORAX",
        "THX",
        "LUNG",
        "LUNGS",
        "CXR",
        "BRUSTKORB",
        "POUMON",
        "PECHO",
        "TORACE",
        "胸部",
    ]
) | {"CHEST PA", "CHEST_PA", "CHEST AP", "CHEST_AP", "THORAX AP", "THORAX PA"}
CHEST_REGIONS = frozenset({"816094009,SCT", "51185008,SCT", "T-D3000,SRT", "T-D3000,SNM3"})
CHEST_WORDS = re.compile(r"\b(CHEST|THORAX|THORACE|TORAX|TORACE|CXR|LUNGS?|BRUSTKORB|POUMONS?|PECHO)\b|胸部")
LATERAL_VIEWS = frozenset({"LL", "RL", "LAT", "LATERAL"})
OTHER_VIEWS = frozenset({"LLD", "RLD", "LLO", "RLO", "RAO", "LAO", "RPO", "LPO"})
VIEW_CODES: Mapping[str, str] = {  # CID 4010, SCT and the older SRT
    "272479007": "PA", "R-40888": "PA", "R-10214": "PA",
    "399348003": "AP", "R-10206": "AP",
    "399033003": "FRONTAL", "R-10202": "FRONTAL",
    "399067008": "LATERAL", "399173006": "LATERAL", "399198007": "LATERAL",
    "R-10236": "LATERAL", "R-10232": "LATERAL", "R-102CD": "LATERAL",
}  # fmt: skip
NOT_A_FILM = frozenset({"SCREEN SAVE", "STITCHED", "TOMO", "DUAL", "SUBTRACTED", "CAD", "ICON"})
SHORTEST_SIDE = 200
SIDE_RATIO = (0.6, 1.7)  # columns to rows
PEOPLE = frozenset({"", "HOMO SAPIENS", "HUMAN"})

# CT (standards 4.2)
NOT_CHEST_PARTS = frozenset(
    {"HEAD", "BRAIN", "SKULL", "NECK", "HEADNECK", "FACE", "ORBIT", "SINUS", "IAC", "EAR", "CSPINE", "LSPINE"}
    | {"PELVIS", "HIP", "KNEE", "ANKLE", "FOOT", "LEG", "HAND", "WRIST", "ELBOW", "SHOULDER", "EXTREMITY"}
)
STEP_LIMIT_MM = THICKNESS_LIMIT_MM = 3.0
# Standards 4.2 names 0.35 to 1.1; a chest in a 256 matrix (older scans, our gate series) has up to 1.5.
IN_PLANE_MM = (0.35, 1.5)
SQUARE_SHARE = 0.01
WHOLE_CHEST_MM, WHOLE_CHEST_SLICES = 150.0, 60


def radiograph_answer(header: InstanceHeader, minimum_age: float = 18) -> NotSuitable | None:
    """May the film detector look at this object, by its tags? None: yes.

    minimum_age  years; a release is cleared for adults
    source       standards 4.1
    """
    for rule in (_film_class, _film_kind, _film_body_part, _film_view, _film_shape):
        answer = rule(header)
        if answer is not None:
            return answer
    return _film_age(header, minimum_age)


def view_of(header: InstanceHeader) -> str:
    """ "PA", "AP", "FRONTAL", "LATERAL", "OTHER" or "" where no tag says; Patient Position is no view.

    Patient Orientation is not asked for a frontal view: consoles write L\\F by default, also on laterals. One that
    contradicts (A or P along a row) makes the film lateral.
    """
    along_row = header.patient_orientation[0][:1] if header.patient_orientation else ""
    if header.view_position in LATERAL_VIEWS or along_row in ("A", "P"):
        return "LATERAL"
    if header.view_position in OTHER_VIEWS:
        return "OTHER"
    if header.view_position in ("PA", "AP"):
        return header.view_position
    if header.view_position:
        return "OTHER"
    return VIEW_CODES.get(header.view_code, "OTHER" if header.view_code else "")


def ct_series_answer(headers: Sequence[InstanceHeader], minimum_age: float = 18) -> NotSuitable | None:
    """May the nodule detector look at this series, by its tags and positions? None: yes.

    headers  every instance of the series; a multi-frame instance is judged by its shared values, and its frames'
             positions when it is decoded. A few odd ones (`odd_images`) are left out
    age      unknown is let through: archives of scans often have none, and a child's series is refused when known
    source   standards 4.2, 5.2
    """
    assert headers
    headers = without_odd_ones(headers)
    slices = [h for h in headers if LOCALIZER not in h.image_type]
    if other := [h for h in headers if h.sop_class_uid not in CT_CLASSES]:
        return no_slice(other[0])
    if not slices:
        return NotSuitable(ReasonCode.LOCALIZER)
    if not any(h.has_pixel_data for h in slices):
        return NotSuitable(ReasonCode.PIXELS_MISSING)
    first = slices[0]
    for rule in (_ct_kind, _ct_body_part, _ct_rescale):
        answer = rule(slices)
        if answer is not None:
            return answer
    if first.patient_age_years is not None and first.patient_age_years < minimum_age:
        return _too_young(first.patient_age_years, minimum_age)
    return _ct_geometry(slices)


def _film_class(h: InstanceHeader) -> NotSuitable | None:
    if h.sop_class_uid in SECONDARY_CAPTURES:
        return NotSuitable(ReasonCode.SECONDARY_CAPTURE)
    if h.sop_class_uid not in RADIOGRAPH_CLASSES or h.modality not in FILM_MODALITIES:
        return NotSuitable(ReasonCode.WRONG_MODALITY, h.modality)
    if not h.has_pixel_data:
        return NotSuitable(ReasonCode.PIXELS_MISSING)
    if h.sop_class_uid == DX_FOR_PROCESSING or h.presentation_intent_type == "FOR PROCESSING":
        return NotSuitable(ReasonCode.FOR_PROCESSING)
    if h.species.upper() not in PEOPLE:
        return NotSuitable(ReasonCode.WRONG_BODY_PART, "not a person")
    return None


def _film_kind(h: InstanceHeader) -> NotSuitable | None:
    if LOCALIZER in h.image_type:
        return NotSuitable(ReasonCode.LOCALIZER)
    if h.image_type[1:2] == ("SECONDARY",):
        return NotSuitable(ReasonCode.DERIVED, "image type SECONDARY")
    odd = NOT_A_FILM.intersection(h.image_type[2:])
    return NotSuitable(ReasonCode.DERIVED, f"image type {min(odd)}") if odd else None


def _film_body_part(h: InstanceHeader) -> NotSuitable | None:
    """Body part, else the coded region; a CR has no code and may leave its body part empty: then its words count."""
    if h.body_part_examined:
        if h.body_part_examined in CHEST_PARTS:
            return None
        return NotSuitable(ReasonCode.WRONG_BODY_PART, h.body_part_examined[:16])
    if h.anatomic_region_code:
        return None if h.anatomic_region_code in CHEST_REGIONS else NotSuitable(ReasonCode.WRONG_BODY_PART)
    if h.modality == "CR" and CHEST_WORDS.search(_words(h)):
        return None
    return NotSuitable(ReasonCode.WRONG_BODY_PART, "body part not given")


def _film_view(h: InstanceHeader) -> NotSuitable | None:
    view = view_of(h)
    if view == "LATERAL":
        return NotSuitable(ReasonCode.LATERAL_ONLY)
    if view == "OTHER":
        return NotSuitable(ReasonCode.POSITION_OUT_OF_SCOPE, h.view_position[:16])
    return NotSuitable(ReasonCode.VIEW_UNKNOWN) if not view else None


def _film_shape(h: InstanceHeader) -> NotSuitable | None:
    if h.number_of_frames != 1:
        return NotSuitable(ReasonCode.GEOMETRY, f"{h.number_of_frames} frames in one film")
    if not h.rows or not h.columns:
        return NotSuitable(ReasonCode.CORRUPT_PIXELS, "rows and columns missing")
    if min(h.rows, h.columns) < SHORTEST_SIDE:
        return NotSuitable(ReasonCode.TOO_SMALL, f"{h.rows} x {h.columns} pixels, at least {SHORTEST_SIDE}")
    if not SIDE_RATIO[0] <= h.columns / h.rows <= SIDE_RATIO[1]:
        return NotSuitable(ReasonCode.GEOMETRY, f"{h.rows} x {h.columns} pixels")
    return None


def _film_age(h: InstanceHeader, minimum_age: float) -> NotSuitable | None:
    if h.patient_age_years is None:
        return NotSuitable(ReasonCode.AGE_UNKNOWN)
    return _too_young(h.patient_age_years, minimum_age) if h.patient_age_years < minimum_age else None


def _too_young(age_years: float, minimum_age: float) -> NotSuitable:
    return NotSuitable(ReasonCode.OUT_OF_AGE, f"{int(age_years)} years, from {minimum_age:g}")


def _ct_kind(slices: Sequence[InstanceHeader]) -> NotSuitable | None:
    return next((answer for h in slices if (answer := no_slice(h))), None)


def _ct_body_part(slices: Sequence[InstanceHeader]) -> NotSuitable | None:
    """Only what cannot hold a lung is refused; headers of a chest say ABDOMEN often enough, pixels decide then."""
    part = slices[0].body_part_examined
    if part in NOT_CHEST_PARTS and not CHEST_WORDS.search(_words(slices[0])):
        return NotSuitable(ReasonCode.WRONG_BODY_PART, part)
    return None


def _ct_rescale(slices: Sequence[InstanceHeader]) -> NotSuitable | None:
    for h in slices:
        if not h.rescale_slope or h.rescale_intercept is None:
            return NotSuitable(ReasonCode.NO_RESCALE)
        if h.rescale_type and not h.rescale_type.startswith(("HU", "HOUN")):
            return NotSuitable(ReasonCode.NO_RESCALE, f"rescale type {h.rescale_type[:16]}")
    return None


def _ct_geometry(slices: Sequence[InstanceHeader]) -> NotSuitable | None:
    read = slices
    if all(h.number_of_frames == 1 for h in slices):
        step_mm = ladder(slices).step_mm
        if step_mm is not None and step_mm > STEP_LIMIT_MM and len(slices) >= LEAST_SLICES:
            return NotSuitable(ReasonCode.THICK_SLICES, f"{step_mm:.1f} mm apart, limit {STEP_LIMIT_MM}")
        try:
            read = [slices[i] for i in plan_stack(slices).order]
        except NotSuitableError as e:
            return e.answer
    thickest = max((h.slice_thickness_mm or 0.0) for h in read)
    if thickest > THICKNESS_LIMIT_MM:
        return NotSuitable(ReasonCode.THICK_SLICES, f"{thickest:.1f} mm, limit {THICKNESS_LIMIT_MM}")
    return _in_plane(read[0])


def _in_plane(h: InstanceHeader) -> NotSuitable | None:
    if h.pixel_spacing_mm is None:
        return None  # of several frames: said by each, judged when they are opened
    between_rows, between_columns = h.pixel_spacing_mm
    square = abs(between_rows - between_columns) <= SQUARE_SHARE * between_rows
    if square and IN_PLANE_MM[0] <= between_rows <= IN_PLANE_MM[1]:
        return None
    return NotSuitable(ReasonCode.GEOMETRY, f"pixels of {between_rows:.2f} x {between_columns:.2f} mm")


def _words(h: InstanceHeader) -> str:
    return f"{h.study_description} {h.series_description} {h.protocol_name}".upper()


@dataclass(frozen=True)
class SeriesChoice:
    """chosen: None when no series may be read; because: why each of the others was not, for the reader."""

    chosen: SeriesInstanceUID | None
    because: Mapping[SeriesInstanceUID, str]


def choose_series(
    series: Mapping[SeriesInstanceUID, Sequence[InstanceHeader]],
    preferred_kernels: frozenset[str] = frozenset(),
    minimum_age: float = 18,
) -> SeriesChoice:
    """The one CT series of a study that a detector reads, deterministic; losers keep their reason.

    preferred_kernels  of the release: first values of (0018,1210); what follows there is how it was computed
    source             standards 4.2 (scores and ties)
    """
    because: dict[SeriesInstanceUID, str] = {}
    merits: dict[SeriesInstanceUID, dict[str, float]] = {}
    for uid, headers in series.items():
        answer = ct_series_answer(headers, minimum_age)
        if answer is None:
            merits[uid] = _merits(headers, preferred_kernels)
        else:
            because[uid] = answer.sentence
    if not merits:
        return SeriesChoice(None, because)

    def rank(uid: SeriesInstanceUID) -> tuple[float, int, int, str]:
        number = series[uid][0].series_number
        return (-sum(merits[uid].values()), -len(series[uid]), 10**9 if number is None else number, uid)

    chosen = min(merits, key=rank)
    number = series[chosen][0].series_number
    name = "another series" if number is None else f"series {number}"
    for uid in merits:
        if uid != chosen:
            better = [word for word, points in merits[chosen].items() if points > merits[uid][word]]
            if not better:
                better = ["more slices" if len(series[chosen]) > len(series[uid]) else "the lower number"]
            because[uid] = f"{name} is read: {', '.join(better)}"
    return SeriesChoice(chosen, because)


def _merits(headers: Sequence[InstanceHeader], preferred_kernels: frozenset[str]) -> dict[str, float]:
    """Points of standards 4.2, each under the words that say it of the better series."""
    slices = [h for h in without_odd_ones(headers) if LOCALIZER not in h.image_type]
    first = slices[0]
    frames = sum(h.number_of_frames for h in slices)
    step_mm = ladder(slices).step_mm or first.slice_thickness_mm or STEP_LIMIT_MM
    whole = frames >= WHOLE_CHEST_SLICES and frames * step_mm >= WHOLE_CHEST_MM
    words = _words(first)
    return {
        "thinner slices": 3 if step_mm <= 1.25 else 2 if step_mm <= 2 else 1,
        "original axial images": 2
        if first.image_type[:1] == ("ORIGINAL",) and "AXIAL" in first.image_type
        else 0,
        "the whole chest": 2 if whole else -3,
        "inspiration": 1 if re.search(r"\bINSP", words) else 0,
        "a kernel that the detector prefers": 1
        if first.convolution_kernel.split("\\")[0].strip() in preferred_kernels
        else 0,
        "no projection": -5 if re.search(r"\bM(AX|IN)?IP\b", words) else 0,
    }
