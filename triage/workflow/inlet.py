"""One way in for every file that is not sent by C-STORE: the same checks, the same order, the same rows (P1, P2).

    raw file -> under our file meta, flushed -> header -> place in the spool -> rows -> "taken"

Used by STOW-RS, the watched folder and what we fetch ourselves.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from triage.dicom.part10 import rewrite
from triage.domain.study import InstanceHeader
from triage.log import get_logger
from triage.settings import Settings
from triage.store import completeness
from triage.store.database import Database
from triage.store.registration import Arrived
from triage.store.spool import Spool
from triage.workflow.celery import Waker
from triage.workflow.complete import complete_series
from triage.workflow.intake import arrival_of, intake
from triage.workflow.site import site_of

log = get_logger()
_numbers = itertools.count()


@dataclass(frozen=True)
class Taken:
    header: InstanceHeader
    arrived: Arrived


class Inlet:
    """sender_kind  "web", "folder" or "pull": names the temporary files and the transfers of this process"""

    def __init__(
        self, settings: Settings, database: Database, clock: Callable[[], datetime], sender_kind: str,
        wake: Callable[[Iterable[tuple[int, str]]], None] | None = None,
    ) -> None:  # fmt: skip
        self._settings, self._database, self._clock, self._kind = settings, database, clock, sender_kind
        self._site = site_of(settings)
        self._spool = Spool(settings.spool, settings.dicom.reserve_bytes)
        self._folder = settings.spool / "inlet"
        self._given_wake = wake
        self._waker: Waker | None = None
        self._prepared = False

    def temporary(self) -> Path:
        """A new name on the spool's file system, for a file of this process."""
        if not self._prepared:
            self._spool.prepare()
            self._folder.mkdir(exist_ok=True)
            self._sweep()
            self._prepared = True
        return self._folder / f"{os.getpid()}-{self._kind}-{next(_numbers)}.part"

    def require_space(self) -> None:
        """raises Unavailable below the reserve"""
        self._spool.require_space()

    def take(self, raw: Path, *, sender: str, transfer: str) -> Taken:
        """Make the object in `raw` ours; `raw` stays the caller's.

        sender    who brought it, as an AE title or a name
        transfer  of one sender's objects that come together; `end` closes it
        raises    Refused for the object's own fault; Unavailable or OSError when we cannot keep it now
        """
        target = self.temporary()
        self._spool.require_space()
        try:
            written = rewrite(raw, target, object_bytes=self._settings.dicom.object_bytes_max)
            self._spool.adopt(written.path, written.digest)
        finally:
            target.unlink(missing_ok=True)
        arrival = arrival_of(
            written.header, written.digest, written.size, sender[:16], f"{self._kind}:{transfer}"
        )
        with self._database.write() as tx:
            taken = intake(tx, arrival, self._site, self._clock())
        self._wake(taken.wake)
        return Taken(written.header, taken.arrived)

    def end(self, transfer: str, *, aborted: bool = False) -> None:
        """The transfer is over: its series are judged now."""
        with self._database.write() as tx:
            touched = completeness.association_ended(tx, f"{self._kind}:{transfer}", aborted, self._clock())
        for series_id in touched:
            with self._database.write() as tx:
                wake = complete_series(tx, series_id, self._site, self._clock())
            self._wake(wake)

    def _wake(self, calls: Iterable[tuple[int, str]]) -> None:
        if self._given_wake is not None:
            self._given_wake(calls)
            return
        if self._waker is None:  # a thread of its own, only where something comes in
            self._waker = Waker(self._settings.broker.url.get_secret_value())
        self._waker.wake(calls)

    def _sweep(self) -> None:
        """What dead processes left; nobody was told that we have it."""
        for path in self._folder.glob("*.part"):
            owner = path.name.split("-")[0]
            if not Path(f"/proc/{owner}").exists():
                path.unlink(missing_ok=True)
