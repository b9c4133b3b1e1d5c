"""Detectors on files, without a server: what `assess`, `evaluate` and their overlays stand on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.factories import NOON
from triage.dicom.pixels import Decoder
from triage.domain.errors import Refused
from triage.domain.suitability import NotSuitableError, ReasonCode
from triage.phantom.identity import identity_for
from triage.phantom.person import make_thorax
from triage.phantom.write import write_ct, write_radiograph
from triage.workflow import offline
from triage.workflow.offline import assess_files, film_reader, picture, scan_reader
from triage.workflow.overlay import OverlayWriter

BOTH = ("chest_xray", "lung_nodule")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    thorax = make_thorax(108, ["pneumothorax"])
    folder = tmp_path_factory.mktemp("film")
    return write_radiograph(folder, thorax, identity=identity_for(108, "DX", NOON), size_px=1000)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    write_ct(folder, make_thorax(106, ["nodule"]), identity=identity_for(106, "CT", NOON), slices=150)
    return folder


def test_a_film_and_a_scan_end_completed_and_their_findings_are_drawn(
    film: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAGE_INFERENCE_THREADS", "1")  # threads of a busy machine spin against each other
    overlay = OverlayWriter(tmp_path / "drawn", [film, scan])
    seen: list[str] = []
    answer = assess_files([film, scan], BOTH, seen.append, overlay.keep)
    runs = [r for s in answer["studies"] for r in s["runs"]]
    assert [(r["detector"], r["status"]) for r in runs] == [
        ("chest_xray", "completed"),
        ("lung_nodule", "completed"),
    ]
    assert answer["refused"] == [] and len(seen) == 2 and all(r["seconds"] > 0 for r in runs)
    pictures = sorted((tmp_path / "drawn").glob("*.png"))
    assert overlay.written == len(pictures) > 1
    plain = [p for p in pictures if not p.stem.endswith(tuple(f"-{n:02d}" for n in range(1, 13)))]
    assert [p.stem for p in plain] == [runs[0]["sop_uids"][0]], "one picture of the film, named by its UID"
    assert max(Image.open(plain[0]).size) <= 1024


def test_a_detector_that_is_not_asked_for_does_not_run(film: Path) -> None:
    assert assess_files([film], ("lung_nodule",))["studies"] == []


def test_what_cannot_be_looked_at_is_a_run_with_its_reason_and_what_is_no_dicom_is_refused(
    film: Path, tmp_path: Path
) -> None:
    ds = pydicom.dcmread(film)
    ds.ViewPosition, ds.PatientOrientation = "LL", ["A", "F"]
    ds.save_as(tmp_path / "lateral.dcm")
    ds = pydicom.dcmread(film)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    ds.Modality = "US"
    ds.save_as(tmp_path / "ultrasound.dcm")
    (tmp_path / "letter.txt").write_text("Dear colleague")
    (tmp_path / ".hidden").write_text("no study")
    answer = assess_files([tmp_path, tmp_path / "gone.dcm"], BOTH)
    reasons = {(r["detector"], r["reason"]) for s in answer["studies"] for r in s["runs"]}
    assert reasons == {("chest_xray", "LATERAL_ONLY"), (None, "WRONG_MODALITY")}
    assert all(r["status"] == "not_analysed" for s in answer["studies"] for r in s["runs"])
    assert [Path(r["path"]).name for r in answer["refused"]] == ["letter.txt", "gone.dcm"]
    assert "cannot read gone.dcm" in answer["refused"][1]["reason"]


def test_a_case_may_be_dicom_or_a_picture_of_any_depth(film: Path, tmp_path: Path) -> None:
    grey = np.linspace(0, 255, 64 * 80).reshape(64, 80)
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray((grey * 16).astype(np.uint16)).save(tmp_path / "twelve.png")
    Image.fromarray((grey * 256).astype(np.uint16)).save(tmp_path / "sixteen.png")
    with Decoder() as decoder:
        read = film_reader(decoder)
        films = [read(tmp_path / f"{name}.png").pixels for name in ("grey", "twelve", "sixteen")]
        assert read(film).pixels.shape[0] == 1000 or read(film).pixels.shape[1] == 1000
        ds = pydicom.dcmread(film)
        ds.ViewPosition = "LL"
        ds.save_as(tmp_path / "lateral.dcm")
        with pytest.raises(NotSuitableError) as refused:
            read(tmp_path / "lateral.dcm")
    assert refused.value.answer.code is ReasonCode.LATERAL_ONLY
    for pixels in films:
        assert pixels.shape == (64, 80) and pixels.min() >= 0 and pixels.max() <= 1
        assert pixels.max() > 0.97


def test_a_picture_that_is_none_or_far_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(Refused, match="not a picture"):
        picture(tmp_path / "text.png")
    Image.new("L", (40, 40)).save(tmp_path / "large.png")
    monkeypatch.setattr(offline, "PICTURE_PIXELS", 1000)
    with pytest.raises(NotSuitableError) as refused:
        picture(tmp_path / "large.png")
    assert refused.value.answer.code is ReasonCode.TOO_LARGE


def test_a_case_that_is_no_chest_ct_says_why(scan: Path, film: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(scan.glob("**/*.dcm"))[:3]:
        (few / path.name).write_bytes(path.read_bytes())
    (tmp_path / "letter").mkdir()
    (tmp_path / "letter" / "a.txt").write_text("no DICOM")
    with Decoder() as decoder:
        read = scan_reader(decoder)
        with pytest.raises(Refused, match="no CT in it"):
            read(film)
        with pytest.raises(Refused, match=r"no CT in it \("):
            read(tmp_path / "letter")
        with pytest.raises(NotSuitableError):
            read(few)
        assert read(scan).hu.shape[0] == 150
