"""One scan in many shapes of DICOM: the same volume comes out of each, and so the same nodules, to half a millimetre."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless
from scipy import ndimage as ndi

from tests.dicom.builders import ct_slices, save, save_all, set_pixels
from triage.detectors import lung_nodule
from triage.detectors.protocol import Detection
from triage.detectors.releases import active_release
from triage.dicom.header import read_header
from triage.dicom.pixels import Decoder
from triage.domain.eligibility import ct_series_answer
from triage.domain.image import Volume
from triage.domain.suitability import NotSuitableError, ReasonCode
from triage.phantom import NoduleSpec, make_thorax, nodule_truth, render_volume

THORAX = make_thorax(41, nodules=[NoduleSpec(11.0), NoduleSpec(17.0)])
PX = 256
LEGACY_ENHANCED = "1.2.840.10008.5.1.4.1.1.2.2"
PACK = {
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEG2000Lossless: lambda a: imagecodecs.jpeg2k_encode(a, reversible=True, codecformat="j2k"),
}


@pytest.fixture(scope="module")
def phantom() -> Volume:
    return render_volume(THORAX, slices=120, size_px=PX)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as made:
        yield made


@pytest.fixture(scope="module")
def detector() -> Any:
    return lung_nodule.load(active_release("lung_nodule"))


@pytest.fixture(scope="module")
def plain(detector: Any, phantom: Volume) -> Detection:
    found: Detection = detector.detect(phantom)
    return found


def stored(phantom: Volume) -> NDArray[np.uint16]:
    return (phantom.hu.astype(np.int32) + 1024).clip(0, 4095).astype(np.uint16)


def as_slices(phantom: Volume, **changes: Any) -> list[Dataset]:
    """The phantom as CT Image Storage, feet to head."""
    series = ct_slices(len(phantom.hu), rows=8, **changes)
    spacing = phantom.spacing_mm
    for k, (ds, pixels) in enumerate(zip(series, stored(phantom), strict=True)):
        ds.PixelSpacing = [round(spacing[1], 5), round(spacing[2], 5)]
        ds.SliceThickness = round(spacing[0], 3)
        ds.ImagePositionPatient = [round(float(v), 4) for v in (phantom.affine @ [0, 0, k, 1])[:3]]
        set_pixels(ds, pixels, bits_stored=12)
    return series


def packed(series: list[Dataset], folder: Path, syntax: UID) -> list[Path]:
    for ds in series:
        pixels = np.frombuffer(ds.PixelData, np.uint16).reshape(ds.Rows, ds.Columns)
        ds.PixelData = encapsulate([PACK[syntax](pixels)])
        ds["PixelData"].VR = "OB"
    return save_all(series, folder, syntax)


def turned_about(series: list[Dataset]) -> list[Dataset]:
    """The patient lay feet first, and the sender put columns and rows the other way round: LPS says the same."""
    for ds in series:
        pixels = np.frombuffer(ds.PixelData, np.uint16).reshape(ds.Rows, ds.Columns)
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        down, across = (float(v) for v in ds.PixelSpacing)
        ds.ImagePositionPatient = [x + (ds.Columns - 1) * across, y + (ds.Rows - 1) * down, z]
        ds.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        ds.PatientPosition = "FFS"
        set_pixels(ds, np.ascontiguousarray(pixels[::-1, ::-1]), bits_stored=12)
    return series


def as_multi_frame(phantom: Volume) -> Dataset:
    """One Legacy Converted Enhanced CT object, its frames from head to feet. source PS3.3 A.70, C.7.6.16"""
    slices = as_slices(phantom)[::-1]
    ds = slices[0]
    whole = np.concatenate([np.frombuffer(s.PixelData, np.uint16) for s in slices])
    frames = [a_frame(s) for s in slices]
    ds.SOPClassUID = LEGACY_ENHANCED
    ds.NumberOfFrames = len(frames)
    ds.PixelData = whole.tobytes()
    measures, scale = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = ds.PixelSpacing, ds.SliceThickness
    scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1, -1024, "HU"
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PixelValueTransformationSequence = [measures], [scale]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = frames
    for word in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        delattr(ds, word)
    return ds


def a_frame(slice_: Dataset) -> Dataset:
    place, turn, frame = Dataset(), Dataset(), Dataset()
    place.ImagePositionPatient = slice_.ImagePositionPatient
    turn.ImageOrientationPatient = slice_.ImageOrientationPatient
    frame.PlanePositionSequence, frame.PlaneOrientationSequence = [place], [turn]
    return frame


def opened(decoder: Decoder, paths: list[Path]) -> Volume:
    return decoder.volume(paths, [read_header(p) for p in paths])


def test_every_coding_and_order_is_the_same_volume(phantom: Volume, decoder: Decoder, tmp_path: Path) -> None:
    """Equal voxels and affine: a detector without chance in it cannot answer differently."""
    plain = opened(decoder, save_all(as_slices(phantom), tmp_path / "plain"))
    assert np.array_equal(plain.hu, stored(phantom).astype(np.int16) - 1024)
    shapes = {
        "JPEG-LS": packed(as_slices(phantom), tmp_path / "ls", JPEGLSLossless),
        "JPEG 2000": packed(as_slices(phantom), tmp_path / "j2k", JPEG2000Lossless),
        "reversed": save_all(as_slices(phantom)[::-1], tmp_path / "reversed"),
        "feet first": save_all(as_slices(phantom, PatientPosition="FFS"), tmp_path / "feet"),
        "one object": [save(as_multi_frame(phantom), tmp_path / "enhanced.dcm", ExplicitVRLittleEndian)],
    }
    for name, paths in shapes.items():
        volume = opened(decoder, paths)
        assert np.array_equal(volume.hu, plain.hu), name
        assert np.allclose(volume.affine, plain.affine, atol=1e-3), name


def test_a_known_point_comes_back_to_a_tenth_of_a_millimetre(
    phantom: Volume, decoder: Decoder, tmp_path: Path
) -> None:
    """A bright voxel at a known LPS place, found again through DICOM whatever way the planes lie."""
    marked = Volume(phantom.hu.copy(), phantom.affine)
    marked.hu[:] = -1000
    marked.hu[77, 101, 33] = 3000
    truth = (phantom.affine @ [33, 101, 77, 1])[:3]
    for name, series in (("plain", as_slices(marked)), ("turned", turned_about(as_slices(marked)))):
        volume = opened(decoder, save_all(series, tmp_path / name))
        k, row, column = np.unravel_index(volume.hu.argmax(), volume.hu.shape)
        assert np.abs((volume.affine @ [column, row, k, 1])[:3] - truth).max() < 0.1, name


def test_a_scan_turned_about_has_its_nodules_at_the_same_places(
    phantom: Volume, decoder: Decoder, detector: Any, plain: Detection, tmp_path: Path
) -> None:
    turned = detector.detect(opened(decoder, save_all(turned_about(as_slices(phantom)), tmp_path / "turned")))
    for center, diameter, _, _ in nodule_truth(THORAX):
        one, other = (at(d, center, diameter / 2) for d in (plain, turned))
        assert np.linalg.norm(np.subtract(one, other)) < 0.5
        assert np.linalg.norm(np.subtract(one, center)) < 1.5


def from_a_tilted_gantry(phantom: Volume, degrees: float) -> list[Dataset]:
    """The phantom cut along planes that lean by `degrees`, the table moving along the patient as before."""
    lean = np.deg2rad(degrees)
    down = np.array([0.0, np.cos(lean), np.sin(lean)])
    planes = phantom.affine.copy()
    planes[:3, 1] = down * phantom.spacing_mm[1]
    planes[:3, 3] += (PX / 2 - 0.5) * (phantom.affine[:3, 1] - planes[:3, 1])
    back = np.linalg.inv(phantom.affine) @ planes
    hu = np.empty_like(phantom.hu)
    row, column = np.mgrid[:PX, :PX]
    for k in range(len(hu)):
        xyz = back[:3, :3] @ np.stack([column.ravel(), row.ravel(), np.full(row.size, k)]) + back[:3, 3:]
        cut = ndi.map_coordinates(phantom.hu, xyz[::-1], order=1, mode="nearest", output=np.float32)
        hu[k] = np.rint(cut.reshape(PX, PX))
    series = as_slices(Volume(hu, planes))
    for ds in series:
        ds.ImageOrientationPatient = [1, 0, 0, 0, *(round(float(v), 6) for v in down[1:])]
    return series


def test_a_tilted_gantry_is_put_upright(
    phantom: Volume, decoder: Decoder, detector: Any, plain: Detection, tmp_path: Path
) -> None:
    volume = opened(decoder, save_all(from_a_tilted_gantry(phantom, 15.0), tmp_path / "tilted"))
    assert "gantry tilt 15.0 degrees corrected" in volume.notes
    found = detector.detect(volume)
    for center, diameter, _, _ in nodule_truth(THORAX):
        one, other = (at(d, center, diameter / 2) for d in (plain, found))
        assert np.linalg.norm(np.subtract(one, other)) < 1.0
        assert np.linalg.norm(np.subtract(other, center)) < 1.5
    regions = [f.location.region for f in found.findings]
    assert all(regions)  # outlines lie on the slices that were received


def at(detection: Detection, center: Any, within_mm: float) -> tuple[float, float, float]:
    places = [f.measurements.center_lps_mm for f in detection.findings if f.measurements]
    near = [p for p in places if np.linalg.norm(np.subtract(p, center)) < within_mm]
    assert near, f"nothing at {center}"
    return near[0]


# gate.csv and dicom.csv: "refuse" never analysed, "mark" the reader sees why, "run" completed.
@pytest.mark.shared_data
def test_every_real_series_ends_as_its_table_says(shared_data: Path, decoder: Decoder, detector: Any) -> None:
    wrong = {}
    for table in ("gate/gate.csv", "dicom/dicom.csv"):
        for row in csv.DictReader((shared_data / "ct" / table).open(newline="")):
            end = how_it_ends(sorted((shared_data / "ct" / row["folder"]).iterdir()), decoder, detector)
            wanted = row["expected"].split(":")[0].split(";")[0].split(",")[0]
            fits = {"run": ("run", "marked"), "mark": ("marked", *ReasonCode), "refuse": tuple(ReasonCode)}
            if end not in fits[wanted]:
                wrong[row["folder"]] = f"{wanted}, but {end}"
    assert not wrong


@pytest.mark.shared_data
def test_the_annotated_nodule_of_a_real_stretch_is_found(
    shared_data: Path, decoder: Decoder, detector: Any
) -> None:
    paths = sorted((shared_data / "ct/dicom/chest_lidc0001_stretch").iterdir())
    assert at(detector.detect(opened(decoder, paths)), (56.4, 86.4, -115.8), 11.5)


def how_it_ends(paths: list[Path], decoder: Decoder, detector: Any) -> str:
    headers = [read_header(p) for p in paths]
    answer = ct_series_answer(headers)
    if answer is not None:
        return answer.code.value
    try:
        volume = decoder.volume(paths, headers)
        notes = (*volume.notes, *detector.detect(volume).notes)
    except NotSuitableError as refusal:
        return refusal.answer.code.value
    return "marked" if any("part of the lungs" in n or "duplicate" in n for n in notes) else "run"
