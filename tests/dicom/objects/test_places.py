"""Segmentations and presentation states: valid, where the nodule is, one identity with the report, silent elsewhere."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.dicom.objects import judges
from tests.dicom.objects.analyses import FILM_FINDINGS, SCAN_FINDINGS, an_analysis
from tests.dicom.objects.judges import named, read
from tests.factories import a_header, a_region, uid
from triage.dicom.objects import gsps, seg, sr
from triage.dicom.objects.common import Analysis, Made
from triage.dicom.objects.nodules import nodules, pixels
from triage.domain.finding import Finding, Location, Mode
from triage.domain.study import DX_FOR_PRESENTATION

SCAN = an_analysis("CT", Mode.OVERLAY, header={"window": (40.0, 400.0)})
FILM = an_analysis(mode=Mode.OVERLAY, header={"window": (2048.0, 4096.0)})
NODULE, MASS = SCAN_FINDINGS


def _with_region(finding: Finding, region: tuple[object, ...]) -> Finding:
    return replace(finding, location=Location(region=region))  # type: ignore[arg-type]


def _made(made: Made | None) -> Made:
    assert made is not None
    return made


def _file(made: Made, tmp_path: Path) -> Path:
    path = tmp_path / f"{made.kind}.dcm"
    path.write_bytes(made.content)
    return path


@pytest.mark.parametrize("analysis", [FILM, SCAN], ids=["film", "scan"])
def test_every_object_with_a_place_is_valid_for_dciodvfy(analysis: Analysis, tmp_path: Path) -> None:
    made = [m for m in (seg.build(analysis), gsps.build(analysis), sr.build(analysis)) if m is not None]
    assert {m.kind for m in made} == ({"seg", "gsps", "sr"} if analysis is SCAN else {"gsps", "sr"})
    paths = [_file(m, tmp_path) for m in made]
    assert [judges.dciodvfy(p) for p in paths] == [[]] * len(paths)
    assert judges.dcentvfy(paths) == []


def test_presentation_states_pass_dcmtk(tmp_path: Path) -> None:
    if shutil.which("dcmpschk") is None:
        pytest.skip("dcmtk is not installed: presentation states not shown")
    for analysis in (FILM, SCAN):
        path = _file(_made(gsps.build(analysis)), tmp_path)
        done = subprocess.run(
            ["dcmpschk", str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        assert "Test passed" in done.stdout + done.stderr, done.stdout + done.stderr


@pytest.mark.interop
def test_the_segmentation_is_valid_for_pixelmed(tmp_path: Path) -> None:
    assert judges.pixelmed_instance(_file(_made(seg.build(SCAN)), tmp_path)) == []


def test_triage_only_makes_neither() -> None:
    for modality in ("DX", "CT"):
        analysis = an_analysis(modality, Mode.TRIAGE_ONLY)
        assert seg.build(analysis) is None and gsps.build(analysis) is None


def test_segment_and_report_name_one_nodule_by_one_identity() -> None:
    segmentation, report = read(_made(seg.build(SCAN))), read(sr.build(SCAN))
    (segment,) = segmentation.SegmentSequence
    (reference,) = named(report, "121191")
    (sop,) = reference.ReferencedSOPSequence
    assert sop.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
    assert sop.ReferencedSegmentNumber == segment.SegmentNumber == 1
    # The mass (more probable) has no voxels here, so the nodule is "Nodule 2" and segment 1.
    assert [i.UID for i in named(report, "112040")][1] == segment.TrackingUID
    assert [i.TextValue for i in named(report, "112039")][1] == segment.TrackingID == "Nodule 2"
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert segmentation.SeriesInstanceUID in {s.SeriesInstanceUID for s in evidence}


def test_a_report_for_a_peer_without_the_segmentation_names_none_and_points_instead() -> None:
    segmentation = read(_made(seg.build(SCAN)))
    report = read(sr.build(replace(SCAN, cites_segmentation=False)))
    assert named(report, "121231") and not named(report, "121191")
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert segmentation.SeriesInstanceUID not in {s.SeriesInstanceUID for s in evidence}
    # Who has both still finds the nodule in either by one identity.
    assert segmentation.SegmentSequence[0].TrackingUID in {i.UID for i in named(report, "112040")}


def test_voxels_are_those_of_the_finding_on_the_slices_that_were_received() -> None:
    read_back = highdicom.seg.Segmentation.from_dataset(read(_made(seg.build(SCAN))))
    slices = [uid(1, 1, i) for i in range(5, 10)]
    found = read_back.get_pixels_by_source_instance(slices, combine_segments=True)
    assert found.shape == (5, 512, 512)
    expected = np.zeros((512, 512), bool)
    assert NODULE.location is not None
    disc = pixels(NODULE.location.region[0])
    expected[224:235, 266:277] = disc
    assert disc.sum() == 81
    for plane in found:
        assert np.array_equal(plane.astype(bool), expected)


def test_segments_are_numbered_without_gaps_and_say_whether_they_overlap() -> None:
    apart = (_with_region(MASS, a_region(314, 221, 12, range(14, 19))), NODULE)
    over = (_with_region(MASS, a_region(314, 221, 12, range(14, 19))), replace(
        NODULE, measurements=MASS.measurements, location=Location(region=a_region(314, 221, 5, range(15, 17)))
    ))  # fmt: skip
    for findings, word in ((apart, "NO"), (over, "YES")):
        ds = read(_made(seg.build(an_analysis("CT", Mode.OVERLAY, findings=findings))))
        assert [s.SegmentNumber for s in ds.SegmentSequence] == [1, 2]
        assert ds.SegmentsOverlap == word
        assert len({s.TrackingUID for s in ds.SegmentSequence}) == 2


@pytest.mark.parametrize(
    ("region", "why"),
    [
        (a_region(400, 229, 5, range(5, 10)), "beside the measured centre"),
        (a_region(271, 229, 5, range(12, 17)), "above it"),
        (a_region(271, 229, 5, range(5, 10), study=2), "on slices that are not ours"),
        (a_region(509, 229, 5, range(5, 10)), "over the edge"),
    ],
)
def test_voxels_that_cannot_be_where_was_measured_are_not_told(region: tuple[object, ...], why: str) -> None:
    analysis = an_analysis("CT", Mode.OVERLAY, findings=(_with_region(NODULE, region),))
    assert seg.build(analysis) is None, why
    assert nodules(analysis)[0].segment is None
    report = read(sr.build(analysis))
    assert named(report, "121231") and not named(report, "121191")  # a point, as without voxels


def test_a_series_of_mixed_planes_gets_no_segmentation() -> None:
    odd = a_header(modality="CT", instance=20, image_orientation_patient=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
    assert seg.build(replace(SCAN, sources=(*SCAN.sources[:19], odd))) is None


def test_outlines_lie_on_the_film_under_its_own_window_and_polarity() -> None:
    ds = read(_made(gsps.build(FILM)))
    (pneumothorax, effusion) = ds.GraphicAnnotationSequence
    graphic = pneumothorax.GraphicObjectSequence[0]
    assert list(graphic.GraphicData) == [100.5, 100.5, 300.5, 100.5, 300.5, 401.0, 100.5, 100.5]
    assert pneumothorax.TextObjectSequence[0].UnformattedTextValue == "AI: pneumothorax suspected"
    assert effusion.ReferencedImageSequence[0].ReferencedSOPInstanceUID == FILM.sources[0].sop_instance_uid
    (voi,) = ds.SoftcopyVOILUTSequence
    assert (voi.WindowCenter, voi.WindowWidth) == (2048, 4096)
    assert ds.PresentationLUTShape == "IDENTITY" and "RescaleSlope" not in ds
    inverted = an_analysis(mode=Mode.OVERLAY, header={"photometric_interpretation": "MONOCHROME1"})
    assert read(_made(gsps.build(inverted))).PresentationLUTShape == "INVERSE"


def test_a_nodule_is_circled_on_every_slice_that_it_reaches() -> None:
    ds = read(_made(gsps.build(SCAN)))
    where: dict[str, list[str]] = {}
    for mark in ds.GraphicAnnotationSequence:
        word = mark.TextObjectSequence[0].UnformattedTextValue
        where.setdefault(word, []).append(mark.ReferencedImageSequence[0].ReferencedSOPInstanceUID)
    assert where == {
        "AI: Nodule 1, 31.2 mm": [uid(1, 1, 16)],  # no voxels: the nearest slice
        "AI: Nodule 2, 8.2 mm": [uid(1, 1, i) for i in range(5, 10)],
    }
    circle = ds.GraphicAnnotationSequence[1].GraphicObjectSequence[0]
    x, y, edge, _ = circle.GraphicData
    assert (x, y) == pytest.approx((271.93, 229.07), abs=0.01)
    assert edge - x == pytest.approx((8.2 / 2 + 4) / 0.7, abs=0.01)
    assert (ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType) == (-1024, 1, "HU")


def test_an_image_whose_look_is_a_table_gets_no_presentation_state() -> None:
    assert gsps.build(an_analysis(mode=Mode.OVERLAY, header={"has_voi_lut": True})) is None


@pytest.mark.parametrize("build", [seg.build, gsps.build])
def test_the_same_rows_give_the_same_bytes(build: object) -> None:
    again = an_analysis("CT", Mode.OVERLAY, header={"window": (40.0, 400.0)})
    assert build(SCAN) == build(again)  # type: ignore[operator]


def test_identity_goes_out_whole() -> None:
    more = {
        "other_patient_ids": (("OLD-1", "LAB", "TEXT"), ("登録2", "", "")),
        "issuer_of_accession_number": ("RIS", "1.2.3", "ISO"),
        "patient_name": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    }
    findings = FILM_FINDINGS
    analysis = an_analysis(mode=Mode.OVERLAY, findings=findings, header=more)
    for made in (sr.build(analysis), _made(gsps.build(analysis))):
        ds: Dataset = read(made)
        assert str(ds.PatientName) == more["patient_name"]
        first, second = ds.OtherPatientIDsSequence
        assert (first.PatientID, first.IssuerOfPatientID, second.PatientID) == ("OLD-1", "LAB", "登録2")
        (issuer,) = ds.IssuerOfAccessionNumberSequence
        assert (issuer.LocalNamespaceEntityID, issuer.UniversalEntityID, issuer.UniversalEntityIDType) == (
            "RIS", "1.2.3", "ISO",
        )  # fmt: skip
    request = read(sr.build(analysis)).ReferencedRequestSequence[0]
    assert request.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "RIS"
    assert analysis.sources[0].sop_class_uid == DX_FOR_PRESENTATION
