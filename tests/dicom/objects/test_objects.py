"""Reports and flags: valid for outside judges, true to what was found, and silent about places in triage-only mode."""

from __future__ import annotations

from pathlib import Path

import highdicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from tests.dicom.objects import judges
from tests.dicom.objects.analyses import ENDED, LARGE, SMALL, an_analysis
from tests.dicom.objects.judges import content_items, named, read, walk
from tests.factories import a_finding, a_header, uid
from triage.dicom.header import read_header
from triage.dicom.objects import kos, note, sr
from triage.dicom.objects.common import Analysis, Reference, series_description
from triage.dicom.objects.kinds import SOP_CLASSES
from triage.domain.errors import Refused
from triage.domain.finding import FINDING_CODES, Growth, Location, Mode
from triage.domain.rejection import Reason
from triage.phantom import identity_for, make_thorax, write_radiograph

TRIAGE_ONLY, OVERLAY = Mode.TRIAGE_ONLY, Mode.OVERLAY
CASES = {
    "film": an_analysis(),
    "film with outlines": an_analysis(mode=OVERLAY),
    "film without flag": an_analysis(findings=()),
    "scan": an_analysis("CT"),
    "scan with measurements": an_analysis("CT", OVERLAY),
    "scan without flag": an_analysis("CT", findings=()),
    "corrected film": an_analysis(
        predecessors=(Reference(uid(1), uid(1, 9), sr.COMPREHENSIVE_3D_SR, uid(1, 9, 1)),)
    ),
    "odd header": an_analysis(
        findings=tuple(a_finding(name) for name in FINDING_CODES),
        header={
            "patient_name": "Wang^XiaoDong=王^小东", "patient_id": "", "patient_sex": "MALE", "study_time": "11:55",
            "study_date": "", "accession_number": "", "timezone_offset": "+0545", "patient_birth_date": "",
        },
    ),
}  # fmt: skip
PLACE_CODES = {
    "363698007",
    "272741003",
    "106233006",
    "111030",
    "121231",
    "121191",
    "121214",
    "121200",
    "121233",
}


@pytest.mark.parametrize("case", CASES)
def test_every_object_is_valid_for_dciodvfy(case: str, tmp_path: Path) -> None:
    for build in (sr.build, kos.build):
        made = build(CASES[case])
        if made is not None:
            path = tmp_path / f"{made.kind}.dcm"
            path.write_bytes(made.content)
            assert judges.dciodvfy(path) == []


@pytest.mark.interop
@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("film", "sr"),
        ("film", "kos"),
        ("film with outlines", "sr"),
        ("scan", "sr"),
        ("scan with measurements", "sr"),
        ("scan with measurements", "kos"),
    ],
)
def test_every_template_is_valid_for_pixelmed(case: str, kind: str, tmp_path: Path) -> None:
    made = sr.build(CASES[case]) if kind == "sr" else _flag(CASES[case])
    path = tmp_path / "object.dcm"
    path.write_bytes(made.content)
    assert judges.pixelmed(path) == []


@pytest.mark.interop
@pytest.mark.parametrize("reason", [Reason.QUALITY, Reason.SAFETY, Reason.EXPIRED])
def test_a_note_that_takes_our_objects_back_is_valid_for_both_judges(reason: Reason, tmp_path: Path) -> None:
    analysis = an_analysis("CT", OVERLAY)
    study = analysis.sources[0].study_instance_uid
    ours = [
        Reference(study, f"1.2.{i}", sop_class, f"1.3.{i}")
        for i, sop_class in enumerate(SOP_CLASSES.values())
    ]
    made = note.build(analysis, ours[:-1], reason, "it names whom the study was of before", peer="PACS")
    path = tmp_path / "note.dcm"
    path.write_bytes(made.content)
    assert judges.dciodvfy(path) == []
    assert judges.pixelmed(path) == []
    assert note.build(analysis, ours[:1], reason, "x", peer="OTHER").sop_instance_uid != made.sop_instance_uid


