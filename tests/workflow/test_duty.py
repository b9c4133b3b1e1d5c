"""A duty goes on whatever one of its turns ran into."""

from __future__ import annotations

import threading

import pytest

from triage.domain.errors import Unavailable
from triage.workflow import duty
from triage.workflow.duty import DutyThread


class Turns:
    """Passes that are counted; each raises the next of `errors`."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.taken, self.enough = list(errors), 0, threading.Event()

    def turn(self) -> int:
        self.taken += 1
        if self.errors:
            raise self.errors.pop()
        self.enough.set()
        return 0


@pytest.mark.parametrize(
    "error", [Unavailable("the database does not answer"), KeyError("a mistake of ours")]
)
def test_whatever_a_pass_runs_into_the_next_one_comes(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duty, "REST_SECONDS", 0.001)
    turns = Turns(error)
    leads = iter([False, True, True])
    thread = DutyThread("a duty", turns.turn, lambda: next(leads, True), 0.001)
    thread.start()
    assert turns.enough.wait(20)
    thread.stopping.set()
    thread.join(20)
    assert turns.taken >= 2 and not thread.is_alive()
