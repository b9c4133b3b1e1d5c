"""The MLLP channel with a real listener on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import pem_pair
from tests.hl7.notices import a_notice
from triage.channels.mllp import MllpChannel
from triage.channels.protocol import Outcome
from triage.domain.errors import Misconfigured
from triage.domain.finding import Mode
from triage.hl7.mllp import Inbox, MllpListener
from triage.hl7.results import build_oru
from triage.settings import Hl7Settings, RouteSettings
from triage.workflow.routes import channel_of, server_context

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


def test_a_route_with_tls_proves_both_sides_and_never_falls_back(tmp_path: Path) -> None:
    """A listener that wants a client certificate: heard is who has one, and who trusts the listener's."""
    ours, theirs = pem_pair(tmp_path, "client"), pem_pair(tmp_path, "localhost")
    hl7 = Hl7Settings(cert_file=theirs[0], key_file=theirs[1], client_ca_file=ours[0])
    inbox = Inbox()
    listener = MllpListener("127.0.0.1", 0, inbox, tls=server_context(hl7))
    port = listener.start()
    route = {"name": "ris", "kind": "mllp", "host": "localhost", "port": port, "timeout_seconds": 3.0}
    payload = build_oru(a_notice(), mode=Mode.TRIAGE_ONLY, processing_id="T")

    def outcome(**tls: object) -> Outcome:
        channel = channel_of(RouteSettings(**route, **tls))  # type: ignore[arg-type]
        answer = channel.send(payload, a_notice().control_id)
        channel.close()
        return answer.outcome

    try:
        both = {"tls": "tls", "ca_file": theirs[0], "cert_file": ours[0], "key_file": ours[1]}
        assert outcome(**both) is Outcome.DELIVERED
        assert outcome(tls="tls", ca_file=theirs[0]) is Outcome.RETRY  # no certificate of ours
        assert (
            outcome(tls="tls", cert_file=ours[0], key_file=ours[1]) is Outcome.RETRY
        )  # theirs is not trusted
        assert outcome() is Outcome.RETRY  # plain
        assert len(inbox.messages) == 1
    finally:
        listener.stop()


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    route = RouteSettings(name="ris", kind="mllp", host="x", port=1, tls="tls", ca_file=tmp_path / "none.pem")
    with pytest.raises(Misconfigured, match="route ris: ca_file"):
        channel_of(route)
    with pytest.raises(Misconfigured, match="hl7: certificate"):
        server_context(Hl7Settings(cert_file=tmp_path / "none.pem"))
