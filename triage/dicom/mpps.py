"""Modality Performed Procedure Step as SCP: what a modality says that it made (PS3.4 F.7, PS3.3 C.4.14 to C.4.16).

The final message lists every instance of every series: the best evidence there is of what is still to come.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt

from triage.dicom.handover import Service
from triage.dicom.statuses import INVALID_ATTRIBUTE_VALUE, MISSING_ATTRIBUTE, MISSING_VALUE, Failed, answer

MPPS = "1.2.840.10008.3.1.2.3.3"
IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"
STATES = (IN_PROGRESS, COMPLETED, DISCONTINUED)
MOST_STUDIES, MOST_SERIES, MOST_INSTANCES = 50, 1_000, 100_000


@dataclass(frozen=True, kw_only=True)
class Said:
    """One message about a step.

    state            "" where an N-SET says none
    study_uids       of the scheduled steps that it performs; () where nothing is said
    series           Series Instance UID to its SOP Instance UIDs; None where nothing is said
    discontinuation  code value of CID 9300, scheme DCM
    digest           of the message as it came, to know a repetition
    """

    sop_instance_uid: str
    sender: str
    digest: str
    state: str = ""
    study_uids: tuple[str, ...] = ()
    series: Mapping[str, tuple[str, ...]] | None = None
    discontinuation: str = ""


def service(on_create: Callable[[Said], None], on_set: Callable[[Said], None]) -> Service:
    """on_create, on_set  keep it durably before they return; raise `statuses.Failed`"""

    def create(event: evt.Event) -> tuple[Dataset, Dataset | None]:
        def act() -> Dataset | None:
            request: Any = event.request  # an N-CREATE
            given = request.AffectedSOPInstanceUID
            uid = str(given or f"2.25.{uuid.uuid4().int}")
            on_create(read_create(event.attribute_list, uid, _sender(event), _digest(request.AttributeList)))
            if given:
                return None
            named = Dataset()
            named.AffectedSOPInstanceUID = uid
            return named

        return answer(act)

    def change(event: evt.Event) -> tuple[Dataset, Dataset | None]:
        def act() -> None:
            request: Any = event.request  # an N-SET
            uid, digest = str(request.RequestedSOPInstanceUID), _digest(request.ModificationList)
            on_set(read_set(event.modification_list, uid, _sender(event), digest))

        return answer(act)

    return Service(sop_classes=(MPPS,), answers={evt.EVT_N_CREATE: create, evt.EVT_N_SET: change})


def read_create(ds: Dataset, sop_instance_uid: str, sender: str, digest: str) -> Said:
    """raises Failed for what no step can begin with"""
    if "PerformedProcedureStepStatus" not in ds:
        raise Failed(MISSING_ATTRIBUTE, "Performed Procedure Step Status (0040,0252)")
    if ds.PerformedProcedureStepStatus != IN_PROGRESS:
        raise Failed(INVALID_ATTRIBUTE_VALUE, "a step begins IN PROGRESS")
    if "ScheduledStepAttributesSequence" not in ds:
        raise Failed(MISSING_ATTRIBUTE, "Scheduled Step Attributes Sequence (0040,0270)")
    if not ds.ScheduledStepAttributesSequence:
        raise Failed(MISSING_VALUE, "Scheduled Step Attributes Sequence (0040,0270)")
    return _said(ds, sop_instance_uid, sender, digest)


def read_set(ds: Dataset, sop_instance_uid: str, sender: str, digest: str) -> Said:
    """raises Failed for a state that there is not"""
    state = ds.get("PerformedProcedureStepStatus") or ""
    if state and state not in STATES:
        raise Failed(INVALID_ATTRIBUTE_VALUE, "Performed Procedure Step Status (0040,0252)")
    return _said(ds, sop_instance_uid, sender, digest)


def _said(ds: Dataset, sop_instance_uid: str, sender: str, digest: str) -> Said:
    scheduled = (ds.get("ScheduledStepAttributesSequence") or ())[:MOST_STUDIES]
    studies = dict.fromkeys(str(item.get("StudyInstanceUID") or "")[:64] for item in scheduled)
    reasons = ds.get("PerformedProcedureStepDiscontinuationReasonCodeSequence") or ()
    return Said(
        sop_instance_uid=sop_instance_uid[:64],
        sender=sender,
        digest=digest,
        state=str(ds.get("PerformedProcedureStepStatus") or ""),
        study_uids=tuple(uid for uid in studies if uid),
        series=_series(ds) if "PerformedSeriesSequence" in ds else None,
        discontinuation=str(reasons[0].get("CodeValue") or "")[:16] if reasons else "",
    )


def _series(ds: Dataset) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    count = 0
    for item in ds.PerformedSeriesSequence or ():
        made = [
            str(sop.get("ReferencedSOPInstanceUID") or "")[:64]
            for name in ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")
            for sop in item.get(name) or ()
        ]
        count += len(made)
        if len(found) >= MOST_SERIES or count > MOST_INSTANCES:
            raise Failed(INVALID_ATTRIBUTE_VALUE, "more series or instances than one step can have")
        uid = str(item.get("SeriesInstanceUID") or "")[:64]
        if uid:
            found[uid] = tuple(sorted({*found.get(uid, ()), *filter(None, made)}))
    return found


def _sender(event: evt.Event) -> str:
    return str(event.assoc.requestor.ae_title)


def _digest(encoded: object) -> str:
    return hashlib.sha256(encoded.getvalue() if hasattr(encoded, "getvalue") else b"").hexdigest()
