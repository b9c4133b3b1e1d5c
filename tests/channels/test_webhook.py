"""The signed webhook with a real HTTP server: least data, one address, every answer judged."""

from __future__ import annotations

import http.server
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.certificates import client_trusting, server_with
from tests.hl7.notices import a_notice, hostile_notices
from triage.channels.http import is_allowed
from triage.channels.protocol import Outcome
from triage.channels.webhook import WebhookChannel, build_webhook, sign, verify_signature
from triage.domain.alerting import AlertNotice, MessageKind
from triage.domain.errors import Misconfigured
from triage.domain.finding import Mode

SECRET = b"a secret of enough bytes"
BODY = build_webhook(a_notice(), Mode.TRIAGE_ONLY)


class Receiver(http.server.ThreadingHTTPServer):
    """Answers POST with the next of `statuses` (the last for ever) and keeps what came."""

    daemon_threads = True

    def __init__(self, *statuses: int, location: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses = list(statuses)
        self.location = location
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body))
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        pass


Serve = Callable[..., Receiver]


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[Receiver] = []

    def _serve(*statuses: int, tls: ssl.SSLContext | None = None, location: str = "") -> Receiver:
        receiver = Receiver(*statuses, location=location)
        if tls is not None:
            receiver.socket = tls.wrap_socket(receiver.socket, server_side=True)
        threading.Thread(target=receiver.serve_forever, args=(0.02,), daemon=True).start()
        running.append(receiver)
        return receiver

    yield _serve
    for receiver in running:
        receiver.shutdown()
        receiver.server_close()


def a_channel(port: int, path: str = "/alerts?site=1", **options: object) -> WebhookChannel:
    return WebhookChannel(f"http://127.0.0.1:{port}{path}", SECRET, allow_private=True, **options)  # type: ignore[arg-type]


def test_the_body_is_the_least_that_identifies_the_study() -> None:
    """T18: a snapshot; whoever adds a field here thinks of the patient."""
    assert json.loads(BODY) == {
        "delivery": "01JGK3V9Q8ZT4M2N7R5X",
        "kind": "result",
        "created_at": "2026-01-02T10:15:30.123000+01:00",
        "site": "MAIN",
        "accession_number": "A1",
        "study_instance_uid": "1.2.276.0.7230010.3.1.2.1",
        "modality": "DX",
        "finding": {
            "name": "pneumothorax",
            "display": "pneumothorax",
            "code": "36118008",
            "scheme": "SCT",
            "band": "high",
        },
        "text": "AI flag: pneumothorax, suspected by software, not yet read",
        "detected_at": "2026-01-02T10:15:25+01:00",
        "detector_release": "chest_xray 1.3.0",
        "mode": "triage_only",
        "rung": 0,
    }


@given(hostile_notices())
def test_the_body_is_canonical_and_never_says_the_place_in_triage_only(notice: AlertNotice) -> None:
    body = build_webhook(notice, Mode.TRIAGE_ONLY)
    parsed = json.loads(body)
    assert body == build_webhook(notice, Mode.TRIAGE_ONLY)
    assert body == json.dumps(parsed, sort_keys=True, separators=(",", ":")).encode()
    assert not {"side", "zone"} & parsed["finding"].keys()
    assert parsed["accession_number"] == notice.accession_number


def test_overlay_mode_says_the_side_and_a_withdrawal_that_it_is_one() -> None:
    overlay = json.loads(build_webhook(a_notice(finding_side="left"), Mode.OVERLAY))
    assert overlay["finding"]["side"] == "left"
    withdrawal = json.loads(build_webhook(a_notice(kind=MessageKind.WITHDRAWAL), Mode.TRIAGE_ONLY))
    assert (withdrawal["kind"], "withdrawn" in withdrawal["text"]) == ("withdrawal", True)


