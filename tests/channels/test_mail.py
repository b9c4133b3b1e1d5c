"""Mail out, against a real SMTP server: what it takes is delivered, what it will never take is parked, the rest waits."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from hypothesis import given, settings

from tests.certificates import ServerCertificate, client_trusting, server_with
from tests.hl7.notices import a_notice, hostile_notices
from triage.channels.mail import Letterhead, MailChannel, build_mail, build_operator_mail
from triage.channels.protocol import Answer, Outcome
from triage.domain.alerting import AlertNotice, MessageKind

HEAD = Letterhead("triage@hospital.example", ("desk@hospital.example",), "https://triage.hospital.example/m")
PATIENT = ("DOE", "JANE", "12345", "19600101", "P123", "F456", "REFER")


class Mailbox:
    """Keeps what comes in; says what a test tells it to say."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.says = "250 taken"
        self.says_to: dict[str, str] = {}

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.says_to:
            return self.says_to[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.says.startswith("250"):
            self.messages.append(message_from_bytes(envelope.content))  # type: ignore[arg-type]
            self.recipients.append(list(envelope.rcpt_tos))
        return self.says


Serve = Callable[..., tuple[Mailbox, int]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    started: list[Controller] = []

    def start(**options: Any) -> tuple[Mailbox, int]:
        box = Mailbox()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        controller = Controller(box, hostname="127.0.0.1", port=port, **options)
        controller.start()
        started.append(controller)
        return box, port

    yield start
    for controller in started:
        controller.stop()


def channel(port: int, security: str = "", **options: Any) -> MailChannel:
    return MailChannel(
        options.pop("host", "localhost"), port, sender=HEAD.sender, security=security,  # type: ignore[arg-type]
        timeout_seconds=options.pop("timeout_seconds", 5.0), **options,
    )  # fmt: skip


def send(made: MailChannel, notice: AlertNotice | None = None, head: Letterhead = HEAD) -> Answer:
    notice = notice or a_notice()
    return made.send(build_mail(notice, head, "none"), notice.control_id)


@pytest.fixture(scope="module")
def certificate() -> ServerCertificate:
    return server_with("localhost")


def test_what_the_server_takes_is_delivered_once_for_each_resend(serve: Serve) -> None:
    box, port = serve()
    made = channel(port)

    assert send(made) == Answer(Outcome.DELIVERED, "SMTP 250")
    assert send(made).outcome is Outcome.DELIVERED

    first, second = box.messages
    assert first["Message-ID"] == second["Message-ID"] == f"<{a_notice().control_id}@triage.invalid>"
    assert "pneumothorax" in first["Subject"] and box.recipients[0] == ["desk@hospital.example"]


def test_a_mail_names_no_patient_unless_the_site_allows_initials() -> None:
    plain = build_mail(a_notice(), HEAD, "none").decode()
    assert not any(word in plain for word in PATIENT) and HEAD.link in plain
    told = build_mail(a_notice(), HEAD, "initials").decode()
    assert "J.D." in told and "ED" in told and not any(word in told for word in PATIENT)


@settings(max_examples=25)
@given(hostile_notices())
def test_nothing_in_a_notice_can_add_a_header_or_a_recipient(notice: AlertNotice) -> None:
    mail = message_from_bytes(build_mail(notice, HEAD, "initials"))
    assert mail.get_all("To") == ["desk@hospital.example"] and mail.get_all("Bcc") is None
    assert len(mail.get_all("Subject", [])) == 1 and not mail.is_multipart()


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("451 try again", Outcome.RETRY),
        ("452 full", Outcome.RETRY),
        ("554 no", Outcome.REFUSED),
        ("550 no", Outcome.REFUSED),
    ],
)
def test_later_and_never_are_told_apart(serve: Serve, said: str, outcome: Outcome) -> None:
    box, port = serve()
    box.says = said
    assert send(channel(port)) == Answer(outcome, f"SMTP {said[:3]}")


