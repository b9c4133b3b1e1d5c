"""The listener with real sockets: answers every message, outlives every peer."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.certificates import client_trusting, server_with
from tests.hl7.notices import a_notice
from triage.channels.mllp import MllpChannel
from triage.channels.protocol import Outcome
from triage.domain.errors import Unavailable
from triage.domain.finding import Mode
from triage.hl7.framing import FrameReader, frame
from triage.hl7.mllp import Handler, Inbox, MllpListener
from triage.hl7.parse import parse
from triage.hl7.results import build_oru


def an_oru(control_id: str = "C1", **changes: str) -> bytes:
    return build_oru(a_notice(control_id=control_id, **changes), mode=Mode.TRIAGE_ONLY, processing_id="T")


Start = Callable[..., int]


@pytest.fixture
def start() -> Iterator[Start]:
    listeners: list[MllpListener] = []

    def _start(handler: Handler, **options: object) -> int:
        listeners.append(MllpListener("127.0.0.1", 0, handler, **options))  # type: ignore[arg-type]
        return listeners[-1].start()

    yield _start
    for listener in listeners:
        listener.stop()


class Sender:
    """A plain client that sends bytes and reads frames."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self._reader = FrameReader(self.socket)

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> str:
        """MSA-1 of the next answer; "closed" when the listener hung up."""
        try:
            raw = self._reader.read(start_by=time.monotonic() + 5)
        except ConnectionResetError:
            raw = None
        return "closed" if raw is None else parse(raw).first("MSA").field(1)


def test_messages_of_one_connection_are_answered_in_order(start: Start) -> None:
    inbox = Inbox()
    sender = Sender(start(inbox))
    sender.say(b"".join(frame(an_oru(f"C{n}")) for n in range(5)))
    assert [sender.answer() for _ in range(5)] == ["AA"] * 5
    assert [parse(m).control_id for m in inbox.messages] == [f"C{n}" for n in range(5)]
    assert inbox.wait(5, within_seconds=0)
    assert not inbox.wait(6, within_seconds=0.01)


def test_the_inbox_holds_a_repeated_message_to_once_and_refuses_a_reused_id(start: Start) -> None:
    inbox = Inbox()
    sender = Sender(start(inbox))
    for message, expected in [
        (an_oru(), "AA"),
        (an_oru(), "AA"),
        (an_oru(patient_id="OTHER"), "AE"),
        (b"not HL7 at all", "AR"),
        (an_oru().replace(b"|C1|", b"||"), "AE"),
    ]:
        sender.say(frame(message))
        assert sender.answer() == expected
    assert inbox.messages == [an_oru()]


def test_a_handler_that_fails_makes_the_sender_try_later(start: Start) -> None:
    def fails_once(raw: bytes, failed: list[bool] = []) -> bytes:  # noqa: B006  remembers on purpose
        if not failed:
            failed.append(True)
            raise RuntimeError("DOE^JANE")
        return Inbox()(raw)

    sender = Sender(start(fails_once))
    for expected in ("AR", "AA"):
        sender.say(frame(an_oru()))
        assert sender.answer() == expected


