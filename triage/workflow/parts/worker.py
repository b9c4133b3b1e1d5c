"""A worker process: Celery prefork, each child with its own database, decoder and detectors, warm before its first run."""

from __future__ import annotations

import os
import warnings
from typing import Any

from celery.exceptions import SecurityWarning
from celery.signals import worker_process_init, worker_process_shutdown

from triage.dicom.pixels import Decoder
from triage.domain.errors import TriageError
from triage.log import get_logger
from triage.settings import Settings
from triage.store import releases
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow.assess import Worker
from triage.workflow.celery import ASSESS, make_app
from triage.workflow.parts.common import Beat, clock, settings_of_process
from triage.workflow.releases import Loader, places_of
from triage.workflow.site import new_id, site_of

log = get_logger()
_process: dict[str, Any] = {}  # what `worker_process_init` made in this child


def make_worker(settings: Settings) -> Worker:
    """Everything one process needs to assess runs, with the active and shadow releases loaded."""
    database = Database(settings.database_url)
    loader = Loader(settings.runtime, places_of(settings))
    with database.read() as tx:
        live = releases.in_states(tx, "active", "shadow")
    for release in live:
        if release["detector"] in settings.detectors:
            try:
                loader(release["detector"], release["digest"])
            except TriageError as error:  # its runs will say why; other detectors still work
                log.error("release.unusable", detector=release["detector"], error=str(error))
    return Worker(
        database=database,
        spool=Spool(settings.spool),
        decoder=Decoder(),
        load=loader,
        site=site_of(settings),
        ids=new_id,
        clock=clock,
    )


def assess_run(run_id: int) -> None:
    """The task. The row says whether anything is left to do."""
    _process["worker"].assess(int(run_id))


def main(name: str, queues: str, processes: int) -> int:
    """Run until SIGTERM (warm shutdown: the run in hand is finished)."""
    # Celery's advice against root fills the demo's screen; its reason, pickle, is not accepted here anyway (T21).
    warnings.simplefilter("ignore", SecurityWarning)
    settings = settings_of_process()
    app = make_app(settings.broker.url.get_secret_value())
    app.task(name=ASSESS)(assess_run)

    def start(**_: Any) -> None:
        # Nothing may compute in the parent before this: an OpenMP pool does not survive a fork (libraries 6).
        worker = make_worker(settings)
        beat = Beat(worker.database, f"{name}@{os.uname().nodename[:24]}")
        beat.start()
        _process.update(worker=worker, beat=beat)
        log.info("worker.ready", part=name)

    def stop(**_: Any) -> None:
        if _process:
            _process["beat"].leave()
            _process["worker"].decoder.close()

    worker_process_init.connect(start, weak=False)
    worker_process_shutdown.connect(stop, weak=False)
    app.worker_main(
        [
            "--quiet",
            "worker",
            f"--hostname={name}@%h",
            f"--queues={queues}",
            f"--concurrency={processes}",
            "--pool=prefork",
            "--loglevel=WARNING",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )
