"""The MLLP channel with a real listener on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hl7.notices import a_notice
from triage.channels.mllp import MllpChannel
from triage.channels.protocol import Outcome
from triage.domain.finding import Mode
from triage.hl7.mllp import Inbox, MllpListener
from triage.hl7.results import build_oru

NOTICE = a_notice()
ORU = build_oru(NOTICE, mode=Mode.TRIAGE_ONLY, processing_id="T")


@pytest.fixture
def hospital() -> Iterator[tuple[Inbox, int]]:
    inbox = Inbox()
    listener = MllpListener("127.0.0.1", 0, inbox)
    port = listener.start()
    yield inbox, port
    listener.stop()


def test_an_alert_is_delivered_over_a_kept_connection(hospital: tuple[Inbox, int]) -> None:
    inbox, port = hospital
    channel = MllpChannel("127.0.0.1", port, timeout_seconds=5)
    for control_id in ("FIRST", "SECOND"):
        oru = build_oru(a_notice(control_id=control_id), mode=Mode.TRIAGE_ONLY, processing_id="T")
        assert channel.send(oru, control_id).outcome is Outcome.DELIVERED
        if control_id == "FIRST":
            kept = channel._socket
    assert channel._socket is kept
    assert len(inbox.messages) == 2
    channel.close()


def test_a_resend_is_delivered_and_held_to_once(hospital: tuple[Inbox, int]) -> None:
    inbox, port = hospital
    for _ in range(2):
        channel = MllpChannel("127.0.0.1", port, timeout_seconds=5)
        assert channel.send(ORU, NOTICE.control_id).outcome is Outcome.DELIVERED
        channel.close()
    assert (inbox.messages, inbox.received) == ([ORU], 2)
