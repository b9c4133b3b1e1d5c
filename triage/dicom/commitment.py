"""Storage commitment, push model (PS3.4 J): we ask peers, and answer those who ask us.

A report may come on the association of the request or days later on one that its sender opens; `handlers` serve both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import AE, build_role, evt
from pynetdicom.presentation import build_context
from pynetdicom.transport import ThreadedAssociationServer

from triage.dicom import services
from triage.dicom.associate import Remote, associate
from triage.dicom.handover import Service
from triage.dicom.statuses import (
    INVALID_ATTRIBUTE_VALUE,
    MISSING_ATTRIBUTE,
    NO_SUCH_ACTION,
    NO_SUCH_INSTANCE,
    RESOURCE_LIMITATION,
    Failed,
)
from triage.dicom.statuses import answer as answered
from triage.dicom.uids import is_uid
from triage.domain.errors import Refused, Unavailable
from triage.log import get_logger

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST = 1  # Action Type ID
HOLD_SECONDS = 5.0  # so long we listen on the association of the request (standards 2.4)
MOST_CALLERS = 5
MOST_OBJECTS = 10_000  # of one report
NO_SUCH_OBJECT, PROCESSING_FAILURE, CLASS_CONFLICT = 0x0112, 0x0110, 0x0119
ALL_COMMITTED, SOME_FAILED = 1, 2  # Event Type ID
log = get_logger()


@dataclass(frozen=True)
class Report:
    """What a peer says of one transaction. failed: SOP Instance UID to Failure Reason (PS3.3 C.14.1.1)."""

    transaction_uid: str
    committed: frozenset[str]
    failed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What a peer wants committed: (SOP Class UID, SOP Instance UID) each."""

    transaction_uid: str
    objects: tuple[tuple[str, str], ...]


Tell = Callable[[int, Dataset], bool]  # Event Type ID, report; False when the peer did not take it
OnRequest = Callable[[str, Asked, Tell], None]  # calling AE title


def request(
    remote: Remote, transaction_uid: str, objects: Sequence[tuple[str, str]],
    on_report: Callable[[Report], bool], hold_seconds: float = HOLD_SECONDS,
) -> bool:  # fmt: skip
    """Ask for commitment of (SOP class UID, SOP Instance UID) objects.

    on_report  as in `handlers`
    returns    True when the report came while we listened
    raises     Unavailable when the peer cannot be asked, Refused when it does not offer the service
    """
    heard = threading.Event()

    def hear(report: Report) -> bool:
        kept = on_report(report)
        if kept and report.transaction_uid == transaction_uid:
            heard.set()
        return kept

    # Verification as well: an association without the other context still tells that it is not offered.
    contexts = [build_context(STORAGE_COMMITMENT), build_context(services.VERIFICATION)]
    role = build_role(STORAGE_COMMITMENT, scu_role=True, scp_role=True)  # one association may serve both ways
    association = associate(remote, contexts, handlers(hear), [role])
    try:
        if STORAGE_COMMITMENT not in {c.abstract_syntax for c in association.accepted_contexts}:
            raise Refused(f"{remote.called} at {remote.where} does not offer storage commitment")
        status, _ = association.send_n_action(
            _request(transaction_uid, objects), REQUEST, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
        )
        if "Status" not in status:
            raise Unavailable(f"{remote.where} did not answer the request for commitment")
        if status.Status != 0:
            raise Unavailable(f"{remote.where} answered the request for commitment with {status.Status:04X}")
        return heard.wait(hold_seconds)
    finally:
        if association.is_established:
            association.release()


def handlers(
    on_report: Callable[[Report], bool],
) -> list[tuple[evt.EventType, Callable[[evt.Event], object]]]:
    """For pynetdicom, as requestor and as acceptor.

    on_report  keeps a report durably; False when its transaction is not known (any more)
    """

    def answer(event: evt.Event) -> tuple[int, None]:
        try:
            report = read_report(event.event_information)
        except Exception as error:  # noqa: BLE001 (a peer's bytes: pynetdicom would abort without a word)
            log.warning("commitment.unreadable", error=type(error).__name__)
            return PROCESSING_FAILURE, None
        return (0x0000 if on_report(report) else NO_SUCH_OBJECT), None

    return [(evt.EVT_N_EVENT_REPORT, answer)]


def service(on_report: Callable[[Report], bool], on_request: OnRequest) -> Service:
    """Both sides on our own port: reports that peers bring by a call of theirs, and what they ask us to commit.

    on_request  keeps the request durably before it returns (success is answered then); its third argument tells the
                report on this very association, while the peer holds it
    """
    ((kind, report),) = handlers(on_report)

    def commit(event: evt.Event) -> tuple[Dataset, Dataset | None]:
        def act() -> None:
            if event.action_type != REQUEST:
                raise Failed(NO_SUCH_ACTION, "Action Type ID 1 alone")
            request: Any = event.request
            if request.RequestedSOPInstanceUID != WELL_KNOWN_INSTANCE:
                raise Failed(NO_SUCH_INSTANCE, "the well-known instance alone")
            asked = read_request(event.action_information)
            on_request(str(event.assoc.requestor.ae_title).strip(), asked, _on_this(event.assoc))

        return answered(act)

    return Service(
        sop_classes=(STORAGE_COMMITMENT,), answers={kind: report, evt.EVT_N_ACTION: commit}, both_ways=True
    )


