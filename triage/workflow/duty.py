"""A duty of the relay that is done again and again, by whichever relay leads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from triage.domain.errors import TriageError
from triage.log import get_logger

REST_SECONDS = 10.0  # after a pass that was not possible
log = get_logger()


class DutyThread(threading.Thread):
    """Takes a turn every `poll_seconds` while `may` says so, whatever the one before ran into."""

    def __init__(
        self, name: str, turn: Callable[[], object], may: Callable[[], bool], poll_seconds: float
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._turn, self._may, self._poll_seconds = turn, may, poll_seconds
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(self._poll_seconds):
            if not self._may():
                continue
            try:
                self._turn()
            except TriageError as error:
                log.warning("duty.not_possible", name=self.name, error=str(error))
                self.stopping.wait(REST_SECONDS)
            except Exception:
                log.error("duty.failed", name=self.name, exc_info=True)
                self.stopping.wait(REST_SECONDS)
