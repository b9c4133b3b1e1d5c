"""Does a way out work? A marked test message through its real channel, step by step, with the answer (ux 11).

The message names no patient: HL7 by processing id T, FHIR by the tag HTEST, mail and webhook in words.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from triage.channels.protocol import Outcome
from triage.domain.alerting import AlertNotice, MessageKind
from triage.domain.errors import Refused, Unavailable
from triage.domain.finding import FINDING_CODES
from triage.domain.study import DRILL_PATIENT_ID
from triage.phantom.identity import uid_of
from triage.settings import RouteSettings, Settings
from triage.workflow.check_steps import Check, run_steps
from triage.workflow.drill import FINDING
from triage.workflow.routes import build, channel_of, client_context
from triage.workflow.site import NewId, Site, site_of

CONNECT_SECONDS = 5.0
ADVICE = {
    "settings": "Mend what is named here in the settings file, then: triage config check.",
    "name": "Is the host spelt right, and known to this machine's name server?",
    "connect": "Is the receiver running? Check address, port and firewall on the way.",
    "TLS": "Is its certificate signed by an authority of ca_file, and does its name fit?",
    "message": "Send the log of this moment to the developers.",
    "send": "Its own log says why it does not take the message; AE and 4xx are its word on the content.",
}


class RouteCheck(Check):
    """control_id: of the test message, by which the receiver's log finds it."""

    control_id: str = ""

    def as_json(self, route: str) -> dict[str, Any]:
        return {
            "route": route, "ok": self.ok, "control_id": self.control_id, "steps": [s.as_json() for s in self.steps],
            "next": ADVICE.get(self.failed, ""),
        }  # fmt: skip


def check_route(settings: Settings, name: str, ids: NewId, now: datetime) -> RouteCheck:
    """Settings, name, connection, TLS, message, sending with its acknowledgement. Nothing of it is stored.

    raises  Refused when no route is called so
    """
    route = next((r for r in settings.routes if r.name == name), None)
    if route is None:
        raise Refused(f"no route is called {name}")
    check = RouteCheck([])
    check.control_id = ids()
    run_steps(check, _steps(route, site_of(settings), check.control_id, now))
    return check


def _steps(
    route: RouteSettings, site: Site, control_id: str, now: datetime
) -> list[tuple[str, Callable[[], str]]]:
    host, port, secure = _address(route)
    payload: list[bytes] = []

    def built() -> str:
        payload.append(build(route, sample_notice(site, control_id, now), site.mode, site.name))
        return f"{len(payload[0])} bytes, control id {control_id}"

    return [
        ("settings", lambda: _usable(route)),
        ("name", lambda: _resolved(host)),
        ("connect", lambda: _connected(host, port)),
        *([("TLS", lambda: _handshake(route, host, port))] if secure else []),
        ("message", built),
        ("send", lambda: _sent(route, payload[0], control_id)),
    ]


def _address(route: RouteSettings) -> tuple[str, int, bool]:
    """(host, port, does it speak TLS from the first byte?)"""
    if route.url:
        parts = urlsplit(route.url)
        secure = parts.scheme == "https"
        return parts.hostname or "", parts.port or (443 if secure else 80), secure
    return route.host, route.port, route.tls == "tls"


def _usable(route: RouteSettings) -> str:
    channel_of(route).close()
    return "secret and certificates can be read"


def _resolved(host: str) -> str:
    return ", ".join(sorted({str(i[4][0]) for i in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}))


def _connected(host: str, port: int) -> str:
    socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    return f"port {port} is open"


def _handshake(route: RouteSettings, host: str, port: int) -> str:
    context = client_context(route)
    try:
        with (
            socket.create_connection((host, port), timeout=CONNECT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            return f"{secured.version()}, certificate ends {_end_of(secured)}"
    except ssl.SSLError as error:
        raise Unavailable(f"the TLS handshake failed: {error.reason or error}") from error


def _end_of(secured: ssl.SSLSocket) -> str:
    return str((secured.getpeercert() or {}).get("notAfter", "unknown"))


def _sent(route: RouteSettings, payload: bytes, control_id: str) -> str:
    with contextlib.closing(channel_of(route)) as channel:
        answer = channel.send(payload, control_id)
    if answer.outcome is not Outcome.DELIVERED:
        raise Unavailable(
            f"{'refused' if answer.outcome is Outcome.REFUSED else 'not taken'}: {answer.detail}"
        )
    return f"acknowledged: {answer.detail}"


def sample_notice(site: Site, control_id: str, now: datetime) -> AlertNotice:
    """What a drill says, of no alert: the receiver sees a message as it will come, and that it is none."""
    coded = FINDING_CODES[FINDING]
    return AlertNotice(
        control_id=control_id, kind=MessageKind.RESULT, created_at=now, site=site.name, patient_id=DRILL_PATIENT_ID,
        issuer_of_patient_id="", patient_name="DRILL^NO PATIENT", patient_birth_date="", patient_sex="",
        accession_number=DRILL_PATIENT_ID, study_instance_uid=uid_of("test", control_id), study_description="Test message",
        modality="DX", acquired_at=None, ordered_priority="ROUTINE", finding_name=FINDING, finding_display=coded.display,
        finding_code=coded.code, finding_scheme=coded.scheme, finding_radlex=coded.radlex, probability=1.0, band="high",
        detected_at=now, detector_release="drill", drill=True,
    )  # fmt: skip
