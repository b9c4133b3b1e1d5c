"""The collector process: what we go and get ourselves, from a watched folder, from archives and as work items of
others. One leads by lease."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta

from triage.domain.errors import TriageError
from triage.log import get_logger
from triage.store import events
from triage.store.database import Database
from triage.workflow.duty import DutyThread
from triage.workflow.folder import WatchedFolder
from triage.workflow.inlet import Inlet
from triage.workflow.parts.common import Beat, Stop, clock, settings_of_process
from triage.workflow.perform import Performer
from triage.workflow.pull import CurrentArchive, Puller

log = get_logger()
LEASE = timedelta(seconds=15)
LOOK_SECONDS = 1.0
RETRY_SECONDS = 10.0


def main() -> int:
    settings = settings_of_process()
    database = Database(settings.database_url)
    holder = f"{os.uname().nodename}:{os.getpid()}"
    leads = False
    threads = [
        performing(Performer(database, settings, one, clock), lambda: leads) for one in settings.perform
    ]
    for pull in settings.pull:
        archive = CurrentArchive(settings, pull, database)
        puller = Puller(pull, archive, database, Inlet(settings, database, clock, "pull"), clock)
        threads.append(pulling(puller, lambda: leads))
    folder = None
    if settings.folder.path is not None:
        inlet = Inlet(settings, database, clock, "folder")
        folder = WatchedFolder(settings.folder.path, inlet, settings.folder.rest_seconds, clock)
    stop = Stop()
    beat = Beat(database, f"collector@{os.uname().nodename[:24]}")
    beat.start()
    for thread in threads:
        thread.start()
    wait, renew_at = 0.0, 0.0
    while not stop.wait(wait):
        wait = LOOK_SECONDS
        try:
            if time.monotonic() >= renew_at:
                renew_at = time.monotonic() + LEASE.total_seconds() / 3
                leads = False  # until the row says so again
                with database.write() as tx:
                    leads = events.take_lease(tx, "collector", holder, clock(), LEASE) is not None
            if leads and folder is not None:
                folder.look()
        except (TriageError, OSError) as error:
            log.warning("duty.not_possible", name="collector", error=str(error))
            wait = RETRY_SECONDS
        except Exception:
            log.error("duty.failed", name="collector", exc_info=True)
            wait = RETRY_SECONDS
    for thread in threads:
        thread.stopping.set()
    for thread in threads:
        thread.join(timeout=10)
    beat.leave()
    return 0


def performing(performer: Performer, may: Callable[[], bool]) -> DutyThread:
    """A thread for one server of work items, at its own pace."""
    config = performer.config
    return DutyThread(f"perform-{config.name}", performer.turn, may, config.interval_seconds)


def pulling(puller: Puller, may: Callable[[], bool]) -> DutyThread:
    """A thread for one archive, at its own pace; a turn ends early when the thread is told to stop."""
    thread: DutyThread = DutyThread(
        f"pull-{puller.pull.name}",
        lambda: puller.turn(lambda: not thread.stopping.is_set()),
        may,
        puller.pull.interval_seconds,
    )
    return thread
