"""Tells a FHIRcast hub which study a reader opened or left, so that viewer and dictation follow (standards 7.4).

Once and at once, or not at all: an opening that comes late would lead another program to a study that the reader has
left. A hub that is slow or dead delays nobody; what it did not take is dropped and logged, and readers are told that the
hub is away, since their viewer may still show the study before.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from triage.channels.http import HttpPeer
from triage.channels.protocol import Outcome
from triage.domain.errors import Misconfigured
from triage.hl7.fhir.cast import Kind, context_event
from triage.log import get_logger
from triage.settings import FhircastSettings
from triage.store.fhir import Wanted
from triage.workflow import fhir
from triage.workflow.site import NewId

WAITING_MAX = 20  # openings on their way; more than so many are stale
log = get_logger()


def context(
    tx: Connection,
    kind: Kind,
    study_id: int,
    reader: str,
    settings: FhircastSettings,
    ids: NewId,
    now: datetime,
) -> bytes | None:
    """The event that this reader opened or left this study; None for one that the FHIR view does not show."""
    found = fhir.find(tx, "ImagingStudy", Wanted(id=study_id, limit=1))
    if not found:
        return None
    patient = str(found[0].get("subject", {}).get("reference", ""))
    who = fhir.find(tx, "Patient", Wanted(id=fhir.row_id(patient, "Patient"), limit=1)) if patient else []
    topic = settings.topic.replace("{reader}", reader)
    event = context_event(kind, found[0], who[0] if who else None, topic, ids(), now)
    return json.dumps(event, sort_keys=True).encode()


class Hub:
    """The way to one hub, with a thread of its own that starts with the first event."""

    def __init__(
        self, settings: FhircastSettings, clock: Callable[[], datetime], changed: Callable[[], None]
    ) -> None:
        """changed  called by the hub's thread when it went away or came back

        raises  Misconfigured when the address or a file of the settings cannot be used
        """
        self.settings, self._clock, self._changed = settings, clock, changed
        self.away_since: datetime | None = None
        self._peer = HttpPeer(
            settings.url, timeout_seconds=settings.timeout_seconds, allow_private=settings.allow_private
        )
        self._token, self._secret = _read(settings.token_file), _read(settings.secret_file)
        self._waiting: queue.Queue[bytes] = queue.Queue(WAITING_MAX)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def publish(self, event: bytes) -> bool:
        """Hand it over and go on; False when the hub is so far behind that it was dropped."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fhircast", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            log.warning("fhircast.dropped", detail="the hub does not keep up")
            return False
        return True

    def _run(self) -> None:
        while True:
            event = self._waiting.get()
            answer = self._peer.post(event, self._headers(event))
            taken = answer.outcome is Outcome.DELIVERED
            if not taken:
                log.warning("fhircast.not_taken", detail=answer.detail, fix="fhircast in the settings")
            if taken != (self.away_since is None):
                self.away_since = None if taken else self._clock()
                self._changed()

    def _headers(self, event: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token.decode()}"
        if self._secret:
            headers["X-Hub-Signature"] = f"sha256={hmac.new(self._secret, event, hashlib.sha256).hexdigest()}"
        return headers


def _read(file: Path | None) -> bytes:
    if file is None:
        return b""
    try:
        return file.read_bytes().strip()
    except OSError as error:
        raise Misconfigured(f"fhircast: {file} cannot be read: {error.strerror}") from error
