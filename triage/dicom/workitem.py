"""A step of the reading list as a DICOM data set, and what a performer may say of it (PS3.3 B.26, PS3.18 11)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from triage.dicom.objects.items import Code, code
from triage.domain.errors import Refused

UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"
UPS_EVENT = "1.2.840.10008.5.1.4.34.6.4"
STATE, TRANSACTION = "00741000", "00081195"
PROGRESS, PERFORMED = "00741002", "00741216"  # sequences that a performer sets
LABEL, READY, PRIORITY = "00741204", "00404041", "00741200"
_NOT_PERFORMERS = frozenset({STATE, TRANSACTION})
_SETTABLE = frozenset({PROGRESS, PERFORMED, "00080005"})
# Final state requirements (PS3.4 CC.2.5.1.1, standards 2.6) of the performed procedure.
_NEEDED = {
    "00404028": "Performed Station Name Code Sequence",
    "00404050": "Performed Procedure Step Start DateTime",
    "00404051": "Performed Procedure Step End DateTime",
    "00404019": "Performed Workitem Code Sequence",
}


def as_dataset(
    row: Mapping[str, Any], series: Mapping[str, list[tuple[str, str]]], retrieve_url: str
) -> Dataset:
    """One step as it is retrieved; never with its Transaction UID (PS3.18 11.5.3).

    row     of `store.workitems`; series: the images to read; retrieve_url: base of our DICOMweb
    """
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = UPS_PUSH, row["sop_instance_uid"]
    ds.ProcedureStepState, ds.ScheduledProcedureStepPriority = row["state"], row["priority"]
    ds.ProcedureStepLabel = f"Read {row['modality']} {row['study_description']}".strip()[:64]
    ds.WorklistLabel = "triage reading list"
    ds.InputReadinessState = row["readiness"]
    ds.ScheduledProcedureStepStartDateTime = _moment(row["arrived_at"])
    ds.ExpectedCompletionDateTime = _moment(row["due_at"])
    ds.ScheduledProcedureStepModificationDateTime = _moment(row["changed_at"])
    ds.ScheduledWorkitemCodeSequence = Items([code(Code("110005", "DCM", "Interpretation"))])
    ds.ScheduledStationNameCodeSequence = ds.ScheduledProcessingParametersSequence = Items([])
    ds.StudyInstanceUID = row["study_instance_uid"]
    _patient(ds, row)
    ds.InputInformationSequence = Items(
        [_input(row, uid, sops, retrieve_url) for uid, sops in series.items()]
    )
    ds.ReferencedRequestSequence = Items([_request(row)])
    ds.CommentsOnTheScheduledProcedureStep = "; ".join(r["text"] for r in row["reasons"])[:1024]
    for tag, value in (row["performed"] or {}).items():
        if tag in _SETTABLE:
            ds.update(Dataset.from_json({tag: value}))
    return ds


def state_report(state: str, ready: str) -> dict[str, Any]:
    """Attributes of a UPS State Report as DICOM JSON (PS3.4 table CC.2.4-1)."""
    return {STATE: {"vr": "CS", "Value": [state]}, READY: {"vr": "CS", "Value": [ready]}}


def cancel_request(reason: str, who: str) -> dict[str, Any]:
    return {
        "00741234": {"vr": "AE", "Value": [who[:16]]},
        "00741238": {"vr": "LT", "Value": [reason[:1024]]} if reason else {"vr": "LT"},
    }


def event(number: int, sop_instance_uid: str, kind: int, data: Mapping[str, Any]) -> dict[str, Any]:
    """One event as it goes over the WebSocket (PS3.18 11.13): command and attributes in one data set."""
    return {
        "00000002": {"vr": "UI", "Value": [UPS_PUSH]},
        "00000110": {"vr": "US", "Value": [number % 65_536]},
        "00001000": {"vr": "UI", "Value": [sop_instance_uid]},
        "00001002": {"vr": "US", "Value": [kind]},
        **data,
    }


_TRANSACTION = "00081195"


def asked_state(document: Any) -> tuple[str, str]:
    """(Procedure Step State, Transaction UID) of a Change State body. raises Refused."""
    said = _one(document)
    return _text(said, STATE), _text(said, TRANSACTION)


def transaction_of(document: Any) -> str:
    """The Transaction UID that stands in the body of an update, as some clients have it; "" where none does."""
    values = _one(document).get(_TRANSACTION, {}).get("Value")
    return str(values[0]) if isinstance(values, list) and values else ""


def performed(document: Any) -> dict[str, Any]:
    """What an update sets, as DICOM JSON. raises Refused for what is no data set or is not a performer's to set."""
    said = {tag: value for tag, value in _one(document).items() if tag != _TRANSACTION}
    foreign = set(said) - _SETTABLE
    if foreign & _NOT_PERFORMERS:
        raise Refused("the state changes by PUT .../state alone")
    if foreign:
        raise Refused(f"these are not a performer's to set: {', '.join(sorted(foreign)[:5])}")
    try:
        Dataset.from_json(said)
    except Exception as error:
        raise Refused(f"the body is no DICOM JSON data set ({type(error).__name__})") from error
    return said


def missing_when_completed(said: Mapping[str, Any]) -> list[str]:
    """Names of what a step needs before it may be COMPLETED and does not have."""
    items = said.get(PERFORMED, {}).get("Value") or [{}]
    first = items[0] if isinstance(items[0], dict) else {}
    return [name for tag, name in _NEEDED.items() if not first.get(tag, {}).get("Value")]


def _one(document: Any) -> dict[str, Any]:
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    if not isinstance(document, dict) or not all(isinstance(v, dict) for v in document.values()):
        raise Refused("send one data set as application/dicom+json (PS3.18 F)")
    return document


def _text(said: Mapping[str, Any], tag: str) -> str:
    values = said.get(tag, {}).get("Value")
    return values[0][:64] if isinstance(values, list) and values and isinstance(values[0], str) else ""


def _patient(ds: Dataset, row: Mapping[str, Any]) -> None:
    ds.PatientName, ds.PatientID = row["patient_name"], row["patient_id"]
    if row["issuer_of_patient_id"]:
        ds.IssuerOfPatientID = row["issuer_of_patient_id"]
    ds.PatientBirthDate, ds.PatientSex = row["patient_birth_date"], row["patient_sex"][:1]
    ds.AdmissionID = ""


def _input(
    row: Mapping[str, Any], series_uid: str, sops: list[tuple[str, str]], retrieve_url: str
) -> Dataset:
    item, by_web = Dataset(), Dataset()
    item.TypeOfInstances, item.StudyInstanceUID = "DICOM", row["study_instance_uid"]
    item.SeriesInstanceUID, item.ReferencedSOPSequence = series_uid, Items([])
    for class_uid, uid in sops:
        sop = Dataset()
        sop.ReferencedSOPClassUID, sop.ReferencedSOPInstanceUID = class_uid, uid
        item.ReferencedSOPSequence.append(sop)
    by_web.RetrieveURL = f"{retrieve_url}/studies/{row['study_instance_uid']}/series/{series_uid}"
    item.WADORSRetrievalSequence = Items([by_web])
    return item


def _request(row: Mapping[str, Any]) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID, item.AccessionNumber = row["study_instance_uid"], row["accession_number"][:16]
    item.RequestedProcedureID = item.RequestedProcedureDescription = ""
    item.RequestedProcedureCodeSequence = Items([])
    return item


def _moment(at: datetime) -> str:
    return at.strftime("%Y%m%d%H%M%S") + "+0000"
