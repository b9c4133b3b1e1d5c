"""Alerts out by mail: a call to look, with no patient data beyond what the site allows.

The server's reply to the whole message is the acknowledgement: 2xx it has taken responsibility (RFC 5321 6.1), 4xx
later, 5xx never. A route with TLS never falls back to plain.
source: ux 12; standards 0.3; RFC 5321, 3207, 8314
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses
from typing import Any, Literal

from triage.channels.deadline import cut_at
from triage.channels.lookup import Lookup
from triage.channels.protocol import Answer, Outcome
from triage.domain.alerting import AlertNotice, MessageKind

PatientData = Literal["none", "initials"]
Security = Literal["", "starttls", "tls"]


@dataclass(frozen=True)
class Letterhead:
    """What every mail of a route has: who sends, to whom, and where the phone page is ("" names none)."""

    sender: str
    recipients: tuple[str, ...]
    link: str = ""


def build_mail(notice: AlertNotice, head: Letterhead, patient_data: PatientData) -> bytes:
    """One message, RFC 5322, ASCII; the same notice gives the same bytes."""
    another = "; the study is of another patient" if notice.of_another_patient else ""
    drill = "DRILL, no patient: " if notice.drill else ""
    said = {
        MessageKind.RESULT: f"AI flag: {notice.finding_display} suspected",
        MessageKind.WITHDRAWAL: f"AI flag withdrawn: {notice.finding_display}{another}",
        MessageKind.CORRECTION: f"AI flag corrected: {notice.finding_display}; the patient or order is named anew",
    }[notice.kind]
    lines = [
        f"{drill}{said}. Not yet read by a radiologist.",
        "",
        f"Site: {notice.site}",
        f"Found: {notice.detected_at:%Y-%m-%d %H:%M %Z}",
        f"Step of the ladder: {notice.rung}",
    ]
    if patient_data == "initials":
        lines += [f"Patient: {_initials(notice.patient_name)}", f"Place: {notice.patient_location}"]
    link = notice.link or head.link
    lines += ["", "Acknowledge it in triage:", link] if link else ["", "Acknowledge it in triage."]
    if notice.link:
        lines += ["The link works once, for 15 minutes, and asks you to sign in."]
    lines += ["Research software. Not for clinical use."]
    urgent = notice.kind is MessageKind.RESULT
    return _letter(head, f"{drill}[triage] {said}", lines, notice.control_id, notice.created_at, urgent)


def build_operator_mail(text: str, kind: str, control_id: str, at: Any, head: Letterhead) -> bytes:
    """What an operator must hear of triage itself."""
    return _letter(head, f"[triage] {kind}", [text], control_id, at, True)


def _letter(
    head: Letterhead, subject: str, lines: Sequence[str], control_id: str, at: Any, urgent: bool
) -> bytes:
    mail = EmailMessage(policy=policy.SMTP.clone(cte_type="7bit"))
    mail["From"] = head.sender
    mail["To"] = ", ".join(head.recipients)
    mail["Subject"] = _line(subject)[:200]
    mail["Date"] = format_datetime(at)
    mail["Message-ID"] = f"<{control_id}@triage.invalid>"  # the same for a resend: a mailbox holds it to once
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    if urgent:
        mail["Importance"] = "high"
    mail.set_content("\n".join(_line(line) for line in lines) + "\n", charset="utf-8")
    return mail.as_bytes()


def _line(value: str) -> str:
    """One line of encodable text."""
    return " ".join(re.sub("[\x00-\x1f\x7f-\x9f]", " ", re.sub("[\ud800-\udfff]", "\ufffd", value)).split())


def _initials(patient_name: str) -> str:
    family, _, given = patient_name.split("=")[0].partition("^")
    return "".join(f"{part.strip()[:1]}." for part in (given, family) if part.strip()) or "?"


class MailChannel:
    """A Channel to one mail server.

    timeout_seconds  for one whole attempt
    tls              a client context that verifies; needed with `security`
    """

    def __init__(
        self, host: str, port: int, *, sender: str, security: Security, tls: ssl.SSLContext | None = None,
        user: str = "", password: str = "", timeout_seconds: float = 30.0,
    ) -> None:  # fmt: skip
        self._host, self._port, self._sender = host, port, sender
        self._security, self._tls = security, tls or ssl.create_default_context()
        self._user, self._password = user, password
        self._timeout_seconds = timeout_seconds
        self._lookup = Lookup(host, port)

    def send(self, payload: bytes, control_id: str) -> Answer:
        """Hand one message over; `control_id` is in it as its Message-ID."""
        del control_id
        recipients = [a for _, a in getaddresses(message_from_bytes(payload).get_all("To", [])) if a]
        if not recipients:
            return Answer(
                Outcome.REFUSED, "nobody to send it to: the route names no recipient, and nobody is on call"
            )
        deadline = time.monotonic() + self._timeout_seconds
        try:
            return self._hand_over(payload, recipients, deadline)
        except smtplib.SMTPNotSupportedError:
            return Answer(
                Outcome.RETRY, "the mail server does not offer what the route asks for (STARTTLS, sign-in)"
            )
        except smtplib.SMTPAuthenticationError as error:
            return Answer(Outcome.RETRY, f"the mail server refuses our sign-in ({error.smtp_code})")
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            return Answer(_outcome(min(codes)), f"every recipient refused ({', '.join(map(str, codes))})")
        except smtplib.SMTPResponseException as error:
            return Answer(_outcome(error.smtp_code), f"SMTP {error.smtp_code}")
        except ssl.SSLCertVerificationError as error:
            return Answer(Outcome.RETRY, f"certificate not trusted: {error.verify_message}")
        except TimeoutError:
            return Answer(Outcome.RETRY, f"no answer within {self._timeout_seconds:g} s")
        except (OSError, smtplib.SMTPException, UnicodeError) as error:
            late = time.monotonic() >= deadline
            said = (
                f"no answer within {self._timeout_seconds:g} s"
                if late
                else f"no answer: {type(error).__name__}"
            )
            return Answer(Outcome.RETRY, said)

    def close(self) -> None:
        """Nothing is kept between two messages."""

    def _hand_over(self, payload: bytes, recipients: list[str], deadline: float) -> Answer:
        connection = self._dialled(deadline)
        with cut_at(deadline, connection):
            server = _Smtp(self._host, connection, timeout=self._timeout_seconds)
            try:
                server.begin()
                if self._security == "starttls":
                    server.starttls(context=self._tls)
                if self._user:
                    server.login(self._user, self._password)
                refused = server.sendmail(self._sender, recipients, payload)
            finally:
                server.close()
        detail = f", {len(refused)} of {len(recipients)} recipients refused" if refused else ""
        return Answer(Outcome.DELIVERED, f"SMTP 250{detail}")

    def _dialled(self, deadline: float) -> socket.socket:
        trouble: OSError = TimeoutError("no address")
        for family, address in self._lookup.addresses(deadline):
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                connection.connect(address)
                if self._security == "tls":
                    return self._tls.wrap_socket(connection, server_hostname=self._host)
                return connection
            except OSError as error:
                trouble = error
                connection.close()
        raise trouble


class _Smtp(smtplib.SMTP):
    """A session over a connection that is there already: the address was pinned, and the deadline can cut it."""

    def __init__(self, host: str, connection: socket.socket, *, timeout: float) -> None:
        super().__init__(timeout=timeout)
        self._host = host  # whose certificate STARTTLS expects
        self.sock = connection

    def begin(self) -> None:
        code, reply = self.getreply()
        if code != 220:
            raise smtplib.SMTPConnectError(code, reply)
        self.ehlo_or_helo_if_needed()


def _outcome(code: int) -> Outcome:
    return Outcome.REFUSED if 500 <= code < 600 else Outcome.RETRY