def test_a_failure_does_not_leak_what_the_message_said(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(raw: bytes) -> bytes:
        raise RuntimeError(raw.decode())

    sender = Sender(start(fails))
    sender.say(frame(an_oru()))
    assert sender.answer() == "AR"
    captured = capfd.readouterr()
    assert "DOE" not in captured.out + captured.err


def test_the_listener_outlives_random_bytes(start: Start) -> None:
    """Seeds 0 to 149, each its own connection; a good message is answered in between and at the end."""
    inbox = Inbox()
    port = start(inbox, max_bytes=100_000, frame_seconds=0.2)
    good = Sender(port)
    for seed in range(150):
        rng = random.Random(seed)
        data = rng.randbytes(rng.randrange(2000))
        if seed % 3 == 0:
            data = b"\x0b" + data + b"\x1c\r"
        if seed % 3 == 1:
            whole = bytearray(frame(an_oru(f"R{seed}")))
            whole[rng.randrange(len(whole))] = rng.randrange(256)
            data = bytes(whole)
        bad = Sender(port)
        bad.say(data)
        bad.socket.close()
        if seed % 30 == 0:
            good.say(frame(an_oru(f"G{seed}")))
            assert good.answer() == "AA"
    good.say(frame(an_oru("LAST")))
    assert good.answer() == "AA"


def test_half_a_message_is_not_a_message(start: Start) -> None:
    inbox = Inbox()
    sender = Sender(start(inbox, frame_seconds=0.1))
    sender.say(frame(an_oru())[:-2])
    assert sender.answer() == "closed"
    assert inbox.received == 0


def test_a_message_over_the_limit_closes_the_connection_and_nothing_else(start: Start) -> None:
    inbox = Inbox()
    port = start(inbox, max_bytes=100_000)
    big = Sender(port)
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        big.say(b"\x0b" + b"x" * 10_000_000)
    assert big.answer() == "closed"
    sender = Sender(port)
    sender.say(frame(an_oru()))
    assert sender.answer() == "AA"


def test_a_ten_megabyte_message_within_the_limit_is_answered(start: Start) -> None:
    inbox = Inbox()
    sender = Sender(start(inbox))
    sender.say(frame(an_oru() + b"OBX|9|ED|PDF||^^^Base64^" + b"A" * 10_000_000 + b"\r"))
    assert sender.answer() == "AA"


def test_an_idle_connection_is_closed(start: Start) -> None:
    assert Sender(start(Inbox(), idle_seconds=0.1)).answer() == "closed"


def test_one_connection_too_many_is_closed_and_the_others_live(start: Start) -> None:
    port = start(Inbox(), max_connections=2)
    held = [Sender(port), Sender(port)]
    for sender in held:  # both are served before the third comes
        sender.say(frame(an_oru()))
        assert sender.answer() == "AA"
    assert Sender(port).answer() == "closed"
    held[0].say(frame(an_oru()))
    assert held[0].answer() == "AA"
    held[1].socket.close()
    deadline = time.monotonic() + 5
    while True:  # its place becomes free
        sender = Sender(port)
        try:
            sender.say(frame(an_oru()))
            if sender.answer() == "AA":
                break
        except OSError:
            pass
        assert time.monotonic() < deadline


def test_stop_closes_connections_frees_the_port_and_leaves_no_thread() -> None:
    before = threading.active_count()
    listener = MllpListener("127.0.0.1", 0, Inbox())
    port = listener.start()
    sender = Sender(port)
    sender.say(frame(an_oru()))
    assert sender.answer() == "AA"
    listener.stop()
    assert sender.answer() == "closed"
    assert threading.active_count() <= before
    again = MllpListener("127.0.0.1", port, Inbox())
    assert again.start() == port
    again.stop()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=str(port)):
            MllpListener("127.0.0.1", port, Inbox()).start()


def test_over_tls_only_a_peer_that_proves_its_name_gets_an_alert(start: Start) -> None:
    """F28: never back to plain."""
    inbox = Inbox()
    certificate = server_with("localhost")
    port = start(inbox, tls=certificate.context, frame_seconds=2)
    trusted = MllpChannel("localhost", port, timeout_seconds=5, tls=client_trusting(certificate))
    for control_id in ("C1", "C2"):
        assert trusted.send(an_oru(control_id), control_id).outcome is Outcome.DELIVERED
    trusted.close()
    stranger = MllpChannel("localhost", port, timeout_seconds=5, tls=ssl.create_default_context())
    other_name = MllpChannel("127.0.0.1", port, timeout_seconds=5, tls=client_trusting(certificate))
    plain = MllpChannel("localhost", port, timeout_seconds=1)
    for channel in (stranger, other_name, plain):
        assert channel.send(an_oru("C3"), "C3").outcome is Outcome.RETRY
    assert len(inbox.messages) == 2
