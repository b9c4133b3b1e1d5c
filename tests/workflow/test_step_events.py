"""Subscribers that are gone, refuse, or run into a mistake of ours: what each of them costs the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pynetdicom import AE, evt

from tests.workflow.desk import Desk
from triage.dicom.workitem import UPS_EVENT
from triage.settings import Settings
from triage.store import peers, subscriptions
from triage.store.subscriptions import GLOBAL
from triage.workflow import health, step_events
from triage.workflow.step_events import OWNERS, StepEvents

REFUSED = 0x0110  # processing failure: PS3.7 C.5.19


@contextmanager
def a_listener(status: int) -> Iterator[tuple[int, list[str]]]:
    """(port, UIDs that it was told of)"""
    heard: list[str] = []

    def hear(event: Any) -> tuple[int, None]:
        heard.append(event.request.AffectedSOPInstanceUID)
        return status, None

    ae = AE("WS1")
    ae.add_supported_context(UPS_EVENT, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, hear)])
    try:
        yield server.server_address[1], heard
    finally:
        server.shutdown()


def subscribe(desk: Desk, ae_title: str) -> None:
    with desk.database.write() as tx:
        subscriptions.add_subscriber(tx, ae_title, f"{OWNERS}{ae_title}", 0, desk.clock())
        subscriptions.want(tx, ae_title, GLOBAL)


def told_up_to(desk: Desk, ae_title: str) -> int:
    with desk.database.read() as tx:
        found = subscriptions.find_subscriber(tx, ae_title)
    assert found is not None
    return int(found["told_up_to"])


def test_who_is_no_longer_a_peer_is_waited_for_and_delays_nobody(desk: Desk, tmp_path: Path) -> None:
    desk.flagged()
    seconds = [0.0]
    events = StepEvents(desk.database, Settings(home=tmp_path), desk.clock, lambda: seconds[0])
    assert events.turn() == 0  # nobody wants to hear
    subscribe(desk, "GONE")
    subscribe(desk, "WS1")
    with a_listener(0) as (port, heard):
        with desk.database.write() as tx:
            peers.add(tx, "ws1", "WS1", "127.0.0.1", port, tls=False)
        assert events.turn() == 1 == len(heard)
        assert told_up_to(desk, "GONE") == 0 < told_up_to(desk, "WS1")
        with desk.database.write() as tx:
            peers.add(tx, "gone", "GONE", "127.0.0.1", port, tls=False)
        assert events.turn() == 0
        seconds[0] = step_events.AGAIN_SECONDS
        assert events.turn() == 1 and heard == [heard[0]] * 2
    assert told_up_to(desk, "GONE") == told_up_to(desk, "WS1")


def test_who_stays_away_is_logged_once_an_hour_and_stands_in_health(
    any_desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead workstation wrote a line into the log each minute."""
    any_desk.flagged()
    log = Mock()
    monkeypatch.setattr(step_events, "log", log)
    seconds = [0.0]
    settings = Settings(home=tmp_path)
    events = StepEvents(any_desk.database, settings, any_desk.clock, lambda: seconds[0])
    subscribe(any_desk, "GONE")
    for minute in range(122):
        seconds[0] = minute * step_events.AGAIN_SECONDS
        assert events.turn() == 0
    assert [line.kwargs["attempts"] for line in log.warning.call_args_list] == [1, 61, 121]
    later = any_desk.clock() + timedelta(minutes=10)
    with any_desk.database.read() as tx:
        told = next(c for c in health.checks(tx, settings, later) if c["name"] == "subscribers")
    assert told["ok"] and told["detail"].startswith("GONE not told of steps since")
    with a_listener(0) as (port, _heard):
        with any_desk.database.write() as tx:
            peers.add(tx, "gone", "GONE", "127.0.0.1", port, tls=False)
        seconds[0] += step_events.AGAIN_SECONDS
        assert events.turn() == 1
    log.info.assert_called_once_with("subscriber.told_again", peer="GONE", attempts=122)
    with any_desk.database.read() as tx:
        assert not [c for c in health.checks(tx, settings, later) if c["name"] == "subscribers"]


def test_what_a_subscriber_refuses_is_not_said_again(desk: Desk, tmp_path: Path) -> None:
    desk.flagged()
    subscribe(desk, "WS1")
    events = StepEvents(desk.database, Settings(home=tmp_path), desk.clock)
    with a_listener(REFUSED) as (port, heard):
        with desk.database.write() as tx:
            peers.add(tx, "ws1", "WS1", "127.0.0.1", port, tls=False)
        assert events.turn() == 1
        assert events.turn() == 0
    assert len(heard) == 1
