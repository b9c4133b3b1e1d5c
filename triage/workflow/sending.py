"""What we made goes to the peers that are to have it, by C-STORE or STOW-RS, and is committed there where they offer it.

One `Sender` per outlet, each in a thread of the publisher: a slow peer delays no other. Rows are the queue; a step
that died is done again with the same bytes under the same UIDs.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from triage.dicom import commitment, stow_send
from triage.dicom.commitment import Report
from triage.dicom.objects.kinds import SOP_CLASSES
from triage.dicom.send import SendResult, send_to
from triage.domain.dispatch import (
    COMMIT_LOST,
    COMMIT_RETRY,
    SEND_ATTEMPTS_MAX,
    Answer,
    answer_of,
    send_again_after,
)
from triage.domain.errors import Misconfigured, Refused, TriageError, Unavailable
from triage.log import get_logger
from triage.settings import OutletSettings, Settings
from triage.store import audit, dispatches, outputs
from triage.store.database import Database
from triage.store.dispatches import Due
from triage.workflow.remotes import find_peer, remote_of, web_service
from triage.workflow.taking_back import take_back

BATCH = 20
COMMIT_BATCH = 200
WANT_BATCH = 500
WANTED_FOR = timedelta(days=1)  # an object that is older is not sent to a peer that was added since
LOOK_AGAIN = timedelta(minutes=10)  # an id may become visible after a higher one has
POLL_SECONDS = 1.0
COMMIT_AWAY = timedelta(minutes=5)  # a peer that could not be asked for commitment is asked again
log = get_logger()


def settle_report(tx: Connection, report: Report, now: datetime) -> bool:
    """Keep what a peer says of a transaction; False when nothing waits for it, as after the first report."""
    rows = dispatches.of_transaction(tx, report.transaction_uid)
    for row in rows:
        if row.sop_instance_uid in report.committed:
            _move(
                tx,
                row,
                "committed",
                now,
                committed_at=now,
                next_attempt_at=None,
                transaction_uid="",
                detail="",
            )
        elif row.sop_instance_uid in report.failed:
            _not_committed(tx, row, report.failed[row.sop_instance_uid], now)
        else:  # a report holds the whole request; the transaction is over, so what it left out is asked for again
            dispatches.keep(tx, row, transaction_uid="")
    return bool(rows)


def _not_committed(tx: Connection, row: Due, reason: int, now: datetime) -> None:
    words = f"not committed: reason {reason:04X}"
    if reason in COMMIT_LOST and row.attempts < SEND_ATTEMPTS_MAX:
        _move(tx, row, "lost", now, next_attempt_at=now, sent_at=None, transaction_uid="", detail=words)
    else:
        _move(tx, row, "gave_up", now, next_attempt_at=None, transaction_uid="", detail=words)


class Sender:
    """Brings what is due to one peer."""

    def __init__(
        self, database: Database, settings: Settings, outlet: OutletSettings, clock: Callable[[], datetime],
        jitter: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self._database, self._settings, self._outlet = database, settings, outlet
        self._clock, self._jitter = clock, jitter
        self._wanted_up_to = 0
        self._look_from_the_start_at = clock() + LOOK_AGAIN

    def turn(self) -> int:
        """Take back what is out of date, send what is due, ask for commitment; returns how many objects were due.

        raises  Unavailable when the database does not answer
        """
        self._want()
        take_back(self._database, self._settings, self._outlet, self._clock)
        with self._database.read() as tx:
            due = dispatches.due_to_send(tx, self._outlet.peer, self._clock(), BATCH)
        if due:
            self._send(due)
        if self._outlet.commitment:
            self._ask()
        return len(due)

    def _want(self) -> None:
        """What was written lately is to go to this peer: a peer that is new gets the last day's objects."""
        now = self._clock()
        if now >= self._look_from_the_start_at:
            self._wanted_up_to, self._look_from_the_start_at = 0, now + LOOK_AGAIN
        with self._database.read() as tx:
            since = now - WANTED_FOR
            fresh = outputs.written(tx, self._wanted_up_to, self._outlet.objects, since, WANT_BATCH)
        if not fresh:
            return
        with self._database.write() as tx:
            for output_id in fresh:
                dispatches.want(tx, output_id, self._outlet.peer, now)
        self._wanted_up_to = fresh[-1]

    def hear(self, report: Report) -> bool:
        """A commitment report; False when its transaction is not ours or over."""
        with self._database.write() as tx:
            return settle_report(tx, report, self._clock())

    def _send(self, due: list[Due]) -> None:
        there = [d for d in due if self._path(d).is_file()]
        results: dict[int, SendResult] = {
            d.id: SendResult(self._path(d), None, "its file is gone", accepted=False)
            for d in due
            if d not in there
        }
        with self._database.write() as tx:
            dispatches.begin(tx, there, self._clock())
        try:
            if there:
                sent = self._stow(there) if self._outlet.by == "stow" else self._dimse(there)
                results |= {d.id: r for d, r in zip(there, sent, strict=True)}
        except (Unavailable, Misconfigured, Refused) as error:
            log.warning("peer.unreachable", peer=self._outlet.peer, error=str(error), fix=self._fix())
            lost = self._outlet.by == "stow" and isinstance(error, Unavailable)  # perhaps its answer alone
            results |= {d.id: SendResult(self._path(d), None, str(error), may_be_there=lost) for d in there}
        with self._database.write() as tx:
            for d in due:
                self._settle(tx, d, results[d.id])

    def _dimse(self, due: list[Due]) -> list[SendResult]:
        with self._database.read() as tx:
            peer = find_peer(tx, self._outlet.peer)
        remote = remote_of(self._settings, peer, self._outlet.timeout_seconds)
        return send_to(remote, [self._path(d) for d in due])

    def _stow(self, due: list[Due]) -> list[SendResult]:
        return stow_send.store(
            service_of(self._settings, self._outlet), [(d.sop_instance_uid, self._path(d)) for d in due]
        )

    def _settle(self, tx: Connection, due: Due, result: SendResult) -> None:
        now = self._clock()
        answer = answer_of(result.status) if result.accepted else Answer.REFUSED
        words = (
            result.detail if result.status is None else f"status {result.status:04X} {result.detail}".strip()
        )
        attempts = due.attempts + 1
        judged = result.status is not None and answer is not Answer.LATER
        # That an earlier attempt may have arrived stays true after one that never got there.
        if judged or not (due.may_be_there or result.may_be_there):
            dispatches.answered(tx, due)
        if answer is Answer.STORED:
            again_at = now if self._outlet.commitment else None
            _move(
                tx, due, "stored", now, attempts=attempts, sent_at=now, next_attempt_at=again_at,
                detail="" if result.status == 0 else words,
            )  # fmt: skip
        elif answer is Answer.REFUSED:
            _move(tx, due, "refused", now, attempts=attempts, next_attempt_at=None, detail=words)
        elif (wait := send_again_after(attempts, self._jitter())) is None:
            _move(tx, due, "gave_up", now, attempts=attempts, next_attempt_at=None, detail=words)
        else:
            dispatches.keep(tx, due, attempts=attempts, next_attempt_at=now + wait, detail=words)

    def _ask(self) -> None:
        """Ask for commitment of what was sent, under a new transaction each time (PS3.4 J.3.2)."""
        now = self._clock()
        transaction_uid = f"2.25.{uuid.uuid4().int}"
        with self._database.write() as tx:
            due = dispatches.due_to_commit(tx, self._outlet.peer, now, COMMIT_BATCH)
            asked = [d for d in due if d.commit_attempts <= len(COMMIT_RETRY)]
            for d in due:
                if d not in asked:
                    _move(tx, d, "gave_up", now, next_attempt_at=None, detail="sent, but never committed")
            for d in asked:
                wait = COMMIT_RETRY[min(d.commit_attempts, len(COMMIT_RETRY) - 1)]
                dispatches.keep(
                    tx, d, transaction_uid=transaction_uid, commit_attempts=d.commit_attempts + 1,
                    next_attempt_at=now + wait,
                )  # fmt: skip
        if not asked:
            return
        try:
            with self._database.read() as tx:
                peer = find_peer(tx, self._outlet.peer)
            remote = remote_of(self._settings, peer, self._outlet.timeout_seconds)
            objects = [(SOP_CLASSES[d.kind], d.sop_instance_uid) for d in asked]
            commitment.request(remote, transaction_uid, objects, self.hear)
        except Refused as error:  # it does not offer the service: what it stored stays as sent
            self._note(transaction_uid, str(error), None)
        except TriageError as error:
            log.warning("commitment.not_asked", peer=self._outlet.peer, error=str(error), fix=self._fix())
            self._note(transaction_uid, str(error), now + COMMIT_AWAY)

    def _note(self, transaction_uid: str, words: str, again_at: datetime | None) -> None:
        with self._database.write() as tx:
            for row in dispatches.of_transaction(tx, transaction_uid):
                dispatches.keep(
                    tx, row, detail=words, next_attempt_at=again_at, transaction_uid="",
                    commit_attempts=row.commit_attempts - 1,
                )  # fmt: skip

    def _path(self, due: Due) -> Path:
        return self._settings.outputs / due.path

    def _fix(self) -> str:
        return f"triage echo {self._outlet.peer} shows each step"


def service_of(settings: Settings, outlet: OutletSettings) -> stow_send.Service:
    """raises Misconfigured when the token or our TLS files cannot be read."""
    return web_service(
        settings, f"outlet {outlet.peer}", outlet.url, outlet.token_file, outlet.timeout_seconds
    )


def _move(tx: Connection, due: Due, event: str, now: datetime, **values: Any) -> None:
    if dispatches.move(tx, due, event, **values):
        detail = {
            "kind": due.kind,
            "dispatch": due.id,
        }  # a peer's own words may hold names: they stay in the row
        audit.append(tx, now, "triage", f"output.{event}", "output", due.sop_instance_uid, detail)
