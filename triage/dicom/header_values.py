"""Which elements of a header are kept, and the `InstanceHeader` that their values make."""

from __future__ import annotations

from dataclasses import replace

from triage.dicom.dates import acquisition_datetime, age_years, tolerant_date
from triage.dicom.elements import Elements, Wanted
from triage.dicom.text import Values
from triage.domain.study import InstanceHeader, SeriesInstanceUID, SOPInstanceUID, StudyInstanceUID

MOST_OTHER_IDS = 20
_CODE: Wanted = dict.fromkeys((0x00080005, 0x00080100, 0x00080102, 0x00080104))

# Functional groups of one frame (PS3.3 C.7.6.16.2, C.8.15.3): what geometry and rescale need.
FRAME_GROUPS: Wanted = {
    0x00180026: None,
    0x00209111: dict.fromkeys((0x00209056, 0x00209057, 0x00209157, 0x00209074, 0x00209156)),  # Frame Content
    0x00209113: {0x00200032: None},  # Plane Position
    0x00209116: {0x00200037: None},  # Plane Orientation
    0x00289110: dict.fromkeys((0x00280030, 0x00180050)),  # Pixel Measures
    0x00289145: dict.fromkeys((0x00281052, 0x00281053, 0x00281054)),  # Pixel Value Transformation
    0x00189329: {0x00089007: None},  # CT Image Frame Type
    0x00189314: {0x00181210: None},  # CT Reconstruction
    0x00189304: {0x00181120: None},  # CT Acquisition Details: tilt
    0x00189325: {0x00180060: None},  # CT X-Ray Details
    0x00289132: dict.fromkeys((0x00281050, 0x00281051)),  # Frame VOI LUT
}

WANTED: Wanted = {
    **dict.fromkeys(
        (
            *(0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080020, 0x00080021, 0x00080022, 0x00080023),
            *(0x0008002A, 0x00080030, 0x00080031, 0x00080032, 0x00080033, 0x00080050, 0x00080060, 0x00080068),
            *(0x00080070, 0x00080090, 0x00080201, 0x00081010, 0x00081030, 0x0008103E, 0x00081040, 0x00081090),
            *(0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00100040, 0x00101010, 0x00102201),
            *(0x00180015, 0x00180050, 0x00180060, 0x00181030, 0x00181120, 0x00181164, 0x00181210),
            *(0x00185100, 0x00185101, 0x0020000D, 0x0020000E, 0x00200010, 0x00200011, 0x00200012, 0x00200013),
            *(0x00200020, 0x00200032, 0x00200037, 0x00200052, 0x00200060, 0x00200062, 0x00201002, 0x00280002),
            *(0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280030, 0x00280100, 0x00280101, 0x00280300),
            *(0x00280301, 0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281054, 0x00282110),
        )
    ),
    0x00080051: dict.fromkeys((0x00400031, 0x00400032, 0x00400033)),  # issuer of the accession number
    0x00082218: _CODE,
    0x00101002: dict.fromkeys((0x00100020, 0x00100021, 0x00100022)),
    0x00283010: {},  # VOI LUT: that there is one
    0x00102202: _CODE,
    0x00540220: _CODE,
    0x52009229: FRAME_GROUPS,
    0x52009230: FRAME_GROUPS,
}