def test_one_unknown_recipient_stops_no_other(serve: Serve) -> None:
    box, port = serve()
    box.says_to["gone@hospital.example"] = "550 unknown"
    head = Letterhead(HEAD.sender, (*HEAD.recipients, "gone@hospital.example"))

    assert send(channel(port), head=head) == Answer(Outcome.DELIVERED, "SMTP 250, 1 of 2 recipients refused")
    assert (
        send(channel(port), head=Letterhead(HEAD.sender, ("gone@hospital.example",))).outcome
        is Outcome.REFUSED
    )
    box.says_to["gone@hospital.example"] = "450 greylisted"
    assert (
        send(channel(port), head=Letterhead(HEAD.sender, ("gone@hospital.example",))).outcome is Outcome.RETRY
    )


def test_nobody_to_send_it_to_is_said() -> None:
    answer = send(channel(1), head=Letterhead(HEAD.sender, ()))
    assert answer.outcome is Outcome.REFUSED and "on call" in answer.detail


def test_starttls_and_tls_prove_the_server_and_never_fall_back(
    serve: Serve, certificate: ServerCertificate
) -> None:
    trusting = client_trusting(certificate)
    box, port = serve(tls_context=certificate.context, require_starttls=True)
    assert send(channel(port, "starttls", tls=trusting)).outcome is Outcome.DELIVERED
    assert send(channel(port)) == Answer(Outcome.REFUSED, "SMTP 530")
    assert "certificate" in send(channel(port, "starttls")).detail  # of an authority that we do not know
    wrong = send(channel(port, "starttls", tls=trusting, host="127.0.0.1"))
    assert wrong.outcome is Outcome.RETRY and "certificate" in wrong.detail  # of another name

    implicit, port = serve(ssl_context=certificate.context)
    assert send(channel(port, "tls", tls=trusting)).outcome is Outcome.DELIVERED
    plain, port = serve()
    assert "STARTTLS" in send(channel(port, "starttls", tls=trusting)).detail
    assert (len(box.messages), len(implicit.messages), plain.messages) == (1, 1, [])


def test_it_signs_in_where_the_server_asks(serve: Serve, certificate: ServerCertificate) -> None:
    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        right = (data.login, data.password) == (b"triage", b"correct horse")
        return AuthResult(success=right, handled=right)

    _, port = serve(tls_context=certificate.context, authenticator=check, auth_required=True)
    tls = client_trusting(certificate)
    assert (
        send(channel(port, "starttls", tls=tls, user="triage", password="correct horse")).outcome
        is Outcome.DELIVERED
    )
    wrong = send(channel(port, "starttls", tls=tls, user="triage", password="guess"))
    assert wrong.outcome is Outcome.RETRY and "sign-in" in wrong.detail


@pytest.mark.parametrize("greeting", [b"", b"220 ", b"554 go away\r\n", b"\x00\xff" * 50])
def test_a_server_that_is_none_is_retried_in_time(greeting: bytes) -> None:
    """Silent, slow, rude, or something else altogether."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(greeting)
                time.sleep(0.6)

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        began = time.monotonic()
        answer = send(channel(server.getsockname()[1], timeout_seconds=0.3))
        assert time.monotonic() - began < 3
        assert answer.outcome is (Outcome.REFUSED if greeting.startswith(b"554") else Outcome.RETRY)
        thread.join()


def test_nobody_listens_is_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert send(channel(port)).outcome is Outcome.RETRY


@pytest.mark.parametrize("kind", list(MessageKind))
def test_a_drill_says_so_first(kind: MessageKind) -> None:
    mail = message_from_bytes(build_mail(a_notice(drill=True, kind=kind), HEAD, "none"))
    assert mail["Subject"].startswith("DRILL, no patient") and "DRILL" in str(mail.get_payload())


def test_an_operator_hears_what_failed() -> None:
    at = a_notice().created_at
    mail = message_from_bytes(
        build_operator_mail("Triage is not working", "constancy.missed", "OP1", at, HEAD)
    )
    assert "constancy.missed" in mail["Subject"] and "not working" in str(mail.get_payload())
