"""Order context from a Modality Worklist, for studies whose order nobody told us. Beside the studies' way: it delays none.

A study is asked about three times in ten minutes. What the worklist says becomes an order like any other, and AI's place
in the list is never touched by it: an order can only lift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from triage.dicom.mwl import Scheduled, find_scheduled
from triage.domain.priority import OrderedPriority
from triage.settings import Settings
from triage.store import audit, orders
from triage.store.database import Database
from triage.workflow.orders import follow_order
from triage.workflow.remotes import find_peer, remote_of

POLL_SECONDS = 1.0
AGAIN = (timedelta(minutes=1), timedelta(minutes=9))
BATCH = 20
# Requested Procedure Priority (0040,1003)
PRIORITY = {"STAT": OrderedPriority.STAT, "HIGH": OrderedPriority.URGENT}


@dataclass(frozen=True)
class Unordered:
    """A study on the list without an order."""

    study_id: int
    study_instance_uid: str
    accession_number: str
    patient_id: str


def fits(asked: Unordered, said: Scheduled) -> bool:
    """Is this the order of that study? The same study UID; or the same accession number of the same patient."""
    if said.study_instance_uid and said.study_instance_uid == asked.study_instance_uid:
        return True
    same = bool(asked.accession_number) and said.accession_number == asked.accession_number
    return same and said.patient_id == asked.patient_id


def take(tx: Connection, asked: Unordered, said: Scheduled, now: datetime) -> bool:
    """Keep what the worklist said as the study's order; False when an order came in another way meanwhile."""
    if orders.find_order(tx, asked.study_instance_uid, asked.accession_number) is not None:
        return False
    priority = PRIORITY.get(said.priority.upper(), OrderedPriority.ROUTINE)
    order_id = orders.add(
        tx, now, study_instance_uid=asked.study_instance_uid, accession_number=asked.accession_number,
        priority=priority.value, patient_location=said.patient_location, reason_for_exam=said.reason_for_exam,
        procedure_text=said.procedure_text, placer_order_number=said.placer_order_number,
        filler_order_number=said.filler_order_number, ordering_provider=said.ordering_provider, modality=said.modality,
    )  # fmt: skip
    detail = {"study": asked.study_id, "priority": priority.value}
    audit.append(tx, now, "worklist", "order.received", "order", order_id, detail)
    follow_order(tx, asked.study_id, "worklist", now)
    return True


class WorklistOrders:
    """Asks the configured worklist about the studies without an order."""

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._database, self._settings, self._clock = database, settings, clock
        self._next_at: dict[int, tuple[datetime, int]] = {}  # study: when to ask, how often it was asked

    def turn(self) -> int:
        """Ask about the studies whose time has come; returns how many. raises Unavailable."""
        now = self._clock()
        with self._database.read() as tx:
            waiting = [
                Unordered(*row) for row in orders.unordered(tx, now - sum(AGAIN, timedelta(minutes=1)))
            ]
        self._next_at = {w.study_id: self._next_at.get(w.study_id, (now, 0)) for w in waiting}
        due = [w for w in waiting if self._next_at[w.study_id][0] <= now][:BATCH]
        if not due:
            return 0
        with self._database.read() as tx:
            peer = find_peer(tx, self._settings.dicom.worklist)
        remote = remote_of(self._settings, peer, 10.0)
        for asked in due:
            said = find_scheduled(
                remote, accession_number=asked.accession_number, patient_id=asked.patient_id
            )
            fitting = [s for s in said if fits(asked, s)]
            if fitting:
                with self._database.write() as tx:
                    take(tx, asked, fitting[0], now)
            times = self._next_at[asked.study_id][1]
            later = now + AGAIN[times] if times < len(AGAIN) else datetime.max.replace(tzinfo=now.tzinfo)
            self._next_at[asked.study_id] = (later, times + 1)
        return len(due)
