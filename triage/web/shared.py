"""One answer for all who ask the same at once: the first makes it, the others wait for it and are given it too.

Fifty open lists ask for the same rows after every change. Were each made anew, fifty threads would hand the
interpreter's lock to one another at every row that the database gives, and all would wait for seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

_FOR = timedelta(seconds=1)
_MAX = 100  # different answers of one second
Made = TypeVar("Made")


@dataclass(frozen=True)
class _Answer:
    newest: int
    at: datetime
    made: Future[Any] = field(default_factory=Future)

    def serves(self, newest: int, now: datetime) -> bool:
        return self.newest == newest and abs(now - self.at) < _FOR


class Shared:
    """Answers of this process. What is told to everybody alike may be shared, and nothing else."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[Hashable, _Answer] = {}

    def get(self, key: Hashable, newest: int, now: datetime, make: Callable[[], Made]) -> Made:
        """What `make` gives, or gave within a second to another who asked by the same key.

        key     all that the answer depends on, but for what events tell
        newest  the newest event that the asker knows of: nobody is given what was made before it came
        raises  what `make` raises, to all who waited for it
        """
        mine = _Answer(newest, now)
        with self._lock:
            kept = self._answers.get(key)
            if kept is None or not kept.serves(newest, now):
                self._put(key, mine)
                kept = mine
        if kept is not mine:
            found: Made = kept.made.result()
            return found
        try:
            made = make()
        except BaseException as error:
            with self._lock:
                if self._answers.get(key) is mine:
                    del self._answers[key]
            mine.made.set_exception(error)
            raise
        mine.made.set_result(made)
        return made

    def _put(self, key: Hashable, mine: _Answer) -> None:
        """Old answers go when a new one comes: what nobody asks for any more holds no memory."""
        lively = {k: a for k, a in self._answers.items() if abs(mine.at - a.at) < _FOR}
        self._answers = {**(lively if len(lively) < _MAX else {}), key: mine}
