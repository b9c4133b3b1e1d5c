"""The publisher process as a whole: it writes objects (`publisher`), one thread per outlet sends them, one asks for orders.

Several processes may run; one sends and asks, by lease.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from triage.dicom import commitment
from triage.dicom.commitment import Report
from triage.domain.errors import Unavailable
from triage.log import get_logger
from triage.settings import Settings
from triage.store import events
from triage.store.database import Database
from triage.workflow import ordered, sending
from triage.workflow.duty import DutyThread
from triage.workflow.ordered import WorklistOrders
from triage.workflow.parts import publisher
from triage.workflow.parts.common import clock, settings_of_process
from triage.workflow.sending import Sender, settle_report

log = get_logger()
LEASE = timedelta(seconds=30)
DRAIN_SECONDS = 10.0  # what is being sent meanwhile is sent again by the next process


class Lease(DutyThread):
    """Holds the right to send, for as long as the row says so."""

    def __init__(self, database: Database) -> None:
        third = LEASE.total_seconds() / 3
        super().__init__("sending-lease", self._renew, lambda: True, third, rest_seconds=third)
        self._database = database
        self._holder = f"{os.uname().nodename}:{os.getpid()}"
        self.held = threading.Event()

    def _renew(self) -> None:
        """raises Unavailable. Whatever goes wrong, nothing is sent on a lease that another may hold by now."""
        try:
            with self._database.write() as tx:
                token = events.take_lease(tx, "sending", self._holder, clock(), LEASE)
        except Exception:
            self.held.clear()
            raise
        (self.held.clear if token is None else self.held.set)()


def main() -> int:
    settings = settings_of_process()
    if not settings.outlets and not settings.dicom.worklist:
        return publisher.main()
    database = Database(settings.database_url)
    lease = Lease(database)
    threads = start(settings, database, lease)
    listener = _reports(settings, database)
    try:
        return publisher.main()
    finally:
        if listener is not None:
            listener.shutdown()
        lease.stopping.set()
        for thread in threads:
            thread.stopping.set()
        for thread in threads:
            thread.join(timeout=DRAIN_SECONDS)


def start(settings: Settings, database: Database, lease: Lease) -> list[DutyThread]:
    """A running thread for each outlet, and one for orders; a slow peer delays no other."""
    threads = [
        sending_to(Sender(database, settings, o, clock), o.peer, lease.held.is_set) for o in settings.outlets
    ]
    if settings.dicom.worklist:
        asking = WorklistOrders(database, settings, clock)
        fix = f"triage echo {settings.dicom.worklist}"
        threads.append(DutyThread("orders", asking.turn, lease.held.is_set, ordered.POLL_SECONDS, fix=fix))
    for thread in (lease, *threads):
        thread.start()
    return threads


def sending_to(sender: Sender, peer: str, may: Callable[[], bool]) -> DutyThread:
    """A thread for one outlet; a whole batch says that more waits."""
    return DutyThread(f"sender-{peer}", lambda: sender.turn() == sending.BATCH, may, sending.POLL_SECONDS)


def _reports(settings: Settings, database: Database) -> Any:
    """The listener for commitment reports; None where none is wanted or the port is taken (by another process of ours)."""
    if not settings.dicom.commitment_port:
        return None

    def hear(report: Report) -> bool:
        with database.write() as tx:
            return settle_report(tx, report, clock())

    d = settings.dicom
    try:
        return commitment.serve(d.host, d.commitment_port, d.ae_title, hear)
    except Unavailable as error:
        log.warning("duty.not_possible", name="commitment", error=str(error))
        return None
