"""Header values of one received object, parsed once at the border (`dicom.header`) and trusted inside.

Names are DICOM keywords in snake case. Every field has a defined value: "" or None where the object says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

StudyInstanceUID = NewType("StudyInstanceUID", str)
SeriesInstanceUID = NewType("SeriesInstanceUID", str)
SOPInstanceUID = NewType("SOPInstanceUID", str)

CONSTANCY_PATIENT_PREFIX = "TRIAGE-CONSTANCY"  # reserved: hidden from readers and reports

DRILL_PATIENT_ID = "TRIAGE-DRILL"  # of rehearsals and test messages: there is no such patient

CR = "1.2.840.10008.5.1.4.1.1.1"
DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_CONVERTED_CT = "1.2.840.10008.5.1.4.1.1.2.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

RADIOGRAPH_CLASSES = frozenset({CR, DX_FOR_PRESENTATION, DX_FOR_PROCESSING})
CT_CLASSES = frozenset({CT, ENHANCED_CT, LEGACY_CONVERTED_CT})
# Transfer syntaxes that are, or may be, lossy. source: PS3.5 10
LOSSY_SYNTAXES = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in ("50", "51", "81", "91", "203", "111", "112"))


@dataclass(frozen=True, kw_only=True)
class InstanceHeader:
    """What intake, completeness and suitability need of one object; pixels excluded."""

    sop_class_uid: str
    sop_instance_uid: SOPInstanceUID
    study_instance_uid: StudyInstanceUID
    series_instance_uid: SeriesInstanceUID
    transfer_syntax_uid: str
    # patient
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = (
        ""  # person name as sent, decoded to text; alphabetic=ideographic=phonetic groups kept
    )
    patient_birth_date: str = ""  # YYYYMMDD or ""
    patient_sex: str = ""
    patient_age_years: float | None = None  # from (0010,1010), else birth and study date (standards 4.1)
    # study
    accession_number: str = ""
    study_id: str = ""
    study_description: str = ""
    study_date: str = ""
    study_time: str = ""
    timezone_offset: str = ""  # (0008,0201), "+0100"
    referring_physician_name: str = ""
    institutional_department_name: str = ""
    # series
    modality: str = ""
    series_number: int | None = None
    series_description: str = ""
    protocol_name: str = ""
    body_part_examined: str = ""
    anatomic_region_code: str = ""  # "816094009,SCT"
    view_position: str = ""
    view_code: str = ""  # code value of (0054,0220)
    patient_position: str = ""
    laterality: str = ""
    presentation_intent_type: str = ""
    manufacturer: str = ""
    manufacturer_model_name: str = ""
    station_name: str = ""
    convolution_kernel: str = ""
    slice_thickness_mm: float | None = None
    gantry_tilt_degrees: float | None = None
    kvp: float | None = None
    images_in_acquisition: int | None = None
    acquisition_number: int | None = None
    frame_of_reference_uid: str = ""
    # instance
    instance_number: int | None = None
    image_type: tuple[str, ...] = ()
    patient_orientation: tuple[str, ...] = ()
    acquisition_datetime: str = ""  # best of (0008,002A), acquisition/content date+time; "YYYYMMDDHHMMSS"
    rows: int = 0
    columns: int = 0
    number_of_frames: int = 1
    samples_per_pixel: int = 1
    bits_allocated: int = 0
    bits_stored: int = 0
    photometric_interpretation: str = ""
    pixel_spacing_mm: tuple[float, float] | None = (
        None  # (0028,0030), else (0018,1164): (between rows, between columns)
    )
    image_position_patient: tuple[float, float, float] | None = None
    image_orientation_patient: tuple[float, float, float, float, float, float] | None = None
    rescale_slope: float | None = None
    rescale_intercept: float | None = None
    rescale_type: str = ""
    quality_control_image: str = ""
    burned_in_annotation: str = ""
    lossy: bool = False  # (0028,2110): it once went through a lossy compression, whatever its syntax is now
    species: str = ""  # (0010,2201) or code meaning; "" for people
    has_pixel_data: bool = True
    # copied into what we make
    other_patient_ids: tuple[tuple[str, str, str], ...] = ()  # (0010,1002): id, issuer, type
    issuer_of_accession_number: tuple[str, str, str] = ("", "", "")  # (0008,0051): local, universal, its type
    window: tuple[float, float] | None = None  # first Window Center (0028,1050) and Width (0028,1051)
    has_voi_lut: bool = False  # VOI LUT Sequence (0028,3010): no window says the same
