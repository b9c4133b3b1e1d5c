"""DICOM files that others can read: attributes, geometry, and a foreign checker's verdict."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pydicom
import pytest

from triage.domain import study
from triage.phantom import NoduleSpec, identity_for, make_thorax, render_volume, write_ct, write_radiograph

NOW = datetime(2026, 11, 21, 7, 30, 15, tzinfo=timezone(timedelta(hours=1)))
NODULE = (70.0, 10.0, 20.0)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    thorax = make_thorax(7, ["pneumothorax"])
    identity = identity_for(7, "DX", NOW, sex=thorax.body.sex)
    return write_radiograph(tmp_path_factory.mktemp("film"), thorax, identity=identity, size_px=400)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    thorax = make_thorax(7, nodules=[NoduleSpec(20, center_lps_mm=NODULE)])
    return write_ct(tmp_path_factory.mktemp("scan"), thorax, identity=identity_for(7, "CT", NOW), slices=24)


def test_a_film_says_what_it_is(film: Path) -> None:
    ds = pydicom.dcmread(film)
    assert ds.SOPClassUID == study.DX_FOR_PRESENTATION
    assert (ds.Modality, ds.BodyPartExamined, ds.ViewPosition) == ("DX", "CHEST", "PA")
    assert list(ds.PatientOrientation) == ["L", "F"]
    assert (ds.PhotometricInterpretation, ds.BitsStored) == ("MONOCHROME2", 12)
    assert int(ds.PatientAge[:3]) >= 18
    assert ds.pixel_array.max() <= 4095
    assert "QualityControlImage" not in ds


def test_a_series_lies_where_the_volume_says_to_a_tenth_of_a_millimetre(scan: list[Path]) -> None:
    thorax = make_thorax(7, nodules=[NoduleSpec(20, center_lps_mm=NODULE)])
    volume = render_volume(thorax, slices=24)
    first, last = pydicom.dcmread(scan[0]), pydicom.dcmread(scan[-1])
    for i, ds in ((0, first), (23, last)):
        row_mm, column_mm = (float(v) for v in ds.PixelSpacing)
        corner = np.array([float(v) for v in ds.ImagePositionPatient])
        # PS3.3 C.7.6.2.1.1: the far corner from the header alone.
        along = np.array([float(v) for v in ds.ImageOrientationPatient])
        far = corner + 511 * column_mm * along[:3] + 511 * row_mm * along[3:]
        assert np.abs(far - (volume.affine @ [511, 511, i, 1])[:3]).max() < 0.1
    assert last.ImagePositionPatient[2] > first.ImagePositionPatient[2]


def test_the_nodule_is_at_its_true_place_in_the_files(scan: list[Path]) -> None:
    headers = [pydicom.dcmread(p) for p in scan]
    ds = min(headers, key=lambda d: abs(float(d.ImagePositionPatient[2]) - NODULE[2]))
    row = round((NODULE[1] - float(ds.ImagePositionPatient[1])) / float(ds.PixelSpacing[0]))
    column = round((NODULE[0] - float(ds.ImagePositionPatient[0])) / float(ds.PixelSpacing[1]))
    hu = ds.pixel_array.astype(float) * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    assert hu[row - 2 : row + 3, column - 2 : column + 3].mean() == pytest.approx(40, abs=25)
    assert hu.min() >= -1024


def test_one_study_one_series_one_frame_of_reference_and_as_many_objects_as_files(scan: list[Path]) -> None:
    headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in scan]
    assert len({d.StudyInstanceUID for d in headers}) == 1
    assert len({d.SeriesInstanceUID for d in headers}) == 1
    assert len({d.FrameOfReferenceUID for d in headers}) == 1
    assert len({d.SOPInstanceUID for d in headers}) == len(scan)
    assert all(len(d.SOPInstanceUID) <= 64 for d in headers)


def test_an_identity_depends_on_seed_and_time_alone() -> None:
    assert identity_for(3, "CT", NOW) == identity_for(3, "CT", NOW)
    assert (
        identity_for(3, "CT", NOW).study_instance_uid
        != identity_for(3, "CT", NOW + timedelta(minutes=15)).study_instance_uid
    )
    assert identity_for(3, "CT", NOW).study_instance_uid != identity_for(4, "CT", NOW).study_instance_uid


def test_some_names_are_not_ascii_and_everybody_is_adult() -> None:
    people = [identity_for(seed, "DX", NOW) for seed in range(60)]
    assert any(not p.patient_name.isascii() for p in people)
    assert any("=" in p.patient_name for p in people)
    assert all(int(p.patient_age[:3]) >= 18 for p in people)


def test_the_age_agrees_with_the_birth_date() -> None:
    for seed in range(40):
        identity = identity_for(seed, "DX", NOW)
        years = (int(identity.study_date) - int(identity.patient_birth_date)) // 10000
        assert identity.patient_age == f"{years:03d}Y"


def test_a_reserved_patient_id_marks_quality_control(tmp_path: Path) -> None:
    identity = identity_for(
        1, "DX", NOW, patient_id=f"{study.CONSTANCY_PATIENT_PREFIX}-1", patient_age="051Y"
    )
    ds = pydicom.dcmread(write_radiograph(tmp_path, make_thorax(1), identity=identity, size_px=128))
    assert ds.QualityControlImage == "YES"
    assert ds.PatientAge == "051Y"


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian dicom3tools) is not installed")
def test_a_foreign_checker_finds_no_error(film: Path, scan: list[Path]) -> None:
    for path, iod in ((film, "DXImageForPresentation"), (scan[0], "CTImage"), (scan[-1], "CTImage")):
        done = subprocess.run(
            ["dciodvfy", str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        said = done.stdout + done.stderr
        assert iod in said
        assert "Error" not in said, said
