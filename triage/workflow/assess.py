"""Third step: a worker leases a Run, looks at the pixels, and commits everything that follows in one transaction.

`lease` and `finish` are the plain steps; `assess` is the shell around them that decodes and detects. Nothing is
locked while a detector works.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage import __version__
from triage.detectors.protocol import Detection, FilmDetector, ScanDetector
from triage.detectors.registration import align
from triage.dicom.pixels import Decoder
from triage.domain.errors import TriageError, Unavailable
from triage.domain.growth import compared
from triage.domain.image import Radiograph, Volume
from triage.domain.run import LEASE, RunState
from triage.domain.study import CT_CLASSES, InstanceHeader
from triage.domain.suitability import NotSuitable, NotSuitableError
from triage.log import get_logger
from triage.store import audit, instances, leases, policies, results, runs
from triage.store.database import Database
from triage.store.leases import Leased
from triage.store.spool import Spool
from triage.workflow.alert import settle_study
from triage.workflow.rank import rank
from triage.workflow.site import NewId, Site

RENEW_SECONDS = 15.0
LONGEST_RUN_SECONDS = 600.0
FINISH_AGAIN_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0)
HANGS = 70  # exit code
log = get_logger()


@dataclass(frozen=True)
class Result:
    """How a Run ended: a Detection, an answer why not, or a failure in one word."""

    detection: Detection | None = None
    not_suitable: NotSuitable | None = None
    failure: str = ""
    runtime: str = ""


def lease(tx: Connection, run_id: int, token: str, now: datetime) -> Leased | None:
    """Take the run, counting the attempt before the work; None when there is nothing left to do."""
    leased = leases.lease(tx, run_id, token, now, LEASE)
    if leased is not None:
        rank(tx, leased.study_id, now)
    return leased


def finish(tx: Connection, leased: Leased, result: Result, site: Site, ids: NewId, now: datetime) -> bool:
    """Commit a result with its findings, place in the list and alerts; False when the lease is another's (I7)."""
    event = "finished" if result.detection else "unsuitable" if result.not_suitable else "gave_up"
    ours = leases.finish(
        tx,
        leased.run_id,
        leased.token,
        event,
        now,
        reason=result.not_suitable,
        failure=result.failure,
        runtime=result.runtime,
        code_version=__version__,
        notes=result.detection.notes if result.detection else (),
        lung_map=result.detection.lung_map if result.detection else None,
    )
    if not ours:
        return False
    if result.detection:
        flagged = policies.active(tx).judge(result.detection.findings)
        results.add_findings(tx, leased.run_id, leased.study_id, flagged)
    if event != "gave_up":
        runs.supersede_older(tx, leased.run_id, now)
    settle_study(tx, leased.study_id, site, ids, now)
    detail = {
        "study": leased.study_id,
        "release": leased.release_digest,
        "reason": result.not_suitable.code.value if result.not_suitable else result.failure,
    }
    state = {"finished": RunState.COMPLETED, "unsuitable": RunState.NOT_ANALYSED, "gave_up": RunState.FAILED}[
        event
    ]
    audit.append(tx, now, "triage", f"run.{state.value}", "run", leased.run_id, detail)
    return True