def test_a_receiver_can_verify_what_it_got(serve: Serve) -> None:
    receiver = serve(204)
    assert (
        a_channel(receiver.port, clock=lambda: 1_700_000_000.9).send(BODY, "C1").outcome is Outcome.DELIVERED
    )
    path, headers, body = receiver.requests[0]
    assert (path, body) == ("/alerts?site=1", BODY)
    assert (headers["Triage-Delivery"], headers["Idempotency-Key"]) == ("C1", "C1")
    assert headers["Host"] == f"127.0.0.1:{receiver.port}"
    stamp, signature = headers["Triage-Timestamp"], headers["Triage-Signature"]
    assert stamp == "1700000000"
    assert verify_signature(SECRET, stamp, signature, body, now=1_700_000_010)
    assert not verify_signature(SECRET, stamp, signature, body + b" ", now=1_700_000_010)
    assert not verify_signature(b"another secret of bytes", stamp, signature, body, now=1_700_000_010)
    assert not verify_signature(SECRET, "1700000001", signature, body, now=1_700_000_010)


@pytest.mark.parametrize(
    ("age", "fresh"), [(0, True), (300, True), (301, False), (-300, True), (-301, False)]
)
def test_a_recorded_request_is_worthless_after_five_minutes(age: int, fresh: bool) -> None:
    signature = sign(SECRET, 1_700_000_000, BODY)
    assert verify_signature(SECRET, "1700000000", signature, BODY, now=1_700_000_000 + age) is fresh


@given(st.text(max_size=20), st.text(max_size=80))
def test_hostile_headers_are_no_signature(stamp: str, signature: str) -> None:
    assert not verify_signature(SECRET, stamp, signature, BODY, now=1_700_000_000)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((s, Outcome.DELIVERED) for s in (200, 201, 202, 204)),
        *((s, Outcome.RETRY) for s in (408, 425, 429, 500, 502, 503, 504, 599)),
        *((s, Outcome.REFUSED) for s in (400, 401, 403, 404, 409, 410, 422)),
        *((s, Outcome.REFUSED) for s in (301, 302, 304, 307, 308)),
    ],
)
def test_every_status_has_one_meaning(serve: Serve, status: int, outcome: Outcome) -> None:
    answer = a_channel(serve(status).port).send(BODY, "C1")
    assert answer.outcome is outcome
    assert str(status) in answer.detail


def test_a_redirect_is_not_followed(serve: Serve) -> None:
    elsewhere = serve(200)
    redirecting = serve(307, location=f"http://127.0.0.1:{elsewhere.port}/")
    assert a_channel(redirecting.port).send(BODY, "C1").outcome is Outcome.REFUSED
    assert not elsewhere.requests


def test_a_resend_has_the_same_key_and_the_same_body(serve: Serve) -> None:
    receiver = serve(503, 200)
    channel = a_channel(receiver.port)
    assert [channel.send(BODY, "C1").outcome for _ in range(2)] == [Outcome.RETRY, Outcome.DELIVERED]
    (_, first, body), (_, second, same) = receiver.requests
    assert (first["Idempotency-Key"], body) == (second["Idempotency-Key"], same)


