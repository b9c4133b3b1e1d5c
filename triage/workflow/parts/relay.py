"""The relay process: judges series, sweeps, climbs ladders and delivers. Several may run, one leads by lease."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta

from triage.domain.errors import Misconfigured, TriageError
from triage.log import get_logger
from triage.settings import Settings
from triage.store import audit, deliveries, events
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow import archive, budget, committing, constancy, step_events
from triage.workflow.anchors import write_anchor
from triage.workflow.archive import ArchiveCounts
from triage.workflow.celery import Waker
from triage.workflow.committing import CommitmentReports
from triage.workflow.duty import DutyThread
from triage.workflow.parts.common import Beat, Stop, clock, settings_of_process
from triage.workflow.rejecting import read_notes
from triage.workflow.relay import RouteThread, park_removed
from triage.workflow.routes import channel_of
from triage.workflow.site import new_id, site_of
from triage.workflow.step_events import StepEvents
from triage.workflow.sweep import climb_due, judge_due, sweep
from triage.workflow.watch import ring_for_silence

log = get_logger()
LEASE = timedelta(seconds=10)
TICK_SECONDS = 0.2
SWEEP_SECONDS = 1.0
ANCHOR_SECONDS = 300.0
WATCH_SECONDS = 10.0
BUDGET_SECONDS = 600.0


class Clockwork:
    """The leader's loop: each duty at its own pace, one failure costs no other."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._site = site_of(settings)
        self._spool = Spool(settings.spool)
        self._waker = Waker(settings.broker.url.get_secret_value())
        self.operator_routes = [r.name for r in settings.routes if r.operator]
        self._holder = f"{os.uname().nodename}:{os.getpid()}"
        self._duties: list[tuple[float, Callable[[], None]]] = [
            (TICK_SECONDS, self._judge),
            (TICK_SECONDS, self._reject),
            (SWEEP_SECONDS, self._climb),
            (SWEEP_SECONDS, self._sweep),
            (SWEEP_SECONDS, self._judge_constancy),
            (WATCH_SECONDS, self._watch),
            (BUDGET_SECONDS, self._budget),
            (ANCHOR_SECONDS, self._anchor),
        ]
        self._next = [0.0] * len(self._duties)
        self._renew_at = 0.0
        self.leads = False

    def turn(self) -> None:
        """One turn: renew the lease when a third of it is over, then whatever is due."""
        if time.monotonic() >= self._renew_at:
            self._renew()
        if not self.leads:
            return
        for i, (seconds, duty) in enumerate(self._duties):
            if time.monotonic() >= self._next[i]:
                self._next[i] = time.monotonic() + seconds
                try:
                    duty()
                except TriageError as error:
                    log.warning("duty.not_possible", name=duty.__name__, error=str(error))
                except Exception:
                    log.error("duty.failed", name=duty.__name__, exc_info=True)

    def _renew(self) -> None:
        self._renew_at = time.monotonic() + LEASE.total_seconds() / 3
        try:
            with self._database.write() as tx:
                self.leads = events.take_lease(tx, "relay", self._holder, clock(), LEASE) is not None
        except TriageError as error:
            self.leads = False
            log.warning("lease.not_taken", error=str(error))

    def _judge(self) -> None:
        self._waker.wake(judge_due(self._database, self._site, clock))

    def _reject(self) -> None:
        self._waker.wake(read_notes(self._database, self._spool, self._site, clock))

    def _climb(self) -> None:
        climb_due(self._database, self._site, clock)

    def _sweep(self) -> None:
        with self._database.write() as tx:
            wake = sweep(tx, self._site, new_id, clock())
        self._waker.wake(wake)

    def _judge_constancy(self) -> None:
        with self._database.write() as tx:
            constancy.judge(tx, self.operator_routes, new_id, clock())

    def _watch(self) -> None:
        with self._database.write() as tx:
            ring_for_silence(tx, self.operator_routes, new_id, clock())

    def _budget(self) -> None:
        with self._database.write() as tx:
            budget.watch(tx, self.operator_routes, new_id, clock())

    def _anchor(self) -> None:
        with self._database.read() as tx:
            head = audit.head(tx)
        if head is not None:
            write_anchor(self._settings.home, *head)


def main() -> int:
    settings = settings_of_process()
    database = Database(settings.database_url)
    with database.write() as tx:
        deliveries.sync_routes(tx, [(r.name, r.kind) for r in settings.routes])
        park_removed(tx, clock(), site_of(settings).ladder)
    clockwork = Clockwork(settings, database)
    threads = duties(settings, database, clockwork)
    stop = Stop()
    beat = Beat(database, f"relay@{os.uname().nodename[:24]}")
    beat.start()
    for thread in threads:
        thread.start()
    while not stop.wait(TICK_SECONDS):
        clockwork.turn()
    for thread in threads:
        thread.stopping.set()
    for thread in threads:
        thread.join(timeout=10)
    beat.leave()
    return 0


def duties(settings: Settings, database: Database, clockwork: Clockwork) -> list[DutyThread]:
    """A thread for each route and each peer that is told or asked: a slow one delays no other."""

    def may() -> bool:
        return clockwork.leads

    site, peer = site_of(settings), settings.dicom.archive
    steps = StepEvents(database, settings, clock)
    reports = CommitmentReports(database, Spool(settings.spool), settings, clock)
    threads = [
        DutyThread("step-events", steps.turn, may, step_events.POLL_SECONDS),
        DutyThread("commitment-reports", reports.turn, may, committing.POLL_SECONDS),
    ]
    for route in settings.routes:
        try:
            channel = channel_of(route)
        except Misconfigured as error:  # one wrong route costs no other; what waits for it turns /health red
            log.error("route.unusable", route=route.name, error=str(error), fix="triage config check")
            continue
        threads.append(RouteThread(database, route, channel, site, clock, may, clockwork.operator_routes))
    if peer:
        counts = ArchiveCounts(database, peer, settings.dicom.ae_title, settings.quiet_seconds / 2, clock)
        fix = f"triage echo {peer}"
        threads.append(DutyThread("archive", counts.turn, may, archive.POLL_SECONDS, fix=fix))
    return threads