@dataclass
class Worker:
    """What one worker process keeps between runs: database, spool, a warm decoder and loaded detectors.

    load  a detector by (name, release digest); raises Misconfigured when its files are not the release's
    """

    database: Database
    spool: Spool
    decoder: Decoder
    load: Callable[[str, str], FilmDetector | ScanDetector]
    site: Site
    ids: NewId
    clock: Callable[[], datetime]

    def assess(self, run_id: int) -> None:
        """Lost, doubled or late: no harm. The row says whether anything is left to do."""
        with self.database.write() as tx:
            leased = lease(tx, run_id, self.ids(), self.clock())
        if leased is None:
            return
        started = time.monotonic()
        with self._kept_alive(leased):
            result = self._look(leased)
            ours = self._finish(leased, result)
        log.info(
            "run.completed" if result.detection else "run.ended_without_result",
            run_id=run_id,
            detector=leased.detector,
            seconds=round(time.monotonic() - started, 3),
            reason=result.not_suitable.code.value if result.not_suitable else result.failure,
            state="committed" if ours else "lease lost",
        )

    def _finish(self, leased: Leased, result: Result) -> bool:
        """Commit, trying again through a short outage while the lease lives. raises Unavailable after the last try."""
        for wait in FINISH_AGAIN_SECONDS:
            try:
                return self._commit(leased, result)
            except Unavailable:
                time.sleep(wait)
        return self._commit(leased, result)

    def _commit(self, leased: Leased, result: Result) -> bool:
        with self.database.write() as tx:
            return finish(tx, leased, result, self.site, self.ids, self.clock())

    def _look(self, leased: Leased) -> Result:
        try:
            detector = self.load(leased.detector, leased.release_digest)
            with self.database.read() as tx:
                held = instances.held_by_uid(tx, list(leased.sop_instance_uids))
            paths = [self.spool.path(h.digest) for h in held]
            detection = detect(detector, self.decoder, paths, [h.header for h in held])
            with self.database.read() as tx:
                detection = compare_with_prior(tx, leased, detection)
            return Result(detection=detection, runtime=detector.runtime)
        except NotSuitableError as error:
            return Result(not_suitable=error.answer)
        except Unavailable:
            raise  # an outage is no answer: the lease ends and the run is tried again
        except TriageError as error:
            log.error("run.failed", run_id=leased.run_id, reason=type(error).__name__, error=str(error))
            return Result(failure=type(error).__name__.lower())
        except Exception as error:
            log.error("run.failed", run_id=leased.run_id, reason=type(error).__name__, exc_info=True)
            return Result(failure=type(error).__name__.lower())

    @contextmanager
    def _kept_alive(self, leased: Leased) -> Iterator[None]:
        """Renew the lease while the detector works, so that a slow scan is not started twice."""
        done = threading.Event()

        def renew() -> None:
            started = time.monotonic()
            while not done.wait(RENEW_SECONDS):
                if time.monotonic() - started > LONGEST_RUN_SECONDS:
                    log.error(
                        "run.hangs", run_id=leased.run_id, detail="the process ends; another will try the run"
                    )
                    os._exit(HANGS)  # a thread inside native code cannot be stopped in any other way
                try:
                    with self.database.write() as tx:
                        if not leases.renew(tx, leased.run_id, leased.token, self.clock() + LEASE):
                            return
                except TriageError as error:
                    log.warning("lease.not_renewed", run_id=leased.run_id, error=str(error))

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def compare_with_prior(tx: Connection, leased: Leased, detection: Detection) -> Detection:
    """The detection with the growth of its nodules since the patient's last scan; unchanged where nothing compares."""
    prior = results.prior_scan(tx, leased.study_id, leased.detector) if detection.lung_map else None
    if prior is None or detection.lung_map is None:
        return detection
    to_prior = align(detection.lung_map, prior["lung_map"])
    if to_prior is None:
        note = "an earlier scan is there, but its lungs do not match: no growth is given"
        return replace(detection, notes=(*detection.notes, note))
    earlier = results.findings_of_runs(tx, [prior["id"]])[prior["id"]]
    found = compared(
        detection.findings, earlier, to_prior, days=prior["days"], prior_study_uid=prior["study_instance_uid"]
    )
    return replace(detection, findings=found)


def detect(detector: Any, decoder: Decoder, paths: list[Any], headers: list[InstanceHeader]) -> Detection:
    """Decode in the guarded child and detect; raises NotSuitableError with the reason."""
    image: Volume | Radiograph
    if headers[0].sop_class_uid in CT_CLASSES:
        image = decoder.volume(paths, headers)
    else:
        image = decoder.radiograph(paths[0], headers[0])
    detection: Detection = detector.detect(image)
    return replace(detection, notes=(*image.notes, *detection.notes))