@pytest.mark.parametrize("modality", ["DX", "CT"])
def test_triage_only_tells_no_place_no_side_and_no_size_anywhere(modality: str) -> None:
    analysis = an_analysis(modality, TRIAGE_ONLY)
    for made in (sr.build(analysis), kos.build(analysis)):
        assert made is not None
        ds = read(made)
        names = {
            i.ConceptNameCodeSequence[0].CodeValue
            for i in content_items(ds)
            if "ConceptNameCodeSequence" in i
        }
        assert not names & PLACE_CODES
        assert {i.ValueType for i in content_items(ds)} <= {
            "CONTAINER",
            "CODE",
            "TEXT",
            "UIDREF",
            "IMAGE",
            "NUM",
        }
        numbers = [i for i in content_items(ds) if i.ValueType == "NUM"]
        assert {i.ConceptNameCodeSequence[0].CodeValue for i in numbers} <= {"111012"}  # how sure, in percent
        for keyword, value in walk(ds):
            assert keyword not in {"GraphicData", "ReferencedFrameNumber", "Laterality", "ImageLaterality"}
            words = str(value).lower().replace("^", " ").split()
            assert not {"left", "right", "upper", "lower", "mm", "slice", "lobe", "bilateral"} & set(words), (
                keyword
            )
        shown = {s.ReferencedSOPInstanceUID for i in content_items(ds) if i.ValueType == "IMAGE"
                 for s in i.ReferencedSOPSequence}  # fmt: skip
        assert shown == {h.sop_instance_uid for h in analysis.sources}  # all of them, so none in particular


def test_a_flagged_film_is_one_group_for_each_kind_of_finding() -> None:
    ds = read(sr.build(CASES["film"]))
    findings = [i.ConceptCodeSequence[0].CodeValue for i in named(ds, "121071")]
    assert findings == ["36118008", "60046008"]
    assert [i.TextValue for i in named(ds, "112039")] == ["chest_xray/pneumothorax", "chest_xray/effusion"]
    certainty = named(ds, "111012")[0].MeasuredValueSequence[0]
    assert (certainty.NumericValue, certainty.FloatingPointValue) == (93, 93.0)
    assert certainty.MeasurementUnitsCodeSequence[0].CodeValue == "%"
    assert "Not assessed: fracture, lung opacity." in [i.TextValue for i in named(ds, "121106")]


def test_several_nodules_are_one_suspicion_where_places_may_not_be_told() -> None:
    nodules = tuple(a_finding("nodule", p) for p in (0.6, 0.9, 0.7))
    ds = read(sr.build(an_analysis("CT", findings=nodules)))
    assert [i.MeasuredValueSequence[0].NumericValue for i in named(ds, "111012")] == [90]


def test_a_run_without_flag_is_never_called_normal_or_absent() -> None:
    analysis = CASES["film without flag"]
    ds = read(sr.build(analysis))
    said = [i.TextValue for i in named(ds, "121106")]
    assert "No flag raised by software. This is no statement that the study is normal." in said
    assert not named(ds, "121071") and "272519000" not in {str(v) for _, v in walk(ds)}
    assert kos.build(analysis) is None


def test_nodules_are_measured_in_their_units_and_followed_by_uid() -> None:
    ds = read(sr.build(CASES["scan with measurements"]))
    assert [i.TextValue for i in named(ds, "112039")] == ["Nodule 1", "Nodule 2"]
    assert [i.ConceptCodeSequence[0].CodeMeaning for i in named(ds, "121071")] == ["Mass", "Nodule"]
    expected = {
        "103339001": ("mm", LARGE.long_axis_mm, SMALL.long_axis_mm),
        "103340004": ("mm", LARGE.short_axis_mm, SMALL.short_axis_mm),
        "81827009": ("mm", 28.6, 7.1),
        "118565006": ("mm3", LARGE.volume_mm3, SMALL.volume_mm3),
        "112031": ("[hnsf'U]", LARGE.mean_hu, SMALL.mean_hu),
    }
    for code, (unit, *values) in expected.items():
        measured = [i.MeasuredValueSequence[0] for i in named(ds, code)]
        assert [m.MeasurementUnitsCodeSequence[0].CodeValue for m in measured] == [unit, unit]
        assert [m.FloatingPointValue for m in measured] == pytest.approx(values)
    followed = [i.UID for i in named(ds, "112040")]
    assert len(set(followed)) == 2
    assert [tuple(i.GraphicData) for i in named(ds, "121231")] == [
        LARGE.center_lps_mm
    ]  # the other has voxels
    sides = [i.ConceptCodeSequence[0].CodeMeaning for i in named(ds, "272741003")]
    assert sides == ["Right", "Left"]
    again = read(sr.build(an_analysis("CT", OVERLAY, key="a later run of a later release", version="2")))
    assert [i.UID for i in named(again, "112040")] == followed


def test_zone_and_growth_of_a_nodule_are_told_in_words_where_places_may_be_told() -> None:
    growth = Growth("1.2.3", 180, 5.9, 108.0, 1.2, 94.9)
    nodule = a_finding(
        "nodule", 0.8, location=Location(side="left", zone="upper"), measurements=SMALL, growth=growth
    )
    said = {
        mode: [i.TextValue for i in named(read(sr.build(an_analysis("CT", mode, (nodule,)))), "121106")]
        for mode in (Mode.OVERLAY, Mode.TRIAGE_ONLY)
    }
    assert "Nodule 1: upper third of the height of the lungs." in said[Mode.OVERLAY]
    assert (
        "Nodule 1: mean diameter +1.2 mm since 5.9 mm in the CT 180 days earlier, volume +95 %. "
        "For information; software matched the two."
    ) in said[Mode.OVERLAY]
    assert not any("Nodule" in line for line in said[Mode.TRIAGE_ONLY])


