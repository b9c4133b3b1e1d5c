"""Tells DIMSE subscribers what changed in the reading list's steps; what could not be told is told later."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset

from triage.dicom.ups import send_events
from triage.domain.errors import TriageError
from triage.log import get_logger
from triage.settings import Settings
from triage.store import peers, subscriptions
from triage.store.database import Database
from triage.workflow.remotes import remote_of
from triage.workflow.workitems import follow

POLL_SECONDS = 1.0
AGAIN_SECONDS = 60.0  # a subscriber that is away must not delay the others each second
# Who stays away stands in /health all the time; the log says it when it begins, then so often.
SAID_SECONDS = 3600.0
TIMEOUT_SECONDS = 5.0
OWNERS = "dicom:"
log = get_logger()


class StepEvents:
    """One pass after another over the subscribers, each from where it was told last."""

    def __init__(
        self, database: Database, settings: Settings, clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._database, self._settings, self._clock = database, settings, clock
        self._monotonic = monotonic
        self._again_at: dict[str, float] = {}
        self._tries: dict[str, int] = {}  # in vain, since the subscriber was told last
        self._said_at: dict[str, float] = {}

    def turn(self) -> int:
        """How many events were told."""
        with self._database.read() as tx:
            waiting = subscriptions.subscribers(tx, OWNERS)
        if not waiting:
            return 0
        with self._database.write() as tx:
            follow(tx, self._clock())
        return sum(
            self._tell(one)
            for one in waiting
            if self._monotonic() >= self._again_at.get(one["ae_title"], 0.0)
        )

    def _tell(self, one: dict[str, Any]) -> int:
        ae_title = one["ae_title"]
        with self._database.read() as tx:
            events, last = subscriptions.events_for(tx, ae_title, one["told_up_to"])
            peer = next((p for p in peers.listing(tx) if p["ae_title"] == ae_title), None)
        if events:
            said = [(e["kind"], e["sop_instance_uid"], Dataset.from_json(e["data"])) for e in events]
            try:
                if peer is None:
                    raise TriageError(f"no peer has the AE title {ae_title}")
                statuses = send_events(remote_of(self._settings, peer, TIMEOUT_SECONDS), said)
            except TriageError as error:
                self._again_at[ae_title] = self._monotonic() + AGAIN_SECONDS
                self._say_not_told(ae_title, str(error))
                return 0
            if tries := self._tries.pop(ae_title, 0):
                del self._said_at[ae_title]
                log.info("subscriber.told_again", peer=ae_title, attempts=tries)
            if any(statuses):
                log.warning("subscriber.refused", peer=ae_title, count=sum(map(bool, statuses)))
        if last != one["told_up_to"]:
            with self._database.write() as tx:
                subscriptions.told(tx, ae_title, last)
        return len(events)

    def _say_not_told(self, ae_title: str, error: str) -> None:
        self._tries[ae_title] = self._tries.get(ae_title, 0) + 1
        if self._monotonic() < self._said_at.get(ae_title, float("-inf")) + SAID_SECONDS:
            return
        self._said_at[ae_title] = self._monotonic()
        log.warning("subscriber.not_told", peer=ae_title, error=error, attempts=self._tries[ae_title])