def _on_this(association: Any) -> Tell:
    def tell(kind: int, report: Dataset) -> bool:
        if not association.is_established:
            return False
        try:
            status, _ = association.send_n_event_report(report, kind, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)
        except (RuntimeError, ValueError):  # released meanwhile, or not in this role
            return False
        return bool(status.get("Status") == 0)

    return tell


def tell_by_call(remote: Remote, kind: int, report: Dataset) -> None:
    """Bring a report on an association of our own (PS3.4 J.3.3).

    raises  Unavailable when the peer cannot be reached or does not answer; Refused when it does not take the service, or
            not this report
    """
    contexts = [build_context(STORAGE_COMMITMENT), build_context(services.VERIFICATION)]
    role = build_role(STORAGE_COMMITMENT, scu_role=False, scp_role=True)
    association = associate(remote, contexts, roles=[role])
    try:
        if STORAGE_COMMITMENT not in {c.abstract_syntax for c in association.accepted_contexts if c.as_scp}:
            raise Refused(f"{remote.called} at {remote.where} takes no reports of storage commitment")
        try:
            status, _ = association.send_n_event_report(report, kind, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)
        except RuntimeError as error:  # it hung up meanwhile
            raise Unavailable(f"{remote.where} hung up before it heard the report") from error
        except ValueError as error:
            raise Refused(f"the report for {remote.where} cannot be written: {error}") from error
        if "Status" not in status:
            raise Unavailable(f"{remote.where} did not answer the report")
        if status.Status != 0:
            raise Refused(f"{remote.where} answered the report with {status.Status:04X}")
    finally:
        if association.is_established:
            association.release()


def read_request(ds: Dataset) -> Asked:
    """raises Failed with the status to answer (PS3.4 J.3.2)."""
    transaction_uid = str(ds.get("TransactionUID", ""))
    items = ds.get("ReferencedSOPSequence") or ()
    if not transaction_uid or not items:
        raise Failed(MISSING_ATTRIBUTE, "Transaction UID and Referenced SOP Sequence are needed")
    if len(items) > MOST_OBJECTS:
        raise Failed(RESOURCE_LIMITATION, f"at most {MOST_OBJECTS} objects of one transaction")
    objects = tuple(
        (str(i.get("ReferencedSOPClassUID", "")), str(i.get("ReferencedSOPInstanceUID", ""))) for i in items
    )
    uids = [transaction_uid, *(uid for pair in objects for uid in pair)]
    if not all(is_uid(uid) for uid in uids):
        raise Failed(INVALID_ATTRIBUTE_VALUE, "a UID is none: digits and dots, at most 64")
    return Asked(transaction_uid, objects)


def report_of(asked: Asked, failed: Mapping[str, int]) -> tuple[int, Dataset]:
    """(Event Type ID, report) of a whole request (PS3.4 J.3.3). failed: SOP Instance UID to Failure Reason"""
    ds = Dataset()
    ds.TransactionUID = asked.transaction_uid
    done, lacking = [], []
    for sop_class_uid, sop_instance_uid in asked.objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
        if sop_instance_uid in failed:
            item.FailureReason = failed[sop_instance_uid]
            lacking.append(item)
        else:
            done.append(item)
    if done:
        ds.ReferencedSOPSequence = Items(done)
    if lacking:
        ds.FailedSOPSequence = Items(lacking)
    return (SOME_FAILED if lacking else ALL_COMMITTED), ds


def serve(
    host: str, port: int, ae_title: str, on_report: Callable[[Report], bool]
) -> ThreadedAssociationServer:
    """Take reports that peers bring by an association of their own; `shutdown` of what is returned ends it.

    raises  Unavailable when the port is taken
    """
    ae = AE(ae_title=ae_title)
    ae.require_called_aet, ae.maximum_associations = True, MOST_CALLERS
    ae.acse_timeout, ae.dimse_timeout, ae.network_timeout = 10, 30, 30
    ae.add_supported_context(services.VERIFICATION)
    ae.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
    answers: list[Any] = [*handlers(on_report), (evt.EVT_C_ECHO, lambda _: 0x0000)]
    try:
        server = ae.start_server((host, port), block=False, evt_handlers=answers)
    except OSError as error:
        raise Unavailable(f"dicom.commitment_port {port} on {host}: {error.strerror}") from error
    assert server is not None
    return server


def read_report(ds: Dataset) -> Report:
    """raises Refused when it names no transaction or too many objects (PS3.4 J.3.3)."""
    transaction_uid = str(ds.get("TransactionUID", ""))
    done, failed = ds.get("ReferencedSOPSequence") or (), ds.get("FailedSOPSequence") or ()
    if not transaction_uid or len(transaction_uid) > 64 or len(done) + len(failed) > MOST_OBJECTS:
        raise Refused("a commitment report without a transaction, or with too many objects")
    return Report(
        transaction_uid,
        frozenset(str(item.ReferencedSOPInstanceUID) for item in done),
        {
            str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason", PROCESSING_FAILURE))
            for item in failed
        },
    )


def _request(transaction_uid: str, objects: Sequence[tuple[str, str]]) -> Dataset:
    ds = Dataset()
    ds.TransactionUID, ds.ReferencedSOPSequence = transaction_uid, Items([])
    for sop_class_uid, sop_instance_uid in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
        ds.ReferencedSOPSequence.append(item)
    return ds