def raw_server(talk: Callable[[socket.socket], None]) -> int:
    """A port whose first visitor is given to `talk` after its request came."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with server, server.accept()[0] as connection:
            connection.recv(65536)
            try:
                talk(connection)
            except OSError:
                return

    threading.Thread(target=run, daemon=True).start()
    return int(server.getsockname()[1])


def drip(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 100:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def only_continue(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize(
    "talk",
    [
        lambda c: c.close(),
        lambda c: c.recv(1),
        lambda c: c.sendall(b"HTTP/1.1 2"),
        lambda c: c.sendall(b"HTTP/1.1 abc OK\r\n\r\n"),
        lambda c: c.sendall(b"\x00\xff" * 1000),
        lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000),
        lambda c: c.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000),
        lambda c: c.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        lambda c: c.sendall(b"MSH|^~\\&|\rMSA|AA|C1\r"),
        drip,
        only_continue,
    ],
)
def test_a_peer_that_is_no_proper_server_is_retried_in_time(talk: Callable[[socket.socket], None]) -> None:
    began = time.monotonic()
    assert a_channel(raw_server(talk), timeout_seconds=0.4).send(BODY, "C1").outcome is Outcome.RETRY
    assert time.monotonic() - began < 2


def test_an_endless_answer_is_not_read(serve: Serve) -> None:
    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"ffff\r\n" + b"x" * 65535 + b"\r\n")

    began = time.monotonic()
    assert a_channel(raw_server(endless), timeout_seconds=5).send(BODY, "C1").outcome is Outcome.DELIVERED
    assert time.monotonic() - began < 2


def test_only_a_peer_that_proves_its_name_gets_the_alert(serve: Serve) -> None:
    certificate = server_with("localhost")
    receiver = serve(200, tls=certificate.context)

    def send(host: str, tls: ssl.SSLContext | None) -> Outcome:
        url = f"https://{host}:{receiver.port}/"
        return (
            WebhookChannel(url, SECRET, allow_private=True, timeout_seconds=5, tls=tls)
            .send(BODY, "C1")
            .outcome
        )

    assert send("localhost", client_trusting(certificate)) is Outcome.DELIVERED
    assert send("localhost", None) is Outcome.RETRY
    assert send("127.0.0.1", client_trusting(certificate)) is Outcome.RETRY
    assert len(receiver.requests) == 1


def test_a_tls_handshake_that_never_ends_is_cut() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        began = time.monotonic()
        answer = WebhookChannel(url, SECRET, allow_private=True, timeout_seconds=0.3).send(BODY, "C1")
        assert (answer.outcome, "0.3 s" in answer.detail) == (Outcome.RETRY, True)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("address", "public_only", "private_too"),
    [
        ("93.184.216.34", True, True),
        ("2606:2800:220:1::1", True, True),
        ("10.1.2.3", False, True),
        ("192.168.0.5", False, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("fd12::1", False, True),
        ("::ffff:10.1.2.3", False, True),
        ("169.254.169.254", False, False),
        ("169.254.0.1", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("2002:a9fe:a9fe::1", False, False),
        ("fd00:ec2::254", False, False),
        ("100.100.100.200", False, False),
        ("fe80::1", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("224.0.0.1", False, False),
        ("255.255.255.255", False, False),
    ],
)
def test_where_a_webhook_may_go(address: str, public_only: bool, private_too: bool) -> None:
    """T17."""
    parsed = ipaddress.ip_address(address)
    assert is_allowed(parsed, allow_private=False) is public_only
    assert is_allowed(parsed, allow_private=True) is private_too


def test_a_private_address_is_refused_unless_configured(serve: Serve) -> None:
    receiver = serve(200)
    url = f"https://localhost:{receiver.port}/"
    assert WebhookChannel(url, SECRET, timeout_seconds=2).send(BODY, "C1").outcome is Outcome.REFUSED
    assert not receiver.requests


def resolver(*answers: str) -> Callable[..., list[object]]:
    left = list(answers)

    def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return getaddrinfo


def test_a_name_that_points_to_metadata_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolver("169.254.169.254"))
    channel = WebhookChannel("http://hook.example/", SECRET, allow_private=True)
    assert channel.send(BODY, "C1").outcome is Outcome.REFUSED


def test_a_rebinding_name_is_asked_once_and_then_pinned(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F29, T17: the checked address is the one that is called."""
    receiver = serve(200)
    channel = WebhookChannel(f"http://hook.example:{receiver.port}/", SECRET, allow_private=True)
    real = socket.getaddrinfo
    lying = resolver("127.0.0.1", "127.0.0.2")

    def getaddrinfo(host: str, port: int, *rest: object, **options: object) -> object:
        asked = lying if host == "hook.example" else real
        return asked(host, port, *rest, **options)  # type: ignore[operator]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert [channel.send(BODY, f"C{n}").outcome for n in range(3)] == [Outcome.DELIVERED] * 3
    assert channel._peer._pinned == ipaddress.ip_address("127.0.0.1")


def test_a_name_that_cannot_be_resolved_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "later")

    monkeypatch.setattr(socket, "getaddrinfo", gone)
    assert WebhookChannel("https://hook.example/", SECRET).send(BODY, "C1").outcome is Outcome.RETRY


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hook.example",
        "ftp://hook.example/",
        "file:///etc/passwd",
        "http://hook.example/",
        "https://",
        "https://user:word@hook.example/",
        "https://hook.example/#part",
        "https://hook.example/a b",
        "https://hook.example/\r\nX: y",
        "https://hook.example:99999/",
        "https://hook.example:0/",
        "https://a..b/",
        "https://münchen.example/",
        "https://[::1/",
    ],
)
def test_a_url_that_is_none_is_found_at_start(url: str) -> None:
    with pytest.raises(Misconfigured):
        WebhookChannel(url, SECRET)


def test_a_short_secret_is_found_at_start() -> None:
    with pytest.raises(Misconfigured):
        WebhookChannel("https://hook.example/", b"short")
