"""Tag rules: what may be looked at, and the reason a reader sees when not."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from tests.domain.test_stack import EVEN, a_series
from triage.dicom.header import read_header
from triage.domain.eligibility import choose_series, ct_series_answer, radiograph_answer, view_of
from triage.domain.errors import Refused
from triage.domain.stack import ladder
from triage.domain.study import (
    CR,
    DX_FOR_PRESENTATION,
    DX_FOR_PROCESSING,
    SECONDARY_CAPTURE,
    InstanceHeader,
    SeriesInstanceUID,
    SOPInstanceUID,
    StudyInstanceUID,
)
from triage.domain.suitability import NotSuitable, ReasonCode


def a_film(**changes: object) -> InstanceHeader:
    film = InstanceHeader(
        sop_class_uid=DX_FOR_PRESENTATION,
        sop_instance_uid=SOPInstanceUID("1.2.1"),
        study_instance_uid=StudyInstanceUID("1.2"),
        series_instance_uid=SeriesInstanceUID("1.2.2"),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="DX",
        presentation_intent_type="FOR PRESENTATION",
        image_type=("DERIVED", "PRIMARY"),
        body_part_examined="CHEST",
        view_position="PA",
        patient_orientation=("L", "F"),
        patient_age_years=58.0,
        rows=2500,
        columns=2000,
    )
    return replace(film, **changes)  # type: ignore[arg-type]


def code(answer: NotSuitable | None) -> ReasonCode | None:
    return answer.code if answer else None


def test_an_adult_frontal_chest_film_may_be_looked_at() -> None:
    assert radiograph_answer(a_film()) is None
    assert radiograph_answer(a_film(sop_class_uid=CR, modality="CR", presentation_intent_type="")) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sop_class_uid": SECONDARY_CAPTURE}, ReasonCode.SECONDARY_CAPTURE),
        ({"modality": "MG"}, ReasonCode.WRONG_MODALITY),
        ({"has_pixel_data": False}, ReasonCode.PIXELS_MISSING),
        ({"sop_class_uid": DX_FOR_PROCESSING}, ReasonCode.FOR_PROCESSING),
        ({"species": "Canis lupus familiaris"}, ReasonCode.WRONG_BODY_PART),
        ({"image_type": ("DERIVED", "SECONDARY")}, ReasonCode.DERIVED),
        ({"image_type": ("DERIVED", "PRIMARY", "SUBTRACTED")}, ReasonCode.DERIVED),
        ({"body_part_examined": "KNEE"}, ReasonCode.WRONG_BODY_PART),
        ({"body_part_examined": ""}, ReasonCode.WRONG_BODY_PART),
        ({"body_part_examined": "", "anatomic_region_code": "72696002,SCT"}, ReasonCode.WRONG_BODY_PART),
        ({"view_position": "LL"}, ReasonCode.LATERAL_ONLY),
        ({"patient_orientation": ("A", "F")}, ReasonCode.LATERAL_ONLY),
        ({"view_position": "LLD"}, ReasonCode.POSITION_OUT_OF_SCOPE),
        ({"view_position": "", "view_code": ""}, ReasonCode.VIEW_UNKNOWN),
        ({"view_position": "", "view_code": "399182000"}, ReasonCode.POSITION_OUT_OF_SCOPE),
        ({"number_of_frames": 2}, ReasonCode.GEOMETRY),
        ({"rows": 180}, ReasonCode.TOO_SMALL),
        ({"rows": 0}, ReasonCode.CORRUPT_PIXELS),
        ({"columns": 5000}, ReasonCode.GEOMETRY),
        ({"patient_age_years": None}, ReasonCode.AGE_UNKNOWN),
        ({"patient_age_years": 17.99}, ReasonCode.OUT_OF_AGE),
    ],
)
def test_a_film_that_no_release_was_built_for_is_refused_with_its_reason(
    changes: dict[str, object], reason: ReasonCode
) -> None:
    assert code(radiograph_answer(a_film(**changes))) is reason


@pytest.mark.parametrize(
    "changes",
    [
        {"body_part_examined": "THORAX"},
        {"body_part_examined": "", "anatomic_region_code": "816094009,SCT"},
        {"body_part_examined": "", "sop_class_uid": CR, "modality": "CR", "study_description": "Thorax pa"},
        {"view_position": "", "view_code": "399348003"},
        {"view_position": "", "view_code": "R-10206"},
        {"patient_orientation": ("R", "F")},
        {"patient_age_years": 18.0},
    ],
)
def test_the_many_ways_to_say_frontal_chest_are_understood(changes: dict[str, object]) -> None:
    assert radiograph_answer(a_film(**changes)) is None


def test_the_view_is_what_a_tag_says_and_nothing_is_guessed() -> None:
    assert view_of(a_film(view_position="AP")) == "AP"
    assert view_of(a_film(view_position="", view_code="399033003")) == "FRONTAL"
    assert view_of(a_film(view_position="", patient_position="PA")) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sop_class_uid": SECONDARY_CAPTURE}, ReasonCode.SECONDARY_CAPTURE),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4", "modality": "MR"}, ReasonCode.WRONG_MODALITY),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, ReasonCode.LOCALIZER),
        ({"image_type": ("DERIVED", "SECONDARY", "AXIAL")}, ReasonCode.DERIVED),
        ({"image_type": ("DERIVED", "PRIMARY", "AXIAL", "MIP")}, ReasonCode.PROJECTION_MIP),
        ({"image_type": ("DERIVED", "PRIMARY", "AXIAL", "IODINE")}, ReasonCode.DERIVED),
        ({"image_type": ("ORIGINAL", "PRIMARY", "SCREENSAVE")}, ReasonCode.SECONDARY_CAPTURE),
        ({"has_pixel_data": False}, ReasonCode.PIXELS_MISSING),
        ({"body_part_examined": "HEAD"}, ReasonCode.WRONG_BODY_PART),
        ({"rescale_slope": None}, ReasonCode.NO_RESCALE),
        ({"rescale_slope": 0.0}, ReasonCode.NO_RESCALE),
        ({"rescale_type": "US"}, ReasonCode.NO_RESCALE),
        ({"patient_age_years": 12.0}, ReasonCode.OUT_OF_AGE),
        ({"slice_thickness_mm": 5.0}, ReasonCode.THICK_SLICES),
        ({"pixel_spacing_mm": (2.0, 2.0)}, ReasonCode.GEOMETRY),
        ({"pixel_spacing_mm": (0.7, 0.9)}, ReasonCode.GEOMETRY),
    ],
)
def test_a_series_that_is_no_axial_chest_ct_is_refused_with_its_reason(
    changes: dict[str, object], reason: ReasonCode
) -> None:
    series = [replace(h, pixel_spacing_mm=(0.7, 0.7)) for h in a_series(EVEN)]
    assert ct_series_answer(series) is None
    assert code(ct_series_answer([replace(h, **changes) for h in series])) is reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "odd",
    [
        {"sop_class_uid": SECONDARY_CAPTURE},
        {"image_type": ("DERIVED", "SECONDARY", "SCREENSAVE")},
        {"image_type": ("DERIVED", "PRIMARY", "AXIAL", "MIP")},
        {"image_position_patient": None, "rescale_slope": None},
    ],
)
def test_a_few_odd_images_cost_a_scan_nothing_and_many_refuse_it(odd: dict[str, object]) -> None:
    scan = [replace(h, pixel_spacing_mm=(0.7, 0.7)) for h in a_series(EVEN)]
    strange = [replace(h, **odd) for h in scan]  # type: ignore[arg-type]
    assert ct_series_answer([strange[0], *scan]) is None
    assert ct_series_answer([*scan, *strange[:2]]) is None  # at the places of two slices: no duplicates
    assert ladder([*scan, *strange[:2]]) == ladder(scan)
    assert ct_series_answer([*scan, *strange[:3]]) is not None
    assert ct_series_answer([strange[0], *scan[:7]]) is not None  # what is left is no stack
    assert ct_series_answer([strange[0], *scan[:4], *scan[5:]]) is not None  # nor where one of it is missing


def test_a_scan_whose_frames_say_their_own_spacing_is_judged_when_it_is_opened() -> None:
    enhanced = replace(a_series(EVEN)[0], pixel_spacing_mm=None, number_of_frames=40)
    assert ct_series_answer([enhanced]) is None


def test_a_scout_of_a_film_and_a_view_nobody_knows_are_named() -> None:
    assert code(radiograph_answer(a_film(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")))) is (
        ReasonCode.LOCALIZER
    )
    assert view_of(a_film(view_position="SWIMMER")) == "OTHER"


def test_thick_steps_come_before_every_other_geometry() -> None:
    assert code(ct_series_answer(a_series([5.0 * k for k in range(12)]))) is ReasonCode.THICK_SLICES


def test_an_unknown_age_does_not_stop_a_scan() -> None:
    series = [replace(h, patient_age_years=None, pixel_spacing_mm=(0.7, 0.7)) for h in a_series(EVEN)]
    assert ct_series_answer(series) is None


def _named(
    uid: str, step_mm: float, count: int, **changes: object
) -> tuple[SeriesInstanceUID, list[InstanceHeader]]:
    slices = a_series([round(step_mm * k, 3) for k in range(count)])
    return SeriesInstanceUID(uid), [
        replace(h, series_instance_uid=SeriesInstanceUID(uid), pixel_spacing_mm=(0.7, 0.7), **changes)  # type: ignore[arg-type]
        for h in slices
    ]


def test_of_many_reconstructions_the_thin_whole_axial_one_is_chosen_and_losers_keep_their_reason() -> None:
    study = dict(
        (
            _named("1.1", 5.0, 60),
            _named("1.2", 1.0, 300, convolution_kernel="B70f"),
            _named("1.3", 1.0, 300, convolution_kernel="B30f"),
            _named("1.4", 2.0, 20),
            _named("1.5", 1.0, 300, series_description="LUNG MIP"),
        )
    )
    choice = choose_series(study, frozenset({"B30f"}))
    assert choice.chosen == "1.3"
    assert set(choice.because) == {"1.1", "1.2", "1.4", "1.5"}
    assert "too thick" in choice.because[SeriesInstanceUID("1.1")]
    said = {uid: choice.because[SeriesInstanceUID(uid)] for uid in ("1.2", "1.4", "1.5")}
    assert said == {
        "1.2": "another series is read: a kernel that the detector prefers",
        "1.4": "another series is read: thinner slices, the whole chest, a kernel that the detector prefers",
        "1.5": "another series is read: a kernel that the detector prefers, no projection",
    }
    assert choose_series(dict(reversed(study.items())), frozenset({"B30f"})) == choice


def test_a_scout_at_the_head_of_the_better_series_and_a_thick_leftover_cost_it_nothing() -> None:
    uid, thin = _named("1.2", 1.0, 200)
    scout = replace(thin[0], image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), image_position_patient=None)
    leftover = [replace(h, slice_thickness_mm=5.0, rows=32) for h in thin[:3]]
    study = {uid: [scout, *leftover, *thin], **dict((_named("1.3", 2.0, 100),))}
    choice = choose_series(study)
    assert choice.chosen == uid
    assert choice.because == {"1.3": "another series is read: thinner slices"}


def test_ties_go_to_the_lower_series_number_then_to_the_uid() -> None:
    study = dict((_named("1.9", 1.0, 300, series_number=2), _named("1.8", 1.0, 300, series_number=3)))
    choice = choose_series(study)
    assert choice.chosen == "1.9"
    assert choice.because == {"1.8": "series 2 is read: the lower number"}
    assert choose_series({}).chosen is None


# What the tags alone must say of the shared sets; `image_gate`, `blank`, `orientation` and the like are for pixels.
BY_TAGS = {
    "eligible": {None},
    "refuse:paediatric": {ReasonCode.OUT_OF_AGE},
    "refuse:age_unknown": {ReasonCode.AGE_UNKNOWN},
    "refuse:age_conflict": {ReasonCode.AGE_UNKNOWN},
    "refuse:body_part": {ReasonCode.WRONG_BODY_PART, ReasonCode.SECONDARY_CAPTURE},
    "refuse:body_part_unknown": {ReasonCode.WRONG_BODY_PART},
    "refuse:derived": {ReasonCode.DERIVED},
    "refuse:for_processing": {ReasonCode.FOR_PROCESSING},
    "refuse:view_unknown": {ReasonCode.VIEW_UNKNOWN, ReasonCode.SECONDARY_CAPTURE},
    "refuse:view_lateral": {ReasonCode.LATERAL_ONLY},
    "refuse:secondary_capture": {ReasonCode.SECONDARY_CAPTURE},
    "refuse:secondary_capture/colour": {ReasonCode.SECONDARY_CAPTURE},
    "refuse:test_pattern": {ReasonCode.SECONDARY_CAPTURE},
    "refuse:too_small": {ReasonCode.TOO_SMALL},
    "refuse:multi_frame": {ReasonCode.GEOMETRY},
    "refuse:modality": {ReasonCode.WRONG_MODALITY, ReasonCode.SECONDARY_CAPTURE},
    "refuse:modality/secondary_capture": {ReasonCode.WRONG_MODALITY, ReasonCode.SECONDARY_CAPTURE},
    "refuse:not_an_image": {ReasonCode.WRONG_MODALITY, ReasonCode.PIXELS_MISSING},
    "refuse:image_gate": {None, ReasonCode.TOO_SMALL},
    "refuse:orientation": {None},
    "refuse:blank": {None},
}


@pytest.mark.shared_data
def test_every_shared_film_ends_as_its_index_says(shared_data: Path) -> None:
    wrong, judged = [], 0
    with (shared_data / "dicom/index.csv").open() as index:
        for row in csv.DictReader(index):
            expected = row["expected"].replace(";", " ").replace("(", " ").split()[0]
            if expected not in BY_TAGS:
                continue
            try:
                header = read_header(shared_data / "dicom" / row["file"])
            except Refused:
                if expected == "eligible":
                    wrong.append((row["file"], "refused"))
                continue
            judged += 1
            found = code(radiograph_answer(header))
            if found not in BY_TAGS[expected]:
                wrong.append((row["file"], f"{expected}: {found}"))
    assert not wrong
    assert judged > 180


SCANS = {
    "head_ge": ReasonCode.WRONG_BODY_PART,
    "head_philips_steep": ReasonCode.WRONG_BODY_PART,
    "scout_head": ReasonCode.LOCALIZER,
    "scout_chest": ReasonCode.LOCALIZER,
    "scout_abdomen": ReasonCode.LOCALIZER,
    "head_neck_cerr": ReasonCode.GEOMETRY,
    "chest_8mm": ReasonCode.THICK_SLICES,
    "chest_5mm": ReasonCode.THICK_SLICES,
    "chest_sagittal": ReasonCode.PROJECTION_MIP,
    "chest_gaps": ReasonCode.GAP_IN_SERIES,
    "chest_two_slices": ReasonCode.FEW_SLICES,
    # for the pixels to say: part of the lungs, no lungs, a slice twice
    "lung_bases_kits": None,
    "abdomen_header_chest": None,
    "chest_duplicate_slice": None,
    "chest_covidmd_normal001": None,
    "chest_lidc0001_stretch": None,
    "chest_nbia0117_feetfirst": None,
    "chest_enhanced_16": None,
}


@pytest.mark.shared_data
def test_every_shared_scan_ends_as_its_index_says(shared_data: Path) -> None:
    found = {}
    for folder in (*(shared_data / "ct/gate").iterdir(), *(shared_data / "ct/dicom").iterdir()):
        if folder.is_dir():
            headers = [read_header(path) for path in folder.iterdir()]
            found[folder.name] = code(ct_series_answer(headers))
    assert found == SCANS
