"""An archive of our own for tests: stores, commits, refuses or is slow as a test says. Real sockets, pynetdicom."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.presentation import build_context

from triage.dicom.commitment import STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE

VERIFICATION = "1.2.840.10008.1.1"


@dataclass
class Pacs:
    """statuses: answers to the next C-STOREs, 0000 after them. lost: SOP Instance UIDs that it will not commit."""

    port: int = 0
    statuses: list[int] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    report_to: int | None = (
        None  # port of the requestor for a report on a new association; None: the same one
    )
    slow_seconds: float = 0.0
    mute: int = 0  # so many objects it stores, and dies before it has said so
    stored: dict[str, Dataset] = field(default_factory=dict)
    transactions: list[str] = field(default_factory=list)
    report_statuses: list[int] = field(default_factory=list)


@contextmanager
def a_pacs(
    *, commits: bool = False, classes: tuple[str, ...] | None = None, **values: object
) -> Iterator[Pacs]:
    pacs = Pacs(**values)  # type: ignore[arg-type]
    ae = AE("PACS")
    ae.add_supported_context(VERIFICATION)
    for context in AllStoragePresentationContexts:
        if classes is None or context.abstract_syntax in classes:
            ae.add_supported_context(str(context.abstract_syntax))
    if commits:
        ae.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_C_STORE, _store, [pacs]), (evt.EVT_N_ACTION, _commit, [pacs])]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    pacs.port = server.server_address[1]
    try:
        yield pacs
    finally:
        server.shutdown()


def _store(event: evt.Event, pacs: Pacs) -> int:
    time.sleep(pacs.slow_seconds)
    status = pacs.statuses.pop(0) if pacs.statuses else 0
    if status == 0:
        ds = event.dataset
        ds.file_meta = event.file_meta
        pacs.stored[ds.SOPInstanceUID] = ds
        if pacs.mute:
            pacs.mute -= 1
            event.assoc.abort()
    return status


def _commit(event: evt.Event, pacs: Pacs) -> tuple[int, None]:
    asked = event.action_information
    pacs.transactions.append(asked.TransactionUID)
    threading.Thread(target=_report, args=(pacs, event.assoc, asked), daemon=True).start()
    return 0, None


def _report(pacs: Pacs, association: object, asked: Dataset) -> None:
    time.sleep(0.2)  # the answer to the request goes first
    said = Dataset()
    said.TransactionUID = asked.TransactionUID
    done, failed = [], []
    for item in asked.ReferencedSOPSequence:
        known = item.ReferencedSOPInstanceUID in pacs.stored
        if known and item.ReferencedSOPInstanceUID not in pacs.lost:
            done.append(item)
        else:
            item.FailureReason = 0x0112
            failed.append(item)
    if done:
        said.ReferencedSOPSequence = Items(done)
    if failed:
        said.FailedSOPSequence = Items(failed)
    kind = 2 if failed else 1
    if pacs.report_to is None:
        status, _ = association.send_n_event_report(said, kind, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)  # type: ignore[attr-defined]
        pacs.report_statuses.append(status.Status)
        return
    ae = AE("PACS")
    role = build_role(STORAGE_COMMITMENT, scp_role=True)
    back = ae.associate(
        "127.0.0.1",
        pacs.report_to,
        contexts=[build_context(STORAGE_COMMITMENT)],
        ext_neg=[role],
        ae_title="TRIAGE",
    )
    if back.is_established:
        status, _ = back.send_n_event_report(said, kind, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)
        pacs.report_statuses.append(status.Status)
        back.release()
