"""Publish: the objects of a completed Run are built from its rows alone and written for good, once (architecture 4).

    TRIAGE_HOME/outputs/<study uid>/<kind>-<sop instance uid>.dcm

Bytes and UIDs follow from the rows, so a step that died halfway is simply done again and overwrites itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from triage.dicom.objects import gsps, kos, sc, seg, sr
from triage.dicom.objects.common import Analysis, Made, Reference, series_instance_uid, sop_instance_uid
from triage.dicom.objects.kinds import SOP_CLASSES
from triage.domain.dispatch import NAMED_OTHERWISE
from triage.domain.errors import Refused, TriageError, Unavailable
from triage.domain.finding import Mode, shown
from triage.domain.study import InstanceHeader
from triage.log import get_logger
from triage.store import audit, dispatches, identity, instances, orders, outputs, reading, results
from triage.store.database import Database
from triage.store.outputs import Completed
from triage.store.spool import Spool
from triage.workflow.overview import paint
from triage.workflow.preview import Previewer

log = get_logger()
FIRST_SERIES_NUMBER = 9000  # far from those of modalities
BATCH = 20
# What a registry can change of the header: the fields that `identity.told_of` gives.
IDENTITY = (
    "patient_id", "issuer_of_patient_id", "patient_name", "patient_birth_date", "patient_sex", "accession_number",
)  # fmt: skip


def run_key(run: Completed) -> str:
    """Names a Run among all Runs of all databases: what it looked at, with what, and when it was asked for."""
    return "|".join((
        run.series_instance_uid, run.input_digest, run.release_digest, str(run.run_id),
        run.requested_at.isoformat(timespec="microseconds"),
    ))  # fmt: skip


def key_at(run: Completed, identity_version: int) -> str:
    """Names the objects of a Run: the first ones by the Run alone, those made anew by the version of the identity too."""
    return f"{run_key(run)}|identity {identity_version}" if identity_version else run_key(run)


def told_digest(header: InstanceHeader) -> str:
    """Stands for all that objects say of whom they are: equal names, equal objects."""
    named = "\0".join(str(getattr(header, name)) for name in IDENTITY)
    return hashlib.sha256(named.encode()).hexdigest()


def mode_of(run: Completed, site: Mode) -> Mode:
    """The mode the Run was asked for, unless the site has become stricter since."""
    return Mode.OVERLAY if site is Mode.OVERLAY and Mode(run.mode) is Mode.OVERLAY else Mode.TRIAGE_ONLY


def analysis_of(
    tx: Connection, run: Completed, site_mode: Mode, ae_title: str, *, cites_segmentation: bool = True
) -> Analysis:
    """What the objects of this Run may say, and of whom: of whom the study is by now (`identity.told_of`).

    Places and sizes pass the one gate here, and nowhere else.

    raises  Refused when none of its images is in the index
    """
    told = identity.told_of(tx, run.study_instance_uid)
    headers = [replace(h.header, **told) for h in instances.held_by_uid(tx, list(run.sop_instance_uids))]  # type: ignore[arg-type]
    if not headers:
        raise Refused(f"the images of run {run.run_id} are no longer in the index")
    order = orders.find_order(tx, run.study_instance_uid, run.accession_number) or {}
    mode = mode_of(run, site_mode)
    found = results.findings_of_runs(tx, [run.run_id])[run.run_id]
    older = outputs.before(tx, run, sr.KIND)
    return Analysis(
        key=key_at(run, run.identity_version),
        detector=run.detector,
        version=run.version,
        release_digest=run.release_digest,
        findings=tuple(shown(f, mode, may_see_inside=False) for f in found if f.actionable),
        not_covered=run.not_covered,
        sources=tuple(headers),
        finished_at=run.finished_at,
        # Ten for each set of objects, so that no two series of ours in a study share a number.
        series_number=FIRST_SERIES_NUMBER + 10 * run.made_before + 1,
        placer_order_number=order.get("placer_order_number", ""),
        filler_order_number=order.get("filler_order_number", ""),
        predecessors=(_report_of(*older),) if older else (),
        ae_title=ae_title,
        cites_segmentation=cites_segmentation,
    )


def build(analysis: Analysis, picture: NDArray[np.uint8] | None = None) -> list[Made]:
    """The report, and what else this Run may tell: flag, regions, marks, picture. Same analysis, same bytes."""
    others = [make(analysis) for make in (kos.build, seg.build, gsps.build)]
    if picture is not None:
        others.append(sc.build(analysis, picture))
    return [sr.build(analysis), *(made for made in others if made is not None)]


def reference(run: Completed, kind: str, identity_version: int) -> Reference:
    """An object of this Run, made at this version of the identity, as others name it."""
    key = key_at(run, identity_version)
    return Reference(
        run.study_instance_uid, series_instance_uid(key, kind), SOP_CLASSES[kind], sop_instance_uid(key, kind)
    )


def _report_of(run: Completed, identity_version: int) -> Reference:
    return reference(run, sr.KIND, identity_version)


def write(folder: Path, relative: str, content: bytes) -> None:
    """Make `folder/relative` hold `content`, wholly or not at all, also over a power cut.

    raises  Unavailable when the disk does not take it
    """
    target, temporary = folder / relative, folder / "incoming" / f"{uuid.uuid4().hex}.part"
    try:
        for new in (temporary.parent, target.parent):
            new.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        for changed in (target.parent, folder, folder.parent):
            _sync_folder(changed)
    except OSError as error:
        raise Unavailable(f"{target} cannot be written: {error.strerror}") from error


class Publisher:
    """What the publisher process keeps between turns."""

    def __init__(
        self, database: Database, spool: Spool, folder: Path, mode: Mode, ae_title: str,
        clock: Callable[[], datetime], previewer: Previewer | None = None, *, cites_segmentation: bool = True,
    ) -> None:  # fmt: skip
        """previewer: given where an overview picture is wanted. cites_segmentation: as in `Analysis`."""
        self._database, self._spool, self._folder = database, spool, folder
        self._mode, self._ae_title, self._clock = mode, ae_title, clock
        self._previewer, self._cites = previewer, cites_segmentation
        self._settled = 0

    def turn(self) -> int:
        """Publish Runs whose study was named anew and the oldest waiting ones, a batch at most; how many were there.

        raises  Unavailable when database or disk are away: all of it is tried again
        """
        with self._database.read() as tx:
            waiting = outputs.waiting(tx, self._settled, BATCH)
            if not waiting:
                self._settled = outputs.settled_up_to(tx)
            waiting = (outputs.named_anew(tx, BATCH) + waiting)[:BATCH]
        if waiting:
            self._spool.require_space()  # what we make must not take the room that images need (P2)
        for run_id in waiting:
            self._publish(run_id)
        return len(waiting)

    def look_from_the_start(self) -> None:
        """Forget how far all was done: an id may become visible after a higher one has."""
        self._settled = 0

    def sweep(self) -> None:
        """Remove what a dead publisher left half written."""
        for part in (self._folder / "incoming").glob("*.part"):
            part.unlink(missing_ok=True)

    def _publish(self, run_id: int) -> None:
        with self._database.read() as tx:
            run = outputs.completed(tx, run_id)
        if run is None:
            return
        try:
            with self._database.read() as tx:
                analysis = analysis_of(tx, run, self._mode, self._ae_title, cites_segmentation=self._cites)
            told = told_digest(analysis.sources[0])
            if run.told_digest == told:  # named anew and back, or in a way that images had said
                with self._database.write() as tx:
                    outputs.looked_at(tx, run)
                return
            objects = build(analysis, self._picture(run, analysis))
        except Unavailable:
            raise
        except Exception as error:  # one odd Run must not stand before all others
            log.error("output.not_built", run_id=run_id, exc_info=not isinstance(error, Refused))
            self._give_up(run, str(error) if isinstance(error, Refused) else type(error).__name__)
            return
        paths = {}
        for made in objects:
            paths[made.kind] = f"{run.study_instance_uid}/{made.kind}-{made.sop_instance_uid}.dcm"
            write(self._folder, paths[made.kind], made.content)
        with self._database.write() as tx:
            held = outputs.is_as_read(tx, run)
            if held:
                self._take_the_place(tx, run)
            for made in objects if held else ():
                self._record(tx, run, made, paths[made.kind], told)
        if not held:
            self._take_back(run, paths)
            return
        log.info("output.written", run_id=run_id, count=len(objects))

    def _take_the_place(self, tx: Connection, run: Completed) -> None:
        """What names somebody else by now is out of date."""
        dispatches.outdate(tx, [run.run_id], NAMED_OTHERWISE, before_version=run.identity_version)
        outputs.looked_at(tx, run)

    def _picture(self, run: Completed, analysis: Analysis) -> NDArray[np.uint8] | None:
        """None where none is wanted, or none can be shown: a report must not wait for a picture."""
        if self._previewer is None:
            return None
        with self._database.read() as tx:
            rows = reading.preview_rows(tx, run.study_id)
        try:
            return paint(analysis, rows, self._previewer)
        except TriageError as error:
            log.warning("overview.not_made", run_id=run.run_id, reason=str(error))
            return None

    def _record(self, tx: Connection, run: Completed, made: Made, path: str, told: str) -> None:
        now = self._clock()
        output_id = outputs.record(
            tx, run.run_id, made.kind, made.sop_instance_uid, now, path=path,
            identity_version=run.identity_version, told_digest=told,
        )  # fmt: skip
        if output_id is not None:
            detail = {"run": run.run_id, "kind": made.kind, "study": run.study_id, "bytes": len(made.content)}
            audit.append(tx, now, "triage", "output.written", "output", made.sop_instance_uid, detail)

    def _take_back(self, run: Completed, paths: dict[str, str]) -> None:
        """The study was removed or named anew, or the Run superseded, while we wrote: what is gone stays gone."""
        for path in paths.values():
            (self._folder / path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder of a study that was sent again is in use
            (self._folder / run.study_instance_uid).rmdir()

    def _give_up(self, run: Completed, why: str) -> None:
        uid = sop_instance_uid(key_at(run, run.identity_version), sr.KIND)
        with self._database.write() as tx:
            if not outputs.is_as_read(tx, run):
                return
            self._take_the_place(tx, run)
            failed = outputs.record(
                tx, run.run_id, sr.KIND, uid, self._clock(), state="failed", detail=why,
                identity_version=run.identity_version,
            )  # fmt: skip
            if failed is not None:
                detail = {"run": run.run_id, "study": run.study_id, "reason": why}
                audit.append(tx, self._clock(), "triage", "output.failed", "output", uid, detail)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
