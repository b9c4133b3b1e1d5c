"""Small DICOM objects for tests, written with pydicom: a film and a CT series with whatever is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.10.9999"


def film(**changes: Any) -> Dataset:
    """A frontal DX film that every rule accepts; `changes` set or (None) remove attributes."""
    ds = _patient()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    ds.SOPInstanceUID = f"{ROOT}.1.1.1"
    ds.StudyInstanceUID = f"{ROOT}.1"
    ds.SeriesInstanceUID = f"{ROOT}.1.1"
    ds.Modality = "DX"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "PA"
    ds.PatientOrientation = ["L", "F"]
    ds.ImagerPixelSpacing = [0.143, 0.143]
    ds.InstanceNumber = 1
    rows = np.linspace(0, 4000, 240)[:, None]
    set_pixels(ds, (rows + np.linspace(0, 95, 256)[None, :]).astype(np.uint16), bits_stored=12)
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    return changed(ds, **changes)


def ct_slices(count: int = 12, *, step_mm: float = 2.0, rows: int = 64, **changes: Any) -> list[Dataset]:
    """An axial chest CT, feet to head, whose slice k holds the stored value 24 + k in one corner."""
    series = []
    for k in range(count):
        ds = _patient()
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        ds.SOPInstanceUID = f"{ROOT}.2.1.{k + 1}"
        ds.StudyInstanceUID = f"{ROOT}.2"
        ds.SeriesInstanceUID = f"{ROOT}.2.1"
        ds.FrameOfReferenceUID = f"{ROOT}.2.9"
        ds.Modality = "CT"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.BodyPartExamined = "CHEST"
        ds.SliceThickness = "2.0"
        ds.KVP = "120"
        ds.ConvolutionKernel = "B30f"
        ds.InstanceNumber = count - k  # scanners count from the head
        ds.AcquisitionNumber = 1
        ds.ImagePositionPatient = [-150.0, -140.0, round(-300 + k * step_mm, 3)]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing = [0.7, 0.7]
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
        pixels = np.full((rows, rows), 24, np.int16)
        pixels[0, 0] = 24 + k
        set_pixels(ds, pixels, bits_stored=16)
        series.append(changed(ds, **changes))
    return series


def set_pixels(ds: Dataset, pixels: NDArray[Any], *, bits_stored: int) -> None:
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 * pixels.dtype.itemsize, bits_stored, bits_stored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, ds.get("PhotometricInterpretation", "MONOCHROME2")
    ds.add_new(0x7FE00010, "OW", pixels.tobytes())


def pixels(ds: Dataset) -> NDArray[Any]:
    """Stored values of an uncompressed object."""
    kind = f"{'<i' if ds.PixelRepresentation else '<u'}{ds.BitsAllocated // 8}"
    return np.frombuffer(ds.PixelData, kind).reshape(ds.Rows, ds.Columns)


def changed(ds: Dataset, **changes: Any) -> Dataset:
    for keyword, value in changes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    return ds


def save(ds: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian, data: bytes | None = None) -> Path:
    """Write a Part 10 file; `data` replaces the bytes after the file meta information."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID") or ROOT
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID") or ROOT
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    if data is not None:
        whole = path.read_bytes()
        length = int.from_bytes(whole[140:144], "little")
        path.write_bytes(whole[: 144 + length] + data)
    return path


def save_all(series: list[Dataset], folder: Path, syntax: UID = ExplicitVRLittleEndian) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [save(ds, folder / f"{i:04}.dcm", syntax) for i, ds in enumerate(series)]


def _patient() -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = "Invented^Ada"
    ds.PatientID = "TEST-1"
    ds.IssuerOfPatientID = "TESTS"
    ds.PatientBirthDate = "19660101"
    ds.PatientSex = "F"
    ds.PatientAge = "058Y"
    ds.StudyDate, ds.StudyTime = "20240315", "101500"
    ds.AcquisitionDate, ds.AcquisitionTime = "20240315", "101623.5"
    ds.AccessionNumber = "A1"
    ds.StudyID = "S1"
    ds.SeriesNumber = 1
    return ds
