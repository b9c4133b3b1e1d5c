"""What every process of the product does: read its settings, beat, and stop when asked."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from triage import log as logging
from triage.domain.errors import TriageError
from triage.settings import Settings, load
from triage.store import events
from triage.store.database import Database
from triage.store.schema import heartbeat
from triage.workflow.health import BEAT_SECONDS

log = logging.get_logger()
FLAPPING_SECONDS = 60.0  # a part that has lived so long since its last death no longer flaps


def clock() -> datetime:
    """The wall clock, aware UTC. Handed to steps, never asked for inside them."""
    return datetime.now(UTC)


def settings_of_process() -> Settings:
    """Settings of a child of the supervisor: the file named by TRIAGE_CONFIG, then the environment."""
    file = os.environ.get("TRIAGE_CONFIG", "")
    settings = load(Path(file) if file else None)
    logging.configure(os.environ.get("TRIAGE_LOG_FORMAT", "text"))
    return settings


class Stop:
    """Set by SIGTERM or SIGINT; `wait` returns True when it is time to go."""

    def __init__(self) -> None:
        self._event = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._event.set())

    def wait(self, seconds: float) -> bool:
        return self._event.wait(seconds)

    def set(self) -> None:
        self._event.set()


class Beat(threading.Thread):
    """Writes this part's heartbeat until stopped; a clean end takes the row away, a death leaves it to go stale."""

    def __init__(self, database: Database, part: str, alive: Callable[[], bool] = lambda: True) -> None:
        super().__init__(name="beat", daemon=True)
        self._database, self._part, self._alive = database, part, alive
        self._done = threading.Event()

    def run(self) -> None:
        started = time.monotonic()
        while True:
            if self._alive():
                try:
                    with self._database.write() as tx:
                        detail = {"restarts": int(os.environ.get("TRIAGE_RESTARTS", "0")),
                                  "flapping": os.environ.get("TRIAGE_FLAPPING", "") == "1"
                        and time.monotonic() - started < FLAPPING_SECONDS}  # fmt: skip
                        events.beat(tx, self._part, os.getpid(), clock(), detail)
                except TriageError as error:
                    log.warning("heartbeat.not_written", part=self._part, error=str(error))
            if self._done.wait(BEAT_SECONDS):
                return

    def leave(self) -> None:
        """Stop beating and take the row away."""
        self._done.set()
        self.join(timeout=5)
        try:
            with self._database.write() as tx:
                tx.execute(
                    heartbeat.delete().where(heartbeat.c.part == self._part, heartbeat.c.pid == os.getpid())
                )
        except TriageError as error:
            log.warning("heartbeat.not_removed", part=self._part, error=str(error))


def wait_for(condition: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """True as soon as `condition` holds, False when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(every)
    return condition()