def test_outlines_are_closed_in_the_corner_frame_and_stay_on_the_film() -> None:
    off = Location(((-0.5, -0.5), (2047.5, -0.5), (2060.0, 3000.0)), "right")
    ds = read(sr.build(an_analysis(mode=OVERLAY, findings=(a_finding(location=off),))))
    (region,) = named(ds, "111030")
    assert region.GraphicType == "POLYLINE"
    assert list(region.GraphicData) == [0, 0, 2048, 0, 2048, 2048, 0, 0]
    assert region.ContentSequence[0].RelationshipType == "SELECTED FROM"


def test_the_flag_of_a_scan_shows_the_slices_where_they_may_be_told_else_the_series() -> None:
    told = read(_flag(CASES["scan with measurements"]))
    kept = read(_flag(CASES["scan"]))
    images = [[i for i in content_items(ds) if i.ValueType == "IMAGE"] for ds in (told, kept)]
    # z of slice i is -150 + 1.25 i: -141 lies nearest to slice 7, -130 is slice 16.
    assert [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in images[0]] == [
        uid(1, 1, 7),
        uid(1, 1, 16),
    ]
    assert len(images[1]) == 20
    assert all("ConceptNameCodeSequence" not in i for i in images[0])  # forbidden in TID 2010 row 8
    assert (
        named(told, "113012")[0].TextValue
        == "AI flag: lung mass, lung nodule suspected (not read, not for diagnosis)"
    )


@pytest.mark.parametrize("case", CASES)
def test_patient_and_study_are_those_of_the_image(case: str) -> None:
    analysis = CASES[case]
    source = analysis.sources[0]
    for made in (sr.build(analysis), kos.build(analysis)):
        if made is None:
            continue
        ds = read(made)
        assert ds.SpecificCharacterSet == "ISO_IR 192"
        assert str(ds.PatientName) == source.patient_name
        assert (ds.PatientID, ds.IssuerOfPatientID) == (source.patient_id, "HOSPITAL")
        assert (ds.AccessionNumber, ds.StudyID) == (source.accession_number, "S1")
        assert (ds.StudyInstanceUID, ds.StudyDescription) == (source.study_instance_uid, "Thorax")
        assert ds.SeriesInstanceUID not in {h.series_instance_uid for h in analysis.sources}
        assert ds.Manufacturer == "triage" and "BodyPartExamined" not in ds


