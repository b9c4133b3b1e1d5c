"""A duty that one process has for all and does again and again: deliver, send, ask, tell."""

from __future__ import annotations

import threading
from collections.abc import Callable

from triage.domain.errors import TriageError
from triage.log import get_logger

REST_SECONDS = 10.0  # after a turn that was not possible
LOOK_SECONDS = 1.0  # how often one that may not act looks whether it may by now
log = get_logger()


class DutyThread(threading.Thread):
    """Takes a turn every `poll_seconds` while `may` says so, whatever the one before ran into.

    turn          returns True when more is waiting: then the next turn comes at once
    rest_seconds  least pause after a turn that raised
    fix           what an operator may do about it
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], object],
        may: Callable[[], bool],
        poll_seconds: float,
        *,
        rest_seconds: float = REST_SECONDS,
        fix: str = "",
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._turn, self._may, self._poll_seconds = turn, may, poll_seconds
        self._rest_seconds, self._told = max(rest_seconds, poll_seconds), {"fix": fix} if fix else {}
        self.stopping = threading.Event()

    def run(self) -> None:
        wait = 0.0
        while not self.stopping.wait(wait):
            # Who has just come to lead need not wait a whole interval for the first turn.
            wait = self._once() if self._may() else min(self._poll_seconds, LOOK_SECONDS)

    def _once(self) -> float:
        """Seconds until the next turn."""
        try:
            return 0.0 if self._turn() is True else self._poll_seconds
        except TriageError as error:
            log.warning("duty.not_possible", name=self.name, error=str(error), **self._told)
        except Exception:
            log.error("duty.failed", name=self.name, exc_info=True)
        return self._rest_seconds
