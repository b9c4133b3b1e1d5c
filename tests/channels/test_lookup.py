"""A name server that does not answer holds nobody longer than a deadline."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from tests.hl7.notices import a_notice
from triage.channels.lookup import Lookup
from triage.channels.mllp import MllpChannel
from triage.channels.protocol import Outcome
from triage.channels.webhook import WebhookChannel
from triage.domain.finding import Mode
from triage.hl7.results import build_oru


class SlowNames:
    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = 0

    def __call__(self, *_: Any, **__: Any) -> list[Any]:
        self.asked += 1
        self.go.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> SlowNames:
    made = SlowNames()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    return made


def test_a_slow_name_server_is_asked_once_and_waited_for_by_the_next_attempt(names: SlowNames) -> None:
    lookup = Lookup("ris.example", 9)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            lookup.addresses(time.monotonic() + 0.02)
    names.go.set()
    assert lookup.addresses(time.monotonic() + 5) == [(socket.AF_INET, ("127.0.0.1", 9))]
    assert lookup.addresses(time.monotonic()) and names.asked == 1


def test_no_channel_waits_for_a_name_beyond_its_own_limit(names: SlowNames) -> None:
    mllp = MllpChannel("ris.example", 9, timeout_seconds=0.1)
    hook = WebhookChannel("https://ris.example/", b"0123456789abcdef", timeout_seconds=0.1)
    began = time.monotonic()
    payload = build_oru(a_notice(), mode=Mode.TRIAGE_ONLY, processing_id="P")
    assert mllp.send(payload, a_notice().control_id).outcome is Outcome.RETRY
    assert hook.send(b"{}", "1").outcome is Outcome.RETRY
    assert time.monotonic() - began < 2
    names.go.set()
