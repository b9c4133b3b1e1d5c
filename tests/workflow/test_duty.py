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
        self.answer = 0

    def turn(self) -> int:
        self.taken += 1
        if self.errors:
            raise self.errors.pop()
        self.enough.set()
        return self.answer


class Log:
    """Keeps what it was told: where logs go depends on what ran before in this process."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    error = warning


def run(thread: DutyThread, enough: threading.Event) -> None:
    thread.start()
    assert enough.wait(20)
    thread.stopping.set()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("error", "said"),
    [(Unavailable("the peer is away"), "duty.not_possible"), (KeyError("a mistake of ours"), "duty.failed")],
)
def test_whatever_a_turn_runs_into_is_logged_with_its_cure_and_the_next_one_comes(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    monkeypatch.setattr(duty, "log", log)
    turns = Turns(error)
    thread = DutyThread("a duty", turns.turn, lambda: True, 0.001, rest_seconds=0.001, fix="triage echo PACS")
    run(thread, turns.enough)
    assert turns.taken >= 2
    ((event, fields),) = log.lines
    assert (event, fields["name"]) == (said, "a duty")
    assert fields.get("fix") == ("triage echo PACS" if said == "duty.not_possible" else None)


def test_who_may_not_act_takes_no_turn() -> None:
    turns, asked = Turns(), threading.Event()

    def may() -> bool:
        asked.set()
        return False

    run(DutyThread("a duty", turns.turn, may, 0.001), asked)
    assert turns.taken == 0


def test_who_comes_to_lead_acts_at_once_and_not_an_interval_later() -> None:
    turns, answers = Turns(), iter([False])
    run(DutyThread("a duty", turns.turn, lambda: next(answers, True), 3_600.0), turns.enough)
    assert turns.taken == 1


def test_the_next_turn_comes_at_once_while_more_waits() -> None:
    waiting, done = [1, 2, 3], threading.Event()

    def turn() -> bool:
        waiting.pop()
        if not waiting:
            done.set()
        return bool(waiting)

    run(DutyThread("a duty", turn, lambda: True, 3_600.0), done)
    assert waiting == []


def test_a_number_of_things_done_is_no_wish_to_go_on() -> None:
    turns = Turns()
    turns.answer = 1
    run(DutyThread("a duty", turns.turn, lambda: True, 3_600.0), turns.enough)
    assert turns.taken == 1
