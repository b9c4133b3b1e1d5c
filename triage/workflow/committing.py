"""Peers ask whether we hold their objects (storage commitment as SCP, PS3.4 J): a true answer, and it arrives.

The request is a row before it is answered. One thread brings reports on the associations that asked, while the peers
hold them; else the relay brings them by a call of our own, for as long as it would send an object. What is not in the
index yet (it follows the acknowledgement by a moment) is waited for, some seconds.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
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
from triage.domain.errors import Refused, TriageError, Unavailable
from triage.log import get_logger
from triage.settings import Settings
from triage.store import audit, commitments, peers
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow.remotes import remote_of

FIRST_SECONDS = 0.2  # the answer to the request goes before the report
LOOK_SECONDS = 0.05
ON_THE_SAME_SECONDS = 3.0
TOO_LATE_SECONDS = 10.0  # for the association that asked
# More than the last moment of an attempt there and the peer's time to answer it (handover.ANSWER_SECONDS).
BY_CALL_AFTER = timedelta(seconds=30)
MOST_AT_ONCE = 100  # reports that wait for their turn; further ones are the relay's
KEPT = timedelta(days=30)  # a transaction that is over
FORGET_EVERY = timedelta(hours=1)
POLL_SECONDS, TIMEOUT_SECONDS = 2.0, 30.0
BATCH, MOST_OF_A_PEER = 20, 1_000
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


@dataclass(frozen=True)
class _Heard:
    """A request whose report is to go on the association that it came by."""

    row_id: int
    ae_title: str
    asked: Asked
    tell: Tell
    at: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        return time.monotonic() - self.at


class CommitDesk:
    """Takes requests in the receiver. Its one thread, begun by the first of them, tells: never two at a time."""

    def __init__(self, database: Database, spool: Spool, clock: Callable[[], datetime]) -> None:
        self._database, self._spool, self._clock = database, spool, clock
        self._heard: queue.Queue[_Heard] = queue.Queue(MOST_AT_ONCE)
        self._thread: threading.Thread | None = None
        self._begin = threading.Lock()

    def take(self, ae_title: str, asked: Asked, tell: Tell) -> None:
        """Keep the request; the report follows. raises Failed when its Transaction UID stands for another one"""
        now = self._clock()
        due_at = now + BY_CALL_AFTER
        with self._database.write() as tx:
            row, new = commitments.begin(tx, ae_title, asked.transaction_uid, asked.objects, now, due_at)
            if not new and _asked(row) != asked:
                raise Failed(PROCESSING_FAILURE, "this Transaction UID is in use")
            if not new:  # the peer asks again: it did not hear us
                commitments.keep(tx, row["id"], attempts=0, next_attempt_at=due_at, told_at=None)
        with self._begin:
            if self._thread is None:
                self._thread = threading.Thread(target=self._tell_all, name="commitment-answers", daemon=True)
                self._thread.start()
        with suppress(queue.Full):  # the relay does it
            self._heard.put_nowait(_Heard(row["id"], ae_title, asked, tell))

    def _tell_all(self) -> None:
        while True:
            heard = self._heard.get()
            try:
                self._tell_at_once(heard)
            except TriageError as error:  # the relay does it
                log.warning("commitment.not_told", peer=heard.ae_title, error=str(error))
            except Exception:
                log.error("commitment.failed", peer=heard.ae_title, exc_info=True)

    def _tell_at_once(self, heard: _Heard) -> None:
        """Tell it, have it wait behind the others for what is not here yet, or leave it to the relay."""
        if (early := FIRST_SECONDS - heard.age) > 0:
            time.sleep(early)
        failed = lacking(self._database, self._spool, heard.asked)
        if failed and heard.age < ON_THE_SAME_SECONDS:
            time.sleep(LOOK_SECONDS)
            with suppress(queue.Full):
                self._heard.put_nowait(heard)
        elif heard.age < TOO_LATE_SECONDS and heard.tell(*report_of(heard.asked, failed)):
            _told(self._database, heard.row_id, heard.ae_title, heard.asked, len(failed), self._clock())
        else:
            with self._database.write() as tx:
                commitments.put_off(tx, heard.row_id, next_attempt_at=self._clock())


class CommitmentReports:
    """Brings reports that could not be told at once: the relay's step."""

    def __init__(
        self, database: Database, spool: Spool, settings: Settings, clock: Callable[[], datetime]
    ) -> None:
        self._database, self._spool, self._settings, self._clock = database, spool, settings, clock
        self._forget_at = clock()

    def turn(self) -> int:
        """How many were due."""
        now = self._clock()
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY
            with self._database.write() as tx:
                commitments.forget(tx, now - KEPT)
        with self._database.read() as tx:
            due = commitments.due(tx, now, BATCH)
        silent: set[str] = set()
        for row in due:
            if row["ae_title"] not in silent and not self._tell(row):
                silent.add(row["ae_title"])
        return len(due)

    def _tell(self, row: dict[str, Any]) -> bool:
        """False when the peer does not answer: then none of what it waits for is tried before its time comes again."""
        asked, ae_title = _asked(row), row["ae_title"]
        failed = lacking(self._database, self._spool, asked)
        with self._database.read() as tx:
            peer = next((p for p in peers.listing(tx) if p["ae_title"] == ae_title), None)
            if not commitments.is_waiting(tx, row["id"]):  # told on its association meanwhile
                return True
        try:
            if peer is None:
                raise Refused(f"no peer has the AE title {ae_title}: triage peer add")
            tell_by_call(remote_of(self._settings, peer, TIMEOUT_SECONDS), *report_of(asked, failed))
        except Unavailable as error:
            with self._database.read() as tx:
                waiting = commitments.due(tx, self._clock(), MOST_OF_A_PEER, ae_title)
            self._put_off(waiting, ae_title, error)
            return False
        except TriageError as error:
            self._put_off([row], ae_title, error)
            return True
        _told(self._database, row["id"], ae_title, asked, len(failed), self._clock())
        return True

    def _put_off(self, rows: list[dict[str, Any]], ae_title: str, error: TriageError) -> None:
        log.warning("commitment.not_told", peer=ae_title, error=str(error), count=len(rows))
        now = self._clock()
        with self._database.write() as tx:
            for row in rows:
                attempts = row["attempts"] + 1
                wait = send_again_after(attempts, 0.0)
                commitments.put_off(
                    tx, row["id"], attempts=attempts, next_attempt_at=None if wait is None else now + wait,
                    detail=str(error)[:400],
                )  # fmt: skip


def _asked(row: dict[str, Any]) -> Asked:
    return Asked(row["transaction_uid"], tuple((a, b) for a, b in row["objects"]))


def _told(database: Database, row_id: int, ae_title: str, asked: Asked, failed: int, now: datetime) -> None:
    with database.write() as tx:
        commitments.keep(tx, row_id, told_at=now, next_attempt_at=None, detail="")
        detail = {"objects": len(asked.objects), "not_held": failed}
        audit.append(
            tx, now, f"dicom:{ae_title}", "commitment.told", "transaction", asked.transaction_uid, detail
        )
