"""Alerts out by HTTPS POST, signed, with the least that identifies the study (`channels.http` says where it may go).

source: standards 0.3, 9.3; threats T17, T18

A receiver calls `verify_signature` with the raw body, refuses what is older than five minutes, and holds it to
once by `delivery` of the body (the same for every resend; the header repeats it for routers).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable

from triage.channels.http import HttpPeer
from triage.channels.protocol import Answer
from triage.domain.alerting import AlertNotice, MessageKind
from triage.domain.errors import Misconfigured
from triage.domain.finding import Mode

SIGNATURE_TOLERANCE_SECONDS = 300


def build_webhook(notice: AlertNotice, mode: Mode) -> bytes:
    """Canonical JSON (sorted keys, no spaces, ASCII): the same notice gives the same bytes.

    The study is named by accession number and UID; no name, birth date or patient id. A side of the body only
    in overlay mode.
    """
    finding = {
        "name": notice.finding_name,
        "display": notice.finding_display,
        "code": notice.finding_code,
        "scheme": notice.finding_scheme,
        "band": notice.band,
    }
    if mode is Mode.OVERLAY and notice.finding_side:
        finding |= {"side": notice.finding_side, "zone": notice.finding_zone}
    body: dict[str, object] = {
        "delivery": notice.control_id,
        "kind": notice.kind.value,
        "created_at": notice.created_at.isoformat(),
        "site": notice.site,
        "accession_number": notice.accession_number,
        "study_instance_uid": notice.study_instance_uid,
        "modality": notice.modality,
        "finding": finding,
        "text": _text(notice),
        "detected_at": notice.detected_at.isoformat(),
        "detector_release": notice.detector_release,
        "mode": mode.value,
        "rung": notice.rung,
    }
    if notice.link:
        body["link"] = notice.link
    if notice.drill:
        body |= {"drill": True, "text": f"DRILL, no patient: {body['text']}"}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _text(notice: AlertNotice) -> str:
    name = notice.finding_display
    if notice.of_another_patient:
        return f"AI flag withdrawn: {name}, the study is of another patient"
    if notice.kind is MessageKind.WITHDRAWAL:
        return f"AI flag withdrawn: {name}, no longer suspected by software, not yet read"
    if notice.kind is MessageKind.CORRECTION:
        return f"AI flag corrected: {name}, patient or order is named differently now, not yet read"
    return f"AI flag: {name}, suspected by software, not yet read"


def sign(secret: bytes, timestamp: int, body: bytes) -> str:
    """`v1=` and HMAC-SHA256 over `timestamp.body`, hex."""
    return "v1=" + hmac.new(secret, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def verify_signature(secret: bytes, timestamp: str, signature: str, body: bytes, *, now: float) -> bool:
    """For receivers: is this ours, and young? A caller must still drop a `delivery` that it knows.

    timestamp, signature  the headers Triage-Timestamp and Triage-Signature; body as it came, before parsing
    now                   seconds since 1970; five minutes are allowed either way
    """
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    if abs(now - int(timestamp)) > SIGNATURE_TOLERANCE_SECONDS:
        return False
    return hmac.compare_digest(sign(secret, int(timestamp), body).encode(), signature.encode())


class WebhookChannel:
    """A Channel to one URL.

    url     https; http only with `allow_private`. Raises Misconfigured for anything else.
    secret  at least 16 bytes, shared with the receiver
    clock   seconds since 1970, for the timestamp that is signed
    """

    def __init__(
        self,
        url: str,
        secret: bytes,
        *,
        timeout_seconds: float = 30.0,
        allow_private: bool = False,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if len(secret) < 16:
            raise Misconfigured("the secret of a webhook has at least 16 bytes")
        self._peer = HttpPeer(url, timeout_seconds=timeout_seconds, allow_private=allow_private, tls=tls)
        self._secret = secret
        self._clock = clock

    def send(self, payload: bytes, control_id: str) -> Answer:
        """POST once."""
        return self._peer.post(payload, self._headers(payload, control_id))

    def close(self) -> None:
        """Nothing is kept between two messages."""

    def _headers(self, payload: bytes, control_id: str) -> dict[str, str]:
        timestamp = int(self._clock())
        return {
            "Content-Type": "application/json",
            "Triage-Delivery": control_id,
            "Idempotency-Key": control_id,
            "Triage-Timestamp": str(timestamp),
            "Triage-Signature": sign(self._secret, timestamp, payload),
        }
