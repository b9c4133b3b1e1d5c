"""Performs work items of an outside UPS server: claims them, waits for the runs, ends with outputs or a reason.

Rows hold what is open and each Transaction UID before it is used, so a restart goes on where it was. A claim whose
answer was lost is tried by an update: only its holder may make one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from triage.dicom.objects.common import series_instance_uid
from triage.dicom.objects.items import Code
from triage.dicom.objects.kinds import SOP_CLASSES
from triage.dicom.ups_client import Output, UpsServer, cancellation, performed, progress
from triage.dicom.ups_web import UpsWeb
from triage.domain.errors import TriageError
from triage.domain.performing import REASONS, Next, Step, next_step
from triage.domain.run import RunState
from triage.log import get_logger
from triage.settings import PerformSettings, Settings
from triage.store import audit, dispatches, outputs, peers, pulls, runs, studies, tasks
from triage.store.database import Database
from triage.store.dispatches import NOTE
from triage.store.runs import SHADOW
from triage.workflow.publish import key_at
from triage.workflow.remotes import find_peer, remote_of, web_service

MOST_FAILURES = 3  # in one turn: then it is the server, not the work item
MOST_ATTEMPTS = 10  # in a row at one work item: then it is given back
LONGEST_WAIT = timedelta(minutes=15)
WARNINGS = (0xB304, 0xB305, 0xB306)  # it was so already
log = get_logger()


class Performer:
    """One server. `turn` raises Unavailable when it does not answer, Refused when its peer is unknown.

    What fails at one work item costs no other: it is tried later, given back after some attempts, and raised at the end.
    """

    def __init__(
        self, database: Database, settings: Settings, config: PerformSettings, clock: Callable[[], datetime]
    ) -> None:
        self._database, self._settings, self.config, self._clock = database, settings, config, clock

    def turn(self) -> None:
        server = self._server()
        found = server.scheduled(self.config.codes)
        with self._database.write() as tx:
            for uid in found:
                tasks.note(tx, self.config.name, uid, f"2.25.{uuid.uuid4().int}", self._clock())
        with self._database.read() as tx:
            due = tasks.due(tx, self.config.name, self._clock())
        failures: list[Exception] = []
        for row in due:
            try:
                (self._claim if row["state"] == "wanted" else self._go_on)(server, row)
            except Exception as error:  # noqa: BLE001 (a foreign server's answers: none of them may hold up the others)
                failures.append(error)
                self._put_off(server, row, error)
            if len(failures) == MOST_FAILURES:
                break
        if failures:
            raise failures[0]

    def _put_off(self, server: UpsServer | UpsWeb, row: dict[str, Any], error: Exception) -> None:
        """Its next attempt, later each time; after some it is cancelled at the server, or lost when even that fails."""
        attempts = row["attempts"] + 1
        why = str(error) if isinstance(error, TriageError) else type(error).__name__
        log.warning("workitem.failed", name=self.config.name, code=row["id"], attempts=attempts, error=why)
        if attempts >= MOST_ATTEMPTS and self._gave_back(server, row, attempts):
            return
        wait = min(timedelta(seconds=self.config.interval_seconds) * 2 ** min(attempts - 1, 10), LONGEST_WAIT)
        with self._database.write() as tx:
            again = self._clock() + wait
            tasks.change(tx, row["id"], attempts=attempts, next_attempt_at=again, detail=why)

    def _gave_back(self, server: UpsServer | UpsWeb, row: dict[str, Any], attempts: int) -> bool:
        step = Step(Next.CANCEL, 0, f"failed {attempts} times", "110513")
        try:
            self._end(server, row, step, [], self._clock())
        except Exception:
            if attempts < 2 * MOST_ATTEMPTS:
                return False
            log.error("workitem.not_given_back", name=self.config.name, code=row["id"], exc_info=True)
            self._ended(
                row, step, "lost", f"{step.words}; its server may still hold it for ours", 0, self._clock()
            )
        return True

    def _server(self) -> UpsServer | UpsWeb:
        c = self.config
        if c.by == "rs":
            return UpsWeb(
                web_service(self._settings, f"perform {c.name}", c.url, c.token_file, c.timeout_seconds)
            )
        with self._database.read() as tx:
            peer = find_peer(tx, c.peer)
        return UpsServer(remote_of(self._settings, peer, c.timeout_seconds))

    def _claim(self, server: UpsServer | UpsWeb, row: dict[str, Any]) -> None:
        uid, transaction = row["sop_instance_uid"], row["transaction_uid"]
        with self._database.write() as tx:
            tasks.change(tx, row["id"], attempts=row["attempts"] + 1)
        status = server.move(uid, transaction, "IN PROGRESS")
        if status and row["attempts"]:  # an earlier claim may have been ours, its answer lost
            status = server.say(uid, transaction, progress(0, "claimed"))
        inputs = server.inputs(uid) if status == 0 else None
        now = self._clock()
        if status == 0 and inputs is None:  # ours now, and nobody can say what it is about
            step = Step(Next.CANCEL, 0, "its server does not say on what", "110513")
            self._end(server, row, step, [], now)
            return
        with self._database.write() as tx:
            if status or inputs is None:
                tasks.change(tx, row["id"], state="lost", detail=f"status {status:04X}", ended_at=now)
                return
            tasks.change(
                tx, row["id"], state="claimed", claimed_at=now, next_attempt_at=now, attempts=0,
                study_instance_uid=inputs.study_instance_uid,
                inputs={series: list(sops) for series, sops in inputs.series.items()},
            )  # fmt: skip
            audit.append(tx, now, "triage", "task.claimed", "workitem", uid, {"server": self.config.name})

    def _go_on(self, server: UpsServer | UpsWeb, row: dict[str, Any]) -> None:
        now = self._clock()
        with self._database.write() as tx:
            step, made = self._look(tx, row, now)
        uid, transaction = row["sop_instance_uid"], row["transaction_uid"]
        if step.next is Next.WAIT:
            if step.percent != row["percent"]:
                server.say(uid, transaction, progress(step.percent, step.words))
            again = now + timedelta(seconds=self.config.interval_seconds)
            with self._database.write() as tx:
                tasks.change(
                    tx, row["id"], percent=step.percent, detail=step.words, next_attempt_at=again, attempts=0
                )
            return
        self._end(server, row, step, made, now)

    def _end(
        self, server: UpsServer | UpsWeb, row: dict[str, Any], step: Step, made: list[Output], now: datetime
    ) -> None:
        uid, transaction = row["sop_instance_uid"], row["transaction_uid"]
        complete = step.next is Next.COMPLETE
        said = (
            performed(made, row["claimed_at"], now)
            if complete
            else cancellation(step.percent, step.words, Code(step.code, "DCM", REASONS[step.code]), now)
        )
        state = "COMPLETED" if complete else "CANCELED"
        server.say(uid, transaction, said)  # refused when it has ended already; then the next line says how
        status = server.move(uid, transaction, state)
        if status == 0 or status in WARNINGS:
            self._ended(row, step, state.lower(), step.words, len(made), now)
        else:
            self._ended(row, step, "lost", f"status {status:04X}", len(made), now)

    def _ended(
        self, row: dict[str, Any], step: Step, state: str, why: str, outputs_made: int, now: datetime
    ) -> None:
        with self._database.write() as tx:
            tasks.change(tx, row["id"], state=state, ended_at=now, detail=why)
            detail = {"server": self.config.name, "code": step.code, "outputs": outputs_made}
            audit.append(tx, now, "triage", f"task.{state}", "workitem", row["sop_instance_uid"], detail)

    def _look(self, tx: Connection, row: dict[str, Any], now: datetime) -> tuple[Step, list[Output]]:
        """What is next, and what there is to show for it; wants what is not here from the archive."""
        study_uid, inputs = row["study_instance_uid"], row["inputs"]
        study_id = studies.find_study(tx, study_uid)
        lacking = tasks.missing(tx, study_uid, inputs)
        if not inputs and study_id is None:
            lacking = [study_uid]
        if self.config.pull:
            for series in dict.fromkeys(lacking):
                count = len(inputs.get(series, ()))
                pulls.want(
                    tx, self.config.pull, study_uid, series, now, modality="", instances=count, prior=False
                )
        found = self._runs(tx, study_id, inputs) if study_id is not None else []
        done = [r["id"] for r in found if r["state"] == RunState.COMPLETED.value]
        made, unsent = self._outputs(tx, study_uid, done)
        step = next_step(
            missing=len(lacking),
            arriving=study_id is not None and self._arriving(tx, study_id, inputs),
            runs=[(r["state"], r["reason_code"]) for r in found],
            unsent=unsent,
            waited=now - row["claimed_at"],
            patience=timedelta(minutes=self.config.patience_minutes),
        )
        return step, made

    def _runs(self, tx: Connection, study_id: int, inputs: dict[str, list[str]]) -> list[dict[str, Any]]:
        return [
            r
            for r in runs.all_of_study(tx, study_id)
            if r["queue"] != SHADOW
            and r["state"] != RunState.SUPERSEDED.value
            and (not inputs or r["series_instance_uid"] in inputs)
        ]

    def _arriving(self, tx: Connection, study_id: int, inputs: dict[str, list[str]]) -> bool:
        return any(
            s["state"] == "receiving" and (not inputs or s["series_instance_uid"] in inputs)
            for s in studies.series_of(tx, study_id)
        )

    def _outputs(self, tx: Connection, study_uid: str, done: list[int]) -> tuple[list[Output], int]:
        """(outputs of these runs, how many of them are not where others can fetch them yet)"""
        rows = [o for o in outputs.of_runs(tx, done) if o["state"] == "written" and o["kind"] != NOTE]
        ways = dispatches.of_outputs(tx, [o["id"] for o in rows])
        sent_kinds = {kind for outlet in self._settings.outlets for kind in outlet.objects}
        unsent = len(set(done) - {o["run_id"] for o in rows})
        found = []
        for o in rows:
            run = outputs.completed(tx, o["run_id"])
            if run is None:
                continue
            there = [w for w in ways[o["id"]] if w["state"] in ("sent", "committed")]
            waits = not ways[o["id"]] or any(w["state"] == "wanted" for w in ways[o["id"]])
            unsent += o["kind"] in sent_kinds and not there and waits
            peer = peers.find(tx, there[0]["peer"]) if there else None
            ae_title = peer["ae_title"] if peer else self._settings.dicom.ae_title
            series = series_instance_uid(key_at(run, o["identity_version"]), o["kind"])
            found.append(Output(study_uid, series, SOP_CLASSES[o["kind"]], o["sop_instance_uid"], ae_title))
        return found, unsent
