"""The publisher process: writes the DICOM objects of completed Runs. Several may run, one leads by lease."""

from __future__ import annotations

import os
import time
from datetime import timedelta

from triage.domain.errors import TriageError
from triage.domain.finding import Mode
from triage.log import get_logger
from triage.store import events
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow.parts.common import Beat, Stop, clock, settings_of_process
from triage.workflow.preview import Previewer
from triage.workflow.publish import BATCH, Publisher

log = get_logger()
LEASE = timedelta(seconds=30)
TICK_SECONDS = 1.0
RETRY_SECONDS = 10.0  # a full disk is not filled faster by asking often
FROM_THE_START_SECONDS = 600.0


def main() -> int:
    settings = settings_of_process()
    database = Database(settings.database_url)
    publisher = Publisher(
        database,
        Spool(settings.spool, settings.dicom.reserve_bytes),
        settings.outputs,
        Mode(settings.mode),
        settings.dicom.ae_title,
        clock,
        Previewer(settings) if settings.overview else None,
        cites_segmentation=settings.reports_cite_segmentations,
    )
    publisher.sweep()
    holder = f"{os.uname().nodename}:{os.getpid()}"
    stop = Stop()
    beat = Beat(database, f"publisher@{os.uname().nodename[:24]}")
    beat.start()
    wait, renew_at, again_at, leads = 0.0, 0.0, time.monotonic() + FROM_THE_START_SECONDS, False
    while not stop.wait(wait):
        wait = TICK_SECONDS
        try:
            if time.monotonic() >= renew_at:
                renew_at = time.monotonic() + LEASE.total_seconds() / 3
                leads = False  # until the row says so again
                with database.write() as tx:
                    leads = events.take_lease(tx, "publisher", holder, clock(), LEASE) is not None
            if time.monotonic() >= again_at:
                again_at = time.monotonic() + FROM_THE_START_SECONDS
                publisher.look_from_the_start()
            if leads and publisher.turn() == BATCH:
                wait = 0.0  # there may be more
        except TriageError as error:
            log.warning("duty.not_possible", name="publish", error=str(error))
            wait = RETRY_SECONDS
        except Exception:
            log.error("duty.failed", name="publish", exc_info=True)
            wait = RETRY_SECONDS
    beat.leave()
    return 0
