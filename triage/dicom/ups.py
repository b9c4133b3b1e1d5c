"""Unified Procedure Step as SCP over DIMSE: our reading list for workstations that speak no DICOMweb (PS3.4 CC).

Push, Watch, Pull and Query contexts are answered alike: work items come from our own list, so none is created here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydicom.dataset import Dataset
from pynetdicom import build_role, evt
from pynetdicom.presentation import build_context

from triage.dicom.associate import Remote, associate
from triage.dicom.handover import Service
from triage.dicom.statuses import MISSING_ATTRIBUTE, NO_SUCH_ACTION, Failed, answer
from triage.dicom.workitem import UPS_EVENT, UPS_PUSH
from triage.domain.errors import Refused, TriageError, Unavailable

WATCH, PULL, QUERY = (f"1.2.840.10008.5.1.4.34.6.{n}" for n in (2, 3, 5))
CHANGE_STATE, REQUEST_CANCEL, SUBSCRIBE, UNSUBSCRIBE, SUSPEND = 1, 2, 3, 4, 5  # Action Type IDs
NO_LOCK = 0xB301
PENDING, PENDING_SOME_KEYS, CANCELLED = 0xFF00, 0xFF01, 0xFE00
OUT_OF_RESOURCES, UNABLE = 0xA700, 0xC000
_ALWAYS = ("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID")
_OF_SUBSCRIPTION = ("ReceivingAE", "DeletionLock")  # beside the keys of a filtered one
# Keys that are matched (PS3.4 table CC.2.5-3), and what `store.workitems.search` calls them.
_MATCHED = {
    "ProcedureStepState": "states",
    "ScheduledProcedureStepPriority": "priorities",
    "InputReadinessState": "readiness",
    "StudyInstanceUID": "study_instance_uid",
    "PatientID": "patient_id",
}
_LISTS = ("states", "priorities")


@dataclass(frozen=True)
class Asked:
    """A search. matches: arguments of `store.workitems.search`; ignored: a key with a value that we do not match"""

    matches: dict[str, Any]
    ignored: bool


class Desk(Protocol):
    """What answers; each raises `statuses.Failed`. who: AE title of the caller."""

    def find(self, asked: Asked) -> Iterable[Dataset]: ...
    def get(self, uid: str) -> Dataset: ...
    def update(self, uid: str, said: Dataset) -> None: ...
    def move(self, uid: str, state: str, transaction_uid: str, who: str) -> int: ...
    def ask_cancel(self, uid: str, reason: str, who: str) -> int: ...
    def subscribe(self, uid: str, receiver: str, asked: Asked) -> None: ...
    def unsubscribe(self, uid: str, receiver: str) -> None: ...
    def suspend(self, uid: str, receiver: str) -> None: ...


def service(desk: Desk) -> Service:
    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        return _find(event, desk)

    def get(event: evt.Event) -> tuple[Dataset, Dataset | None]:
        request: Any = event.request
        return answer(
            lambda: _only(desk.get(str(request.RequestedSOPInstanceUID)), event.attribute_identifiers)
        )

    def change(event: evt.Event) -> tuple[Dataset, Dataset | None]:
        request: Any = event.request
        return answer(lambda: desk.update(str(request.RequestedSOPInstanceUID), event.modification_list))

    def act(event: evt.Event) -> tuple[Dataset, Dataset | None]:
        request: Any = event.request
        uid, kind = str(request.RequestedSOPInstanceUID), int(request.ActionTypeID)
        return answer(
            lambda: _act(desk, uid, kind, event.action_information, str(event.assoc.requestor.ae_title))
        )

    return Service(
        sop_classes=(UPS_PUSH, WATCH, PULL, QUERY),
        answers={
            evt.EVT_C_FIND: find, evt.EVT_N_GET: get, evt.EVT_N_SET: change, evt.EVT_N_ACTION: act,
        },
    )  # fmt: skip


def read_query(ds: Dataset) -> Asked:
    """The keys of a C-FIND, or of a filtered subscription."""
    matches: dict[str, Any] = {}
    ignored = False
    for element in ds:
        value = element.value
        if element.keyword == "ReferencedRequestSequence":
            wanted = str(value[0].get("AccessionNumber") or "") if value else ""
            matches |= {"accession_number": wanted} if wanted.strip("*") else {}
        elif element.keyword in _MATCHED:
            said = [str(v) for v in (value if element.VM > 1 else [value])]
            said = [] if value in (None, "") else [v for v in said if v.strip("*")]
            field = _MATCHED[element.keyword]
            if said:
                matches[field] = said if field in _LISTS else said[0]
        elif element.keyword not in _ALWAYS + _OF_SUBSCRIPTION:
            ignored |= bool(value) if element.VR != "SQ" else any(len(item) for item in value)
    return Asked(matches, ignored)


def _find(event: evt.Event, desk: Desk) -> Iterator[tuple[int, Dataset | None]]:
    try:
        query = event.identifier
        asked = read_query(query)
        status = PENDING_SOME_KEYS if asked.ignored else PENDING
        for found in desk.find(asked):
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield status, _only(found, [element.tag for element in query])
    except TriageError as error:
        yield (OUT_OF_RESOURCES if isinstance(error, Unavailable) else UNABLE), None


def _only(ds: Dataset, tags: Sequence[Any]) -> Dataset:
    """What was asked for; everything where nothing was named."""
    if not tags:
        return ds
    kept = Dataset()
    for element in ds:
        if element.tag in tags or element.keyword in _ALWAYS:
            kept.add(element)
    return kept


def _act(desk: Desk, uid: str, kind: int, said: Dataset, who: str) -> int | None:
    if kind == CHANGE_STATE:
        state, transaction = said.get("ProcedureStepState"), said.get("TransactionUID")
        if not state or not transaction:
            raise Failed(MISSING_ATTRIBUTE, "Procedure Step State and Transaction UID")
        return desk.move(uid, str(state), str(transaction), who)
    if kind == REQUEST_CANCEL:
        return desk.ask_cancel(uid, str(said.get("ReasonForCancellation") or ""), who)
    acts: dict[int, Callable[[str, str], None]] = {
        SUBSCRIBE: lambda step, ae: desk.subscribe(step, ae, read_query(said)),
        UNSUBSCRIBE: desk.unsubscribe, SUSPEND: desk.suspend,
    }  # fmt: skip
    if kind not in acts:
        raise Failed(NO_SUCH_ACTION, "action types 1 to 5")
    receiver = str(said.get("ReceivingAE") or "").strip()
    if not receiver:
        raise Failed(MISSING_ATTRIBUTE, "Receiving AE (0074,1234)")
    acts[kind](uid, receiver)
    return NO_LOCK if kind == SUBSCRIBE and said.get("DeletionLock") == "TRUE" else None


def send_events(remote: Remote, events: Sequence[tuple[int, str, Dataset]]) -> list[int]:
    """Tell a subscriber (Event Type ID, SOP Instance UID, attributes), in order; the status of each.

    raises  Unavailable when it cannot be reached or stops answering; Refused when it does not take the service
    """
    association = associate(remote, [build_context(UPS_EVENT)], roles=[build_role(UPS_EVENT, scp_role=True)])
    statuses: list[int] = []
    try:
        if not any(c.as_scp for c in association.accepted_contexts):
            raise Refused(f"{remote.called} at {remote.where} takes no work item events")
        for number, (kind, uid, ds) in enumerate(events):
            status, _ = association.send_n_event_report(
                ds, kind, UPS_PUSH, uid, msg_id=number % 65_535 + 1, meta_uid=UPS_EVENT
            )
            if "Status" not in status:
                raise Unavailable(f"{remote.where} stopped answering")
            statuses.append(int(status.Status))
    finally:
        if association.is_established:
            association.release()
    return statuses