NAMES = (
    "Łukaszewicz^Łukasz",
    "山田^太郎=やまだ^たろう",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "홍^길동",
    "Ng\\Wong",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_every_script_survive(name: str) -> None:
    ds = read(sr.build(an_analysis(header={"patient_name": name})))
    assert str(ds.PatientName) == name.split("\\")[0]


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\\=^"), max_size=64))
@settings(max_examples=50)
def test_any_text_that_a_sender_may_write_is_copied_exactly(words: str) -> None:
    words = words.strip()
    header = {
        "patient_name": words,
        "patient_id": words,
        "study_description": words,
        "accession_number": words,
    }
    analysis = an_analysis(findings=(), header=header)
    ds = read(sr.build(analysis))
    assert (ds.PatientID, str(ds.PatientName), ds.AccessionNumber) == (words, words, words)
    assert ds.get("StudyDescription", "") == words


def test_an_identity_too_long_for_its_field_is_not_cut_into_another_one() -> None:
    long = "ACC-2026-0000-0000-0001"
    ds = read(sr.build(an_analysis(header={"accession_number": long})))
    assert ds.AccessionNumber == long


def test_times_are_in_the_zone_that_the_study_names() -> None:
    ds = read(sr.build(an_analysis(header={"timezone_offset": "+0545"})))
    assert (ds.TimezoneOffsetFromUTC, ds.ContentDate, ds.ContentTime) == (
        "+0545",
        "20260314",
        "174602.345678",
    )
    for nonsense in ("", "0100", "+9900", "-0000", "+1500"):
        assert "TimezoneOffsetFromUTC" not in read(
            sr.build(an_analysis(header={"timezone_offset": nonsense}))
        )


def test_labels_say_that_it_is_ai_and_not_for_diagnosis() -> None:
    for made in (sr.build(CASES["film"]), _flag(CASES["film"])):
        label = read(made).SeriesDescription
        assert label.startswith("AI chest xray ") and label.endswith(" (not for diagnosis)")
    assert len(series_description("a detector of another house with a long name", "result")) == 64


def test_the_report_is_preliminary_unverified_and_names_its_algorithm() -> None:
    ds = read(sr.build(CASES["film"]))
    flags = (ds.CompletionFlag, ds.VerificationFlag, ds.PreliminaryFlag)
    assert flags == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")
    (equipment,) = ds.ContributingEquipmentSequence
    assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("chest_xray", "1.0.0")
    assert named(ds, "111001")[0].TextValue == "chest_xray" and named(ds, "111003")[0].TextValue == "1.0.0"
    assert named(ds, "121012")[0].UID == equipment.DeviceUID == ds.DeviceUID


def test_the_same_rows_give_the_same_bytes_and_other_runs_other_objects() -> None:
    first, again = sr.build(an_analysis("CT", OVERLAY)), sr.build(an_analysis("CT", OVERLAY))
    assert first == again
    others = {sr.build(CASES["film"]).sop_instance_uid, _flag(CASES["film"]).sop_instance_uid,
              sr.build(an_analysis(key="another")).sop_instance_uid}  # fmt: skip
    assert len(others) == 3


def test_highdicom_reads_the_reports_as_measurement_reports() -> None:
    scan = highdicom.sr.Comprehensive3DSR.from_dataset(read(sr.build(CASES["scan with measurements"])))
    groups = scan.content.get_volumetric_roi_measurement_groups()
    assert [g.tracking_identifier for g in groups] == ["Nodule 1", "Nodule 2"]
    film = highdicom.sr.Comprehensive3DSR.from_dataset(read(sr.build(CASES["film with outlines"])))
    (pneumothorax, _) = film.content.get_planar_roi_measurement_groups()
    assert pneumothorax.finding_type.meaning == "Pneumothorax"
    kept = highdicom.sr.Comprehensive3DSR.from_dataset(read(sr.build(CASES["film"])))
    assert len(kept.content.get_image_measurement_groups()) == 2


def test_a_scan_without_frame_of_reference_tells_sizes_without_a_point() -> None:
    ds = read(sr.build(an_analysis("CT", OVERLAY, header={"frame_of_reference_uid": ""})))
    assert not named(ds, "121231") and len(named(ds, "103339001")) == 2


def test_order_numbers_are_named_when_known() -> None:
    ds = read(sr.build(an_analysis(placer_order_number="PL1", filler_order_number="FI1")))
    (request,) = ds.ReferencedRequestSequence
    assert request.PlacerOrderNumberImagingServiceRequest == "PL1"
    assert request.FillerOrderNumberImagingServiceRequest == "FI1"
    assert request.AccessionNumber == a_header().accession_number


def _flag(analysis: Analysis) -> kos.Made:
    made = kos.build(analysis)
    assert made is not None
    return made


def test_a_private_code_is_declared() -> None:
    ds: Dataset = read(sr.build(CASES["film"]))
    assert [s.CodingSchemeDesignator for s in ds.CodingSchemeIdentificationSequence] == ["99TRIAGE"]
    assert "CodingSchemeIdentificationSequence" not in read(sr.build(CASES["film without flag"]))


def test_objects_agree_with_the_image_about_patient_and_study(tmp_path: Path) -> None:
    """A phantom through the real header reader; dcentvfy compares the entities of all three files."""
    thorax = make_thorax(7, ["pneumothorax"])
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    identity = identity_for(7, "DX", ENDED, patient_name=name)
    film = write_radiograph(tmp_path, thorax, identity=identity, size_px=128)
    analysis = an_analysis(sources=(read_header(film),))
    paths = [film]
    for made in (sr.build(analysis), _flag(analysis)):
        path = tmp_path / f"{made.kind}.dcm"
        path.write_bytes(made.content)
        assert judges.dciodvfy(path) == []
        assert str(read(made).PatientName) == name
        paths.append(path)
    assert judges.dcentvfy(paths) == []


def test_every_readable_foreign_header_gives_objects_that_are_valid_but_for_the_senders_own_faults(
    shared_data: Path, tmp_path: Path
) -> None:
    senders_faults = {"own_accession_17.dcm", "own_name_long.dcm", "own_uid_leading_zero.dcm"}
    built = 0
    for path in sorted((shared_data / "dicom" / "charset").iterdir()) + sorted(
        p for p in (shared_data / "dicom" / "broken").iterdir() if p.name.startswith("own_")
    ):
        try:
            header = read_header(path)
        except Refused:
            continue
        made = _flag(an_analysis(sources=(header,)))
        target = tmp_path / "object.dcm"
        target.write_bytes(made.content)
        complaints = [x for x in judges.dciodvfy(target) if x.startswith("Error")]
        assert not complaints or path.name in senders_faults, (path.name, complaints)
        built += 1
    assert built > 60
