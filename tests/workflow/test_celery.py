"""Wake-up calls: they arrive over a real (file) broker, and a broker that is away costs the caller nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from triage.workflow import celery
from triage.workflow.celery import ASSESS, QUEUES, Waker, make_app


def messages_in(folder: Path) -> list[Path]:
    return list(folder.glob("**/*.msg"))


def test_a_call_is_a_message_with_the_id_of_a_run_alone(tmp_path: Path) -> None:
    url = f"filesystem://{tmp_path}"
    Waker(url).wake([(17, "stat")])
    deadline = time.monotonic() + 20
    while not messages_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    text = messages_in(tmp_path)[0].read_text()
    assert ASSESS in text and "stat" in text


def test_a_broker_that_is_away_holds_up_nobody() -> None:
    waker = Waker("redis://127.0.0.1:1/0")
    began = time.monotonic()
    waker.wake([(1, "stat")])
    assert time.monotonic() - began < 1
    deadline = time.monotonic() + 20
    while not waker._calls.empty() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert waker._calls.empty()


def test_a_full_line_of_calls_drops_the_newest_instead_of_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery.threading.Thread, "start", lambda self: None)  # nobody takes
    waker = Waker("redis://127.0.0.1:1/0")
    began = time.monotonic()
    waker.wake((n, "routine") for n in range(10_001))
    assert waker._calls.qsize() == 10_000 and time.monotonic() - began < 5


def test_messages_are_json_late_acknowledged_and_no_remote_control_is_open(tmp_path: Path) -> None:
    app = make_app("redis://127.0.0.1:1/0")
    assert app.conf.accept_content == ["json"] and app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost and not app.conf.worker_enable_remote_control
    assert set(QUEUES) == {"stat", "routine", "shadow"}
