"""The scheduler process: sends the constancy phantoms through the real door on time, and removes what has aged out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta

from triage.dicom.send import echo
from triage.domain.errors import TriageError, Unavailable
from triage.log import get_logger
from triage.settings import Settings
from triage.store import constancy as store
from triage.store import events, evidence, messages, tasks
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow import constancy, golden
from triage.workflow.constancy import Phantoms
from triage.workflow.parts.common import Beat, Stop, clock, settings_of_process
from triage.workflow.quality import draw_double_reads
from triage.workflow.releases import places_of
from triage.workflow.retention import remove_aged
from triage.workflow.upload import send_study

log = get_logger()
LEASE = timedelta(seconds=30)
KEPT = timedelta(hours=1)
HOUR = 3600.0
GOLDEN_AFTER = 600.0  # seconds from the start: loading networks must not delay the first studies
DRAWN_FROM = timedelta(days=3)  # studies read late are drawn too; one that was drawn is not drawn again
RETENTION_BATCH = 200  # an hour's share: the disk is cleaned without anybody noticing


def run_check(settings: Settings, database: Database, phantoms: Phantoms, detector: str) -> None:
    """One constancy check of one detector. A door that does not open is a check that will be missed, and says so."""
    now = clock()
    paths = phantoms.files(detector, now)
    uid = constancy.study_uid(paths[0])
    now = clock()  # the clock of the check starts when the phantom is ready
    with database.write() as tx:
        constancy.begin(tx, detector, uid, now)
    try:
        send_study(settings, paths, calling="TRIAGE-CONST")
    except TriageError as error:
        log.error("constancy.not_sent", detector=detector, error=str(error))


def forget_old_checks(settings: Settings, database: Database) -> None:
    """Phantoms of checks that ended more than an hour ago leave the spool."""
    with database.write() as tx:
        digests = store.forget_studies(tx, clock() - KEPT)
    spool = Spool(settings.spool)
    for digest in digests:
        spool.remove(digest)


def main() -> int:
    os.nice(5)  # a phantom that is being made must not delay a patient's study
    settings = settings_of_process()
    database = Database(settings.database_url)
    phantoms = Phantoms(settings.home / "constancy")
    holder = f"{os.uname().nodename}:{os.getpid()}"
    stop = Stop()
    beat = Beat(database, f"scheduler@{os.uname().nodename[:24]}")
    beat.start()
    _wait_for_receiver(settings, stop)
    duties: list[tuple[float, Callable[[], None]]] = [
        (settings.constancy_seconds, lambda: _check_all(settings, database, phantoms)),
        (HOUR, lambda: _tidy(settings, database)),
        (HOUR, lambda: _golden(settings, database)),
    ]
    next_at = [0.0, 0.0, time.monotonic() + GOLDEN_AFTER]
    renew_at, leads = 0.0, False
    while not stop.wait(0.5):
        try:
            if time.monotonic() >= renew_at:
                renew_at = time.monotonic() + LEASE.total_seconds() / 3
                with database.write() as tx:
                    leads = events.take_lease(tx, "scheduler", holder, clock(), LEASE) is not None
            for i, (seconds, duty) in enumerate(duties):
                if leads and time.monotonic() >= next_at[i]:
                    next_at[i] = time.monotonic() + seconds
                    duty()
        except TriageError as error:
            log.warning("duty.not_possible", name="scheduler", error=str(error))
        except Exception:
            log.error("duty.failed", name="scheduler", exc_info=True)
    beat.leave()
    return 0


def _check_all(settings: Settings, database: Database, phantoms: Phantoms) -> None:
    for detector in settings.detectors:
        if detector in constancy.FINDING_OF:
            run_check(settings, database, phantoms, detector)


def _tidy(settings: Settings, database: Database) -> None:
    forget_old_checks(settings, database)
    remove_aged(database, settings, clock(), "triage", most=RETENTION_BATCH)
    now = clock()
    with database.write() as tx:
        draw_double_reads(tx, now - DRAWN_FROM, now, now)
        messages.forget(tx, now - timedelta(days=settings.retention_days))
        evidence.forget(tx, now - timedelta(days=settings.retention_days))
        tasks.forget(tx, now - timedelta(days=settings.retention_days))


def _golden(settings: Settings, database: Database) -> None:
    operators = [r.name for r in settings.routes if r.operator]
    golden.check_due(database, places_of(settings), operators, clock)


def _wait_for_receiver(settings: Settings, stop: Stop) -> None:
    """At start the parts come up side by side: the first check waits for the door, a minute at most."""
    for _ in range(120):
        try:
            echo(
                settings.dicom.host,
                settings.dicom.port,
                calling="TRIAGE-CONST",
                called=settings.dicom.ae_title,
            )
            return
        except Unavailable:
            if stop.wait(0.5):
                return
