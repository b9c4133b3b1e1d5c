"""Unified Procedure Steps of an outside server as their performer (PS3.4 CC.2.1, CC.2.6 to CC.2.8; IHE AIW-I)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom.presentation import build_context

from triage.dicom.associate import Remote, associate
from triage.dicom.objects.items import Code, code
from triage.dicom.uids import is_uid
from triage.dicom.ups import CHANGE_STATE, PENDING, PENDING_SOME_KEYS, PULL
from triage.dicom.workitem import UPS_PUSH
from triage.domain.errors import Unavailable

MOST_ANSWERS, MOST_SEEN, MOST_INSTANCES = 1_000, 10_000, 100_000  # ours; with those of other codes


@dataclass(frozen=True)
class Inputs:
    """series: Series Instance UID to SOP Instance UIDs, () where none is named."""

    study_instance_uid: str
    series: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Output:
    """An object that we made; ae_title: from whom it can be fetched."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    ae_title: str


class UpsServer:
    """Each call is an association of its own. raises Unavailable when the server does not answer."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def scheduled(self, codes: Sequence[str]) -> list[str]:
        """SOP Instance UIDs of work items that are scheduled, ready, and of one of these workitem codes."""
        query = Dataset()
        query.ProcedureStepState, query.InputReadinessState = "SCHEDULED", "READY"
        query.SOPInstanceUID, query.ScheduledWorkitemCodeSequence = "", Items([])
        found: list[str] = []
        with self._calling() as association:
            for number, (status, ds) in enumerate(association.send_c_find(query, PULL)):
                if "Status" not in status or number >= MOST_SEEN or len(found) >= MOST_ANSWERS:
                    break
                if status.Status in (PENDING, PENDING_SOME_KEYS) and ds is not None and fits(ds, codes):
                    found.append(str(ds.SOPInstanceUID))
        return found

    def inputs(self, uid: str) -> Inputs | None:
        """None for a work item that is not there any more, or whose study or series has no UID."""
        with self._calling() as association:
            status, ds = association.send_n_get([], UPS_PUSH, uid, meta_uid=PULL)
        if _status(status, self._remote.where) != 0 or ds is None:
            return None
        return inputs_of(ds)

    def move(self, uid: str, transaction_uid: str, state: str) -> int:
        """Claim (IN PROGRESS) or end (COMPLETED, CANCELED); the status that it was answered with."""
        said = Dataset()
        said.ProcedureStepState, said.TransactionUID = state, transaction_uid
        with self._calling() as association:
            status, _ = association.send_n_action(said, CHANGE_STATE, UPS_PUSH, uid, meta_uid=PULL)
        return _status(status, self._remote.where)

    def say(self, uid: str, transaction_uid: str, said: Dataset) -> int:
        said.TransactionUID = transaction_uid
        with self._calling() as association:
            status, _ = association.send_n_set(said, UPS_PUSH, uid, meta_uid=PULL)
        return _status(status, self._remote.where)

    @contextmanager
    def _calling(self) -> Iterator[Any]:
        association = associate(self._remote, [build_context(PULL)])
        try:
            yield association
        finally:
            if association.is_established:
                association.release()


def progress(percent: int, words: str) -> Dataset:
    """Procedure Step Progress Information (0074,1002)."""
    ds, item = Dataset(), Dataset()
    item.ProcedureStepProgress, item.ProcedureStepProgressDescription = str(percent), words[:1024]
    ds.ProcedureStepProgressInformationSequence = Items([item])
    return ds


def cancellation(percent: int, words: str, reason: Code, at: datetime) -> Dataset:
    """What a step needs before it may be CANCELED (PS3.4 table CC.2.5-3, final state)."""
    ds = progress(percent, words)
    item = ds.ProcedureStepProgressInformationSequence[0]
    item.ProcedureStepCancellationDateTime = _moment(at)
    item.ReasonForCancellation = words[:1024]
    item.ProcedureStepDiscontinuationReasonCodeSequence = Items([code(reason)])
    return ds


def performed(outputs: Sequence[Output], began: datetime, ended: datetime) -> Dataset:
    """What a step needs before it may be COMPLETED: station, times, workitem code, outputs (standards 2.6)."""
    ds, done = Dataset(), Dataset()
    done.PerformedStationNameCodeSequence = Items([code(Code("TRIAGE", "99TRIAGE", "triage"))])
    done.PerformedWorkitemCodeSequence = Items([code(Code("110004", "DCM", "Computer Aided Detection"))])
    done.PerformedProcedureStepStartDateTime = _moment(began)
    done.PerformedProcedureStepEndDateTime = _moment(ended)
    done.PerformedProcedureStepDescription = "AI triage"
    done.OutputInformationSequence = Items([_output(o) for o in outputs])
    ds.UnifiedProcedureStepPerformedProcedureSequence = Items([done])
    return ds


def _output(output: Output) -> Dataset:
    item, sop, where = Dataset(), Dataset(), Dataset()
    item.TypeOfInstances, item.StudyInstanceUID = "DICOM", output.study_instance_uid
    item.SeriesInstanceUID = output.series_instance_uid
    sop.ReferencedSOPClassUID, sop.ReferencedSOPInstanceUID = output.sop_class_uid, output.sop_instance_uid
    item.ReferencedSOPSequence = Items([sop])
    where.RetrieveAETitle = output.ae_title
    item.DICOMRetrievalSequence = Items([where])
    return item


def inputs_of(ds: Dataset) -> Inputs | None:
    """What a work item is to be performed on (Input Information Sequence (0040,4021)).

    None when study or series have no UID that we could ask an archive for: a wildcard would fetch all that it has.
    """
    series: dict[str, tuple[str, ...]] = {}
    study = str(ds.get("StudyInstanceUID") or "")
    for item in ds.get("InputInformationSequence") or ():
        study = str(item.get("StudyInstanceUID") or study)
        named = [str(s.ReferencedSOPInstanceUID)[:64] for s in item.get("ReferencedSOPSequence") or ()]
        key = str(item.get("SeriesInstanceUID") or "")
        if key:
            series[key] = (*series.get(key, ()), *named[:MOST_INSTANCES])
    return Inputs(study, series) if all(is_uid(uid) for uid in (study, *series)) else None


def fits(ds: Dataset, codes: Sequence[str]) -> bool:
    """A work item that has a name, fit for the path of a request, and one of these workitem codes."""
    said = [str(item.get("CodeValue") or "") for item in ds.get("ScheduledWorkitemCodeSequence") or ()]
    return is_uid(str(ds.get("SOPInstanceUID", ""))) and not set(codes).isdisjoint(said)


def _status(status: Dataset, where: str) -> int:
    if "Status" not in status:
        raise Unavailable(f"{where} stopped answering")
    return int(status.Status)


def _moment(at: datetime) -> str:
    return at.strftime("%Y%m%d%H%M%S") + "+0000"
