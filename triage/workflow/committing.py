"""Peers ask whether we hold their objects (storage commitment as SCP, PS3.4 J): a true answer, and it arrives.

The request is a row before it is answered. The report goes on the same association while the peer holds it, else the
relay brings it by a call of our own, for as long as it would send an object. What is not in the index yet (it follows
the acknowledgement by a moment) is waited for, some seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from triage.dicom.commitment import (
    CLASS_CONFLICT,
    NO_SUCH_OBJECT,
    PROCESSING_FAILURE,
    Asked,
    Tell,
    report_of,
    tell_by_call,
)
from triage.dicom.statuses import Failed
from triage.domain.dispatch import send_again_after
from triage.domain.errors import Refused, TriageError
from triage.log import get_logger
from triage.settings import Settings
from triage.store import audit, commitments, peers
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow.remotes import remote_of

FIRST_SECONDS = 0.2  # the answer to the request goes before the report
ON_THE_SAME_SECONDS = 3.0
BY_CALL_AFTER = timedelta(seconds=10)
KEPT = timedelta(days=30)  # a transaction that is over
POLL_SECONDS, REST_SECONDS, TIMEOUT_SECONDS = 2.0, 10.0, 30.0
BATCH = 20
log = get_logger()


def lacking(database: Database, spool: Spool, asked: Asked) -> dict[str, int]:
    """{SOP Instance UID: Failure Reason} of what we cannot commit: not here with its bytes, or of another class."""
    with database.read() as tx:
        held = commitments.held(tx, {uid for _, uid in asked.objects})
    failed = {}
    for sop_class_uid, uid in asked.objects:
        if uid not in held or not spool.path(held[uid][1]).is_file():
            failed[uid] = NO_SUCH_OBJECT
        elif held[uid][0] != sop_class_uid:
            failed[uid] = CLASS_CONFLICT
    return failed


class CommitDesk:
    """Takes requests in the receiver."""

    def __init__(self, database: Database, spool: Spool, clock: Callable[[], datetime]) -> None:
        self._database, self._spool, self._clock = database, spool, clock

    def take(self, ae_title: str, asked: Asked, tell: Tell) -> None:
        """Keep the request; the report follows. raises Failed when its Transaction UID stands for another one"""
        now = self._clock()
        due_at = now + BY_CALL_AFTER
        with self._database.write() as tx:
            row, new = commitments.begin(tx, ae_title, asked.transaction_uid, asked.objects, now, due_at)
            if not new and _asked(row) != asked:
                raise Failed(PROCESSING_FAILURE, "this Transaction UID is in use")
            if not new:  # the peer asks again: it did not hear us
                commitments.keep(tx, row["id"], next_attempt_at=due_at)
        threading.Thread(
            target=self._tell_at_once, args=(row["id"], ae_title, asked, tell), daemon=True
        ).start()

    def _tell_at_once(self, row_id: int, ae_title: str, asked: Asked, tell: Tell) -> None:
        end = time.monotonic() + ON_THE_SAME_SECONDS
        try:
            time.sleep(FIRST_SECONDS)
            while (failed := lacking(self._database, self._spool, asked)) and time.monotonic() < end:
                time.sleep(FIRST_SECONDS)
            if tell(*report_of(asked, failed)):
                _told(self._database, row_id, ae_title, asked, len(failed), self._clock())
        except TriageError as error:  # the relay does it
            log.warning("commitment.not_told", peer=ae_title, error=str(error))


class CommitmentReports:
    """Brings reports that could not be told at once: the relay's step."""

    def __init__(
        self, database: Database, spool: Spool, settings: Settings, clock: Callable[[], datetime]
    ) -> None:
        self._database, self._spool, self._settings, self._clock = database, spool, settings, clock

    def turn(self) -> int:
        """How many were due."""
        with self._database.read() as tx:
            due = commitments.due(tx, self._clock(), BATCH)
        for row in due:
            self._tell(row)
        if due:
            with self._database.write() as tx:
                commitments.forget(tx, self._clock() - KEPT)
        return len(due)

    def _tell(self, row: dict[str, Any]) -> None:
        asked, ae_title = _asked(row), row["ae_title"]
        failed = lacking(self._database, self._spool, asked)
        with self._database.read() as tx:
            peer = next((p for p in peers.listing(tx) if p["ae_title"] == ae_title), None)
        try:
            if peer is None:
                raise Refused(f"no peer has the AE title {ae_title}: triage peer add")
            tell_by_call(remote_of(self._settings, peer, TIMEOUT_SECONDS), *report_of(asked, failed))
        except TriageError as error:
            attempts = row["attempts"] + 1
            wait = send_again_after(attempts, 0.0)
            again_at = None if wait is None else self._clock() + wait
            log.warning("commitment.not_told", peer=ae_title, error=str(error), attempts=attempts)
            with self._database.write() as tx:
                commitments.keep(
                    tx, row["id"], attempts=attempts, next_attempt_at=again_at, detail=str(error)[:400]
                )
            return
        _told(self._database, row["id"], ae_title, asked, len(failed), self._clock())


class CommitmentThread(threading.Thread):
    def __init__(self, reports: CommitmentReports, may_tell: Callable[[], bool]) -> None:
        super().__init__(name="commitment-reports", daemon=True)
        self._reports, self._may_tell = reports, may_tell
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(POLL_SECONDS):
            if not self._may_tell():
                continue
            try:
                self._reports.turn()
            except TriageError as error:
                log.warning("duty.not_possible", name=self.name, error=str(error))
                self.stopping.wait(REST_SECONDS)
            except Exception:
                log.error("duty.failed", name=self.name, exc_info=True)
                self.stopping.wait(REST_SECONDS)


def _asked(row: dict[str, Any]) -> Asked:
    return Asked(row["transaction_uid"], tuple((a, b) for a, b in row["objects"]))


def _told(database: Database, row_id: int, ae_title: str, asked: Asked, failed: int, now: datetime) -> None:
    with database.write() as tx:
        commitments.keep(tx, row_id, told_at=now, next_attempt_at=None, detail="")
        detail = {"objects": len(asked.objects), "not_held": failed}
        audit.append(
            tx, now, f"dicom:{ae_title}", "commitment.told", "transaction", asked.transaction_uid, detail
        )
