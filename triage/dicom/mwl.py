"""Modality Worklist as the one who asks: what was ordered (PS3.4 K)."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom.presentation import build_context

from triage.dicom.associate import Remote, associate
from triage.dicom.query import PENDING

MODALITY_WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
MOST_ANSWERS = 50
_TEXTS = {
    "accession_number": "AccessionNumber",
    "study_instance_uid": "StudyInstanceUID",
    "patient_id": "PatientID",
    "priority": "RequestedProcedurePriority",
    "patient_location": "CurrentPatientLocation",
    "reason_for_exam": "ReasonForTheRequestedProcedure",
    "procedure_text": "RequestedProcedureDescription",
    "placer_order_number": "PlacerOrderNumberImagingServiceRequest",
    "filler_order_number": "FillerOrderNumberImagingServiceRequest",
    "ordering_provider": "RequestingPhysician",
}


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """One scheduled procedure as the worklist tells it; "" for what it does not say."""

    accession_number: str
    study_instance_uid: str
    patient_id: str
    priority: str
    patient_location: str
    reason_for_exam: str
    procedure_text: str
    placer_order_number: str
    filler_order_number: str
    ordering_provider: str
    modality: str


def find_scheduled(remote: Remote, *, accession_number: str = "", patient_id: str = "") -> list[Scheduled]:
    """What is scheduled under this accession number, else for this patient; at most 50.

    raises  Unavailable when it cannot be asked
    """
    association = associate(remote, [build_context(MODALITY_WORKLIST_FIND)])
    found = []
    try:
        answers = association.send_c_find(_query(accession_number, patient_id), MODALITY_WORKLIST_FIND)
        for number, (status, answer) in enumerate(answers):
            if number >= MOST_ANSWERS or "Status" not in status:
                break
            if status.Status in PENDING and answer is not None:
                found.append(_scheduled(answer))
    finally:
        if association.is_established:
            association.release()
    return found


def _query(accession_number: str, patient_id: str) -> Dataset:
    ds, step = Dataset(), Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _TEXTS.values():
        setattr(ds, keyword, None)
    ds.AccessionNumber = _literal(accession_number)
    ds.PatientID = "" if accession_number else _literal(patient_id)
    ds.PatientName = ""
    step.Modality = step.ScheduledStationAETitle = step.ScheduledProcedureStepStartDate = ""
    ds.ScheduledProcedureStepSequence = Items([step])
    return ds


def _literal(value: str) -> str:
    """Matched as it stands: without what a query would take for a wildcard (PS3.4 C.2.2.2.4)."""
    return "" if set(value) & set("*?\\") else value


def _scheduled(answer: Dataset) -> Scheduled:
    step = next(iter(answer.get("ScheduledProcedureStepSequence") or ()), Dataset())
    texts = {name: _text(answer, keyword) for name, keyword in _TEXTS.items()}
    return Scheduled(**texts, modality=_text(step, "Modality"))


def _text(ds: Dataset, keyword: str) -> str:
    """As text of one line without control characters: it travels on into pages."""
    return "".join(c for c in str(ds.get(keyword) or "") if c.isprintable()).strip()[:200]
