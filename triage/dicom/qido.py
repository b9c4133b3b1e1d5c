"""QIDO-RS and metadata as DICOM JSON: what a request asks, and rows as data sets (PS3.18 8.3.4, 10.6, F)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from triage.domain.errors import Refused

How = Literal["uid", "text", "name", "range", "number"]
_UIDS = frozenset({"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"})
_RANGES = frozenset({"StudyDate", "StudyTime", "PatientBirthDate"})
_NUMBERS = frozenset({"SeriesNumber", "InstanceNumber"})
_UID = re.compile(r"[0-9][0-9.]{0,63}\Z")
_PARTIAL = re.compile(r"[0-9]{2,14}(\.[0-9]{1,6})?\Z")


def keyword_of(name: str) -> str:
    """The keyword of an attribute named by keyword or ggggeeee. raises Refused for what PS3.6 does not have"""
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        keyword = keyword_for_tag(int(name, 16))
    else:
        first, *_ = name.split(".")
        keyword = first if tag_for_keyword(first) is not None else ""
    if not keyword:
        raise Refused(f"{name[:64]!r} is no attribute of PS3.6")
    return keyword


def wanted(keyword: str, value: str) -> tuple[How, tuple[str, ...]] | None:
    """How a value matches (PS3.4 C.2.2.2); None: universal. raises Refused for a value that cannot be one"""
    if not value or value == "*":
        return None
    if keyword in _UIDS:
        uids = tuple(u.strip() for u in re.split(r"[,\\]", value))
        if not all(_UID.match(u) for u in uids) or len(uids) > 500:
            raise Refused(f"{keyword} is a list of UIDs")
        return "uid", uids
    if keyword in _RANGES:
        low, dash, high = value.replace(":", "").partition("-")
        if not all(not part or _PARTIAL.match(part) for part in (low, high)) or not (low or high):
            raise Refused(f"{keyword} is a day or time, or a range of them: 20260101-20260131")
        return "range", (low, high if dash else low)
    if keyword in _NUMBERS:
        if not re.fullmatch(r"-?[0-9]{1,9}", value):
            raise Refused(f"{keyword} is a number")
        return "number", (value,)
    how: How = "name" if keyword in ("PatientName", "ReferringPhysicianName") else "text"
    return how, tuple(value[:400].split("\\"))


def data_set(values: Mapping[str, Any]) -> dict[str, Any]:
    """DICOM JSON of {keyword: value}; "" and None are elements without a value, in order of tag."""
    found = {}
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        found[f"{tag:08X}"] = _element(dictionary_VR(tag), value)
    return dict(sorted(found.items()))


def _element(vr: str, value: Any) -> dict[str, Any]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    if all(v in ("", None) for v in values):
        return {"vr": vr}
    return {"vr": vr, "Value": [_person(v) if vr == "PN" else v for v in values]}


def _person(name: str) -> dict[str, str]:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), name.split("="), strict=False)
    return {group: text for group, text in groups if text}


def row_of_study(row: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """{keyword: value} of a study for `data_set`. more: of `store.holdings.of_studies`"""
    header = more.get("header", {})
    return {
        "StudyDate": header.get("study_date", ""),
        "StudyTime": header.get("study_time", ""),
        "AccessionNumber": row["accession_number"],
        "InstanceAvailability": "ONLINE",
        "ModalitiesInStudy": more.get("modalities", []) or "",
        "ReferringPhysicianName": row["referring_physician_name"],
        "TimezoneOffsetFromUTC": row["timezone_offset"],
        "StudyDescription": row["study_description"],
        "PatientName": row["patient_name"],
        "PatientID": row["patient_code"],
        "IssuerOfPatientID": row["issuer_of_patient_id"],
        "PatientBirthDate": row["patient_birth_date"],
        "PatientSex": row["patient_sex"],
        "StudyInstanceUID": row["study_instance_uid"],
        "StudyID": header.get("study_id", ""),
        "NumberOfStudyRelatedSeries": more.get("series", 0),
        "NumberOfStudyRelatedInstances": more.get("instances", 0),
    }


def row_of_series(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Modality": row["modality"],
        "SeriesDescription": row["series_description"],
        "BodyPartExamined": row["body_part_examined"],
        "SeriesInstanceUID": row["series_instance_uid"],
        "SeriesNumber": row["series_number"],
        "NumberOfSeriesRelatedInstances": row["instance_count"],
    }


def row_of_instance(header: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "SOPClassUID": header["sop_class_uid"],
        "SOPInstanceUID": header["sop_instance_uid"],
        "InstanceAvailability": "ONLINE",
        "AvailableTransferSyntaxUID": header["transfer_syntax_uid"],
        "InstanceNumber": header["instance_number"],
        "Rows": header["rows"] or None,
        "Columns": header["columns"] or None,
        "BitsAllocated": header["bits_allocated"] or None,
        "NumberOfFrames": header["number_of_frames"],
    }