def instance_header(
    ds: Elements, *, sop_class_uid: str, sop_instance_uid: str, study_instance_uid: str, series_instance_uid: str,
    transfer_syntax_uid: str,
) -> InstanceHeader:  # fmt: skip
    """source  standards 4.1 (age)"""
    v = Values(ds)
    study_date = tolerant_date(v.code(0x00080020))
    birth_date = tolerant_date(v.code(0x00100030))
    region = v.first(0x00082218)
    region_code = region.code(0x00080100)
    frames = v.code(0x00280008)
    header = InstanceHeader(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=SOPInstanceUID(sop_instance_uid),
        study_instance_uid=StudyInstanceUID(study_instance_uid),
        series_instance_uid=SeriesInstanceUID(series_instance_uid),
        transfer_syntax_uid=transfer_syntax_uid,
        patient_id=v.text(0x00100020),
        issuer_of_patient_id=v.text(0x00100021),
        patient_name=v.name(0x00100010),
        patient_birth_date=birth_date,
        patient_sex=v.code(0x00100040).upper(),
        patient_age_years=age_years(v.code(0x00101010), birth_date, study_date),
        accession_number=v.text(0x00080050),
        study_id=v.text(0x00200010),
        study_description=v.text(0x00081030),
        study_date=study_date,
        study_time=v.code(0x00080030),
        timezone_offset=v.code(0x00080201),
        referring_physician_name=v.name(0x00080090),
        institutional_department_name=v.text(0x00081040),
        modality=v.code(0x00080060).upper(),
        series_number=v.integer(0x00200011),
        series_description=v.text(0x0008103E),
        protocol_name=v.text(0x00181030),
        body_part_examined=v.text(0x00180015).upper(),
        anatomic_region_code=f"{region_code},{region.code(0x00080102)}" if region_code else "",
        view_position=v.code(0x00185101).upper(),
        view_code=v.first(0x00540220).code(0x00080100),
        patient_position=v.code(0x00185100).upper(),
        laterality=(v.code(0x00200062) or v.code(0x00200060)).upper(),
        presentation_intent_type=v.code(0x00080068).upper(),
        manufacturer=v.text(0x00080070),
        manufacturer_model_name=v.text(0x00081090),
        station_name=v.text(0x00081010),
        convolution_kernel="\\".join(v.strings(0x00181210)),
        slice_thickness_mm=v.real(0x00180050),
        gantry_tilt_degrees=v.real(0x00181120),
        kvp=v.real(0x00180060),
        images_in_acquisition=v.integer(0x00201002),
        acquisition_number=v.integer(0x00200012),
        frame_of_reference_uid=v.code(0x00200052),
        instance_number=v.integer(0x00200013),
        image_type=tuple(t.upper() for t in v.strings(0x00080008)),
        patient_orientation=tuple(t.upper() for t in v.strings(0x00200020)),
        acquisition_datetime=acquisition_datetime(v),
        rows=v.unsigned(0x00280010),
        columns=v.unsigned(0x00280011),
        number_of_frames=1 if not frames else v.integer(0x00280008) or 0,  # 0: the header says nonsense
        samples_per_pixel=v.unsigned(0x00280002),
        bits_allocated=v.unsigned(0x00280100),
        bits_stored=v.unsigned(0x00280101),
        photometric_interpretation=v.code(0x00280004).upper(),
        pixel_spacing_mm=_pair(v.floats(0x00280030)) or _pair(v.floats(0x00181164)),
        image_position_patient=_triple(v.floats(0x00200032)),
        image_orientation_patient=_six(v.floats(0x00200037)),
        rescale_slope=v.real(0x00281053),
        rescale_intercept=v.real(0x00281052),
        rescale_type=v.code(0x00281054).upper(),
        quality_control_image=v.code(0x00280300).upper(),
        burned_in_annotation=v.code(0x00280301).upper(),
        lossy=v.code(0x00282110) == "01",
        species=v.text(0x00102201) or v.first(0x00102202).text(0x00080104),
        has_pixel_data=ds.pixel_tag != 0 and ds.pixel_length != 0,
        other_patient_ids=tuple(
            (other, item.text(0x00100021), item.code(0x00100022))
            for item in v.items(0x00101002)[:MOST_OTHER_IDS]
            if (other := item.text(0x00100020))
        ),
        issuer_of_accession_number=_issuer(v.first(0x00080051)),
        window=_window(v),
        has_voi_lut=bool(v.items(0x00283010)),
    )
    header = with_groups(header, v.first(0x52009229))
    return with_groups(header, v.first(0x52009230))


def with_groups(header: InstanceHeader, groups: Values) -> InstanceHeader:
    """`header` with what the functional groups of one frame (or the shared ones) say."""
    if not groups:
        return header
    measures = groups.first(0x00289110)
    transformation = groups.first(0x00289145)
    content = groups.first(0x00209111)
    frame_type = groups.first(0x00189329).strings(0x00089007)
    changes = {
        "image_position_patient": _triple(groups.first(0x00209113).floats(0x00200032)),
        "image_orientation_patient": _six(groups.first(0x00209116).floats(0x00200037)),
        "pixel_spacing_mm": _pair(measures.floats(0x00280030)),
        "slice_thickness_mm": measures.real(0x00180050),
        "rescale_slope": transformation.real(0x00281053),
        "rescale_intercept": transformation.real(0x00281052),
        "rescale_type": transformation.code(0x00281054).upper(),
        "image_type": tuple(t.upper() for t in frame_type),
        "convolution_kernel": "\\".join(groups.first(0x00189314).strings(0x00181210)),
        "gantry_tilt_degrees": groups.first(0x00189304).real(0x00181120),
        "kvp": groups.first(0x00189325).double(0x00180060),
        "acquisition_number": content.unsigned(0x00209156) or None,
        "window": _window(groups.first(0x00289132)),
    }
    return replace(header, **{k: v for k, v in changes.items() if v not in (None, "", ())})  # type: ignore[arg-type]


def _issuer(item: Values) -> tuple[str, str, str]:
    """Local and universal name of an HL7v2 hierarchic designator (PS3.3 10.14), and the type of the universal one."""
    return item.text(0x00400031), item.text(0x00400032), item.code(0x00400033)


def _window(v: Values) -> tuple[float, float] | None:
    """The first window (PS3.3 C.11.2.1.2); None without a width that LINEAR allows."""
    center, width = v.real(0x00281050), v.real(0x00281051)
    return (center, width) if center is not None and width is not None and width >= 1 else None


def _pair(numbers: tuple[float, ...]) -> tuple[float, float] | None:
    return (numbers[0], numbers[1]) if len(numbers) == 2 and min(numbers) > 0 else None


def _triple(numbers: tuple[float, ...]) -> tuple[float, float, float] | None:
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None


def _six(n: tuple[float, ...]) -> tuple[float, float, float, float, float, float] | None:
    return (n[0], n[1], n[2], n[3], n[4], n[5]) if len(n) == 6 else None
