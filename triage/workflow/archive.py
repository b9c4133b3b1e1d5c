"""Asks the archive how many instances an arriving CT series has: the count makes a series whole at once (standards 3.1).

An archive may itself still be receiving, so its number counts only when it is said twice, a quiet time's half apart,
and we hold as many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from triage.dicom.query import series_instance_count
from triage.domain.errors import Misconfigured
from triage.store import completeness, peers
from triage.store.database import Database

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Heard:
    count: int
    at: datetime


def believe(heard: Heard | None, count: int, now: datetime, apart_seconds: float) -> bool:
    """True when the archive said the same number before, long enough ago."""
    return heard is not None and heard.count == count and (now - heard.at).total_seconds() >= apart_seconds


class ArchiveCounts:
    """Asks the archive about the series that still arrive."""

    def __init__(
        self,
        database: Database,
        archive: str,
        calling: str,
        apart_seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._database, self._archive, self._calling = database, archive, calling
        self._apart_seconds, self._clock = apart_seconds, clock
        self._heard: dict[str, Heard] = {}

    def turn(self) -> None:
        """Ask about every CT series that is not whole and has no count yet. raises Misconfigured, Unavailable."""
        with self._database.read() as tx:
            peer = peers.find(tx, self._archive)
            waiting = completeness.uncounted_ct(tx)
        if peer is None:
            raise Misconfigured(f"dicom.archive names {self._archive!r}, which is no peer: triage peer add")
        self._heard = {
            uid: h for uid, h in self._heard.items() if uid in {w.series_instance_uid for w in waiting}
        }
        for w in waiting:
            count = series_instance_count(
                peer["host"],
                peer["port"],
                calling=self._calling,
                called=peer["ae_title"],
                study_instance_uid=w.study_instance_uid,
                series_instance_uid=w.series_instance_uid,
            )
            if count is None:
                continue
            now = self._clock()
            heard = self._heard.get(w.series_instance_uid)
            if believe(heard, count, now, self._apart_seconds):
                with self._database.write() as tx:
                    completeness.set_expected_count(tx, w.series_instance_uid, count, now)
            elif heard is None or heard.count != count:
                self._heard[w.series_instance_uid] = Heard(count, now)
