"""Whose object it is: patient and study modules copied from the received image, unchanged (standards 6.1), but for what a
registry said since (the workflow has put that into the header).

Text goes out as UTF-8 whatever the sender's character set was.
"""

from __future__ import annotations

import re

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from triage.domain.study import InstanceHeader


def copy_identity(ds: Dataset, header: InstanceHeader) -> None:
    """Patient and study as received (PS3.3 C.7.1.1, C.7.2.1). A value too long for its VR stays: cut, it would name
    somebody else."""
    ds.StudyInstanceUID = header.study_instance_uid
    for keyword, value in (
        ("PatientName", header.patient_name.split("\\")[0].strip()),
        ("PatientID", header.patient_id),
        ("PatientBirthDate", header.patient_birth_date),
        ("PatientSex", header.patient_sex if header.patient_sex in ("M", "F", "O") else ""),
        ("StudyDate", header.study_date),
        ("StudyTime", _time(header.study_time)),
        ("StudyID", header.study_id),
        ("AccessionNumber", header.accession_number),
        ("ReferringPhysicianName", header.referring_physician_name.split("\\")[0].strip()),
    ):
        as_received(ds, keyword, value)
    for keyword, value in (
        ("IssuerOfPatientID", header.issuer_of_patient_id),
        ("StudyDescription", header.study_description),
    ):
        if value:
            as_received(ds, keyword, value)
    if header.other_patient_ids:
        ds.OtherPatientIDsSequence = Items([_other_id(*other) for other in header.other_patient_ids])
    if any(header.issuer_of_accession_number):
        ds.IssuerOfAccessionNumberSequence = issuer_of_accession(header)


def _other_id(patient_id: str, issuer: str, kind: str) -> Dataset:
    item = Dataset()
    as_received(item, "PatientID", patient_id)
    if issuer:
        as_received(item, "IssuerOfPatientID", issuer)
    item.TypeOfPatientID = kind if kind in ("TEXT", "RFID", "BARCODE") else "TEXT"
    return item


def issuer_of_accession(header: InstanceHeader) -> Items:
    """Issuer of Accession Number Sequence (0008,0051): HL7v2 Hierarchic Designator Macro (PS3.3 10.14)."""
    local, universal, kind = header.issuer_of_accession_number
    item = Dataset()
    if local:
        as_received(item, "LocalNamespaceEntityID", local)
    if universal:
        as_received(item, "UniversalEntityID", universal)
        item.UniversalEntityIDType = kind
    return Items([item])


def as_received(ds: Dataset, keyword: str, value: str) -> None:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    ds.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))


def _time(received: str) -> str:
    """HHMMSS.FFFFFF of a TM value, also of the old form with colons; "" for what is no time (PS3.5 6.2)."""
    match = re.fullmatch(
        r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d|60)(\.\d{1,6})?)?)?", received.replace(":", "")
    )
    return match[0] if match else ""
