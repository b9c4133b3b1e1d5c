"""Phantoms as DICOM files: DX Image Storage - For Presentation, and CT Image Storage. Uncompressed, little endian, UTF-8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from triage.domain import study
from triage.domain.image import Volume
from triage.phantom.identity import Identity, uid_of
from triage.phantom.radiograph import render_radiograph
from triage.phantom.thorax import Thorax
from triage.phantom.volume import render_volume

IMPLEMENTATION_UID = UID(uid_of("triage phantom writer"))
FILM_PX = 2000
FILM_BITS = 12
CT_INTERCEPT = -1024
MANUFACTURER, MODEL = "triage", "analytic thorax phantom"


def write_radiograph(folder: Path, thorax: Thorax, *, identity: Identity, size_px: int = FILM_PX) -> Path:
    """One frontal film as DX in folder (made if missing); returns its path.

    source  PS3.3 A.26 (DX IOD), C.8.11 (its modules), 12 bit, MONOCHROME2
    """
    film = render_radiograph(thorax, size_px)
    assert film.spacing_mm is not None
    ds = _object(identity, study.DX_FOR_PRESENTATION, "DX", "film", 1, 1)
    _film_series(ds)
    spacing = [f"{v:.5f}" for v in film.spacing_mm]
    ds.ImagerPixelSpacing = spacing
    ds.PixelSpacing = spacing
    ds.PixelSpacingCalibrationType = "GEOMETRY"
    ds.PixelSpacingCalibrationDescription = "detector plane"
    _pixels(ds, np.rint(film.pixels * (2**FILM_BITS - 1)).astype("<u2"), FILM_BITS)
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PresentationLUTShape = "IDENTITY"
    ds.WindowCenter, ds.WindowWidth = str(2 ** (FILM_BITS - 1)), str(2**FILM_BITS)
    return _save(ds, folder / "film.dcm")


def _film_series(ds: Dataset) -> None:
    ds.SeriesDescription = "Chest PA"
    ds.BodyPartExamined = "CHEST"
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.PatientOrientation = ["L", "F"]
    ds.ViewPosition = "PA"
    ds.PositionerType = "NONE"
    ds.ImageLaterality = "U"
    ds.DetectorType = "SCINTILLATOR"
    ds.DetectorConfiguration = "AREA"
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    ds.KVP = "120"
    ds.AcquisitionContextSequence = DicomSequence([])
    ds.ViewCodeSequence = DicomSequence([_code("399348003", "SCT", "postero-anterior")])
    ds.ViewCodeSequence[0].ViewModifierCodeSequence = DicomSequence([])
    ds.AnatomicRegionSequence = DicomSequence([_code("816094009", "SCT", "Chest")])


def write_ct(folder: Path, thorax: Thorax, *, identity: Identity, slices: int = 150) -> list[Path]:
    """One CT series in folder (made if missing), one file a slice from feet to head; returns the paths in that order.

    source  PS3.3 A.3 (CT IOD), C.7.6.2 (image plane), C.11.1 (rescale)
    """
    volume = render_volume(thorax, slices=slices)
    return [_save(_slice(volume, i, identity), folder / f"ct-{i + 1:04d}.dcm") for i in range(slices)]


def _slice(volume: Volume, i: int, identity: Identity) -> Dataset:
    ds = _object(identity, study.CT, "CT", "chest", 2, i + 1)
    ds.SeriesDescription = "Chest 2 mm lung"
    ds.BodyPartExamined = "CHEST"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientPosition = "HFS"
    ds.FrameOfReferenceUID = identity.series_uid("frame")
    ds.PositionReferenceIndicator = ""
    ds.AcquisitionNumber = "1"
    ds.KVP = "120"
    ds.ConvolutionKernel = volume.kernel
    ds.GantryDetectorTilt = "0"
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    _, row_mm, column_mm = volume.spacing_mm
    ds.PixelSpacing = [f"{row_mm:.8f}", f"{column_mm:.8f}"]
    ds.SliceThickness = f"{volume.thickness_mm:.4f}"
    ds.SpacingBetweenSlices = f"{volume.spacing_mm[0]:.4f}"
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    corner = volume.affine @ [0, 0, i, 1]
    ds.ImagePositionPatient = [f"{v:.4f}" for v in corner[:3]]
    ds.SliceLocation = f"{corner[2]:.4f}"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(CT_INTERCEPT), "1", "HU"
    ds.WindowCenter, ds.WindowWidth = ["-500", "40"], ["1500", "400"]
    _pixels(ds, (volume.hu[i].astype(np.int32) - CT_INTERCEPT).astype("<u2"), FILM_BITS)
    return ds


def _object(
    identity: Identity, sop_class: str, modality: str, series: str, series_number: int, number: int
) -> Dataset:
    """What every object says: patient, study, series, equipment, and that nobody is behind it."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = uid_of(identity.study_instance_uid, series, str(number))
    ds.StudyInstanceUID, ds.SeriesInstanceUID = identity.study_instance_uid, identity.series_uid(series)
    ds.PatientName, ds.PatientID = identity.patient_name, identity.patient_id
    ds.PatientBirthDate, ds.PatientSex = identity.patient_birth_date, identity.patient_sex
    ds.PatientAge = identity.patient_age
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = identity.study_date
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = identity.study_time
    ds.AccessionNumber, ds.StudyID = identity.accession_number, identity.study_id
    ds.StudyDescription = identity.study_description
    ds.ReferringPhysicianName = identity.referring_physician_name
    ds.InstitutionName = identity.institution_name
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = modality, str(series_number), str(number)
    ds.Manufacturer, ds.ManufacturerModelName = MANUFACTURER, MODEL
    ds.DeviceSerialNumber, ds.SoftwareVersions = "1", "1"
    ds.StationName = "PHANTOM"
    if identity.quality_control:
        ds.QualityControlImage = "YES"
    return ds


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _pixels(ds: Dataset, stored: np.ndarray[tuple[int, ...], np.dtype[np.uint16]], bits: int) -> None:
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, 0
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"


def _save(ds: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    FileDataset(str(path), ds, file_meta=meta, preamble=b"\0" * 128).save_as(path, enforce_file_format=True)
    return path
