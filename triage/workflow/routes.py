"""What a route is: the channel that it sends by, and its messages as bytes; TLS of both directions."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

from triage.channels.fhir import FhirChannel
from triage.channels.mail import Letterhead, MailChannel, build_mail, build_operator_mail
from triage.channels.mllp import MllpChannel
from triage.channels.protocol import Channel
from triage.channels.webhook import WebhookChannel, build_webhook
from triage.domain.alerting import AlertNotice
from triage.domain.errors import Misconfigured
from triage.domain.finding import Mode
from triage.hl7.fhir.notice import build_bundle
from triage.hl7.results import build_oru
from triage.settings import Hl7Settings, RouteSettings


def channel_of(route: RouteSettings) -> Channel:
    """The way out that a route names. raises Misconfigured when its secret or certificate cannot be used"""
    seconds, tls = route.timeout_seconds, client_context(route)
    if route.kind == "mllp":
        return MllpChannel(route.host, route.port, timeout_seconds=seconds, tls=tls if route.tls else None)
    if route.kind == "mail":
        return MailChannel(
            route.host, route.port, sender=route.sender, security=route.tls, tls=tls, user=route.user,
            password=_secret(route).decode(), timeout_seconds=seconds,
        )  # fmt: skip
    if route.kind == "fhir":
        return FhirChannel(
            route.url, token=_secret(route).decode(), timeout_seconds=seconds, allow_private=route.allow_private, tls=tls
        )  # fmt: skip
    return WebhookChannel(
        route.url, _secret(route), timeout_seconds=seconds, allow_private=route.allow_private, tls=tls
    )


def client_context(route: RouteSettings) -> ssl.SSLContext:
    """Verifies the peer, and shows it who we are where a certificate is named."""
    try:
        context = ssl.create_default_context(cafile=route.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if route.cert_file is not None:
            context.load_cert_chain(route.cert_file, route.key_file)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"route {route.name}: ca_file, cert_file or key_file cannot be used: {error.strerror or type(error).__name__}"
        ) from error
    return context


def server_context(settings: Hl7Settings) -> ssl.SSLContext | None:
    """TLS for the listener, None when no certificate is named. raises Misconfigured when it cannot be used"""
    if settings.cert_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file)
        if settings.client_ca_file is not None:
            context.load_verify_locations(settings.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"hl7: certificate, key or client_ca_file cannot be used: {error.strerror or error}"
        ) from error
    return context


def build(route: RouteSettings, notice: AlertNotice, mode: Mode, site: str) -> bytes:
    """The message as this route wants it; the same notice always gives the same bytes. site: its name, MSH-4 of HL7"""
    if route.kind == "mllp":
        return build_oru(
            notice,
            mode=mode,
            processing_id="T" if notice.drill else route.processing_id,
            sending=(route.sending_application, site),
            receiving=(route.receiving_application, route.receiving_facility),
        )
    if route.kind == "mail":
        return build_mail(notice, letterhead(route, notice.recipient), route.patient_data)
    if route.kind == "fhir":
        return build_bundle(notice, mode=mode, result=route.result)
    return build_webhook(notice, mode)


def build_operator_notice(route: RouteSettings, row: dict[str, Any]) -> bytes:
    """What an operator hears over this route."""
    if route.kind == "mail":
        return build_operator_mail(
            row["text"], row["kind"], row["control_id"], row["created_at"], letterhead(route)
        )
    body = {
        "kind": row["kind"],
        "text": row["text"],
        "at": row["created_at"].isoformat(),
        "id": row["control_id"],
    }
    return json.dumps(body, sort_keys=True).encode()


def letterhead(route: RouteSettings, on_call: str = "") -> Letterhead:
    return Letterhead(
        route.sender, tuple(dict.fromkeys(r for r in (*route.recipients, on_call) if r)), route.link
    )


def _secret(route: RouteSettings) -> bytes:
    if route.secret_file is None:
        return b""
    try:
        return Path(route.secret_file).read_bytes().strip()
    except OSError as error:
        raise Misconfigured(f"route {route.name}: secret_file cannot be read: {error.strerror}") from error
