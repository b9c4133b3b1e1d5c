"""Alerts out by HTTPS POST, signed, with the least that identifies the study.

The peer is reached as configured and nowhere else: its name is resolved once and checked, the connection goes to
that very address, redirects are not followed, proxies of the environment are not used.
source: standards 0.3, 9.3; threats T17, T18

A receiver calls `verify_signature` with the raw body, refuses what is older than five minutes, and holds it to
once by `delivery` of the body (the same for every resend; the header repeats it for routers).
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from triage.channels.protocol import Answer, Outcome
from triage.domain.alerting import AlertNotice, MessageKind
from triage.domain.errors import Misconfigured
from triage.domain.finding import Mode

SIGNATURE_TOLERANCE_SECONDS = 300
_RETRY_STATUSES = frozenset({408, 425, 429})
_METADATA = frozenset(  # where clouds hand out credentials to whoever asks
    ipaddress.ip_address(a) for a in ("169.254.169.254", "100.100.100.200", "fd00:ec2::254")
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


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
    body = {
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

    url            https; http only with `allow_private`. Raises Misconfigured for anything else.
    secret         at least 16 bytes, shared with the receiver
    allow_private  the peer may have a loopback or private address; link-local and metadata never
    tls            a client context that verifies (for a hospital's own authority), else the system's
    clock          seconds since 1970, for the timestamp that is signed
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
        parts = _parts(url, allow_private=allow_private)
        self._host, self._netloc = parts.hostname or "", parts.netloc
        secure = parts.scheme == "https"
        self._port = parts.port or (443 if secure else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if len(secret) < 16:
            raise Misconfigured("the secret of a webhook has at least 16 bytes")
        self._tls = (tls or ssl.create_default_context()) if secure else None
        self._secret = secret
        self._timeout_seconds = timeout_seconds
        self._allow_private = allow_private
        self._clock = clock
        self._pinned: _Address | None = None

    def send(self, payload: bytes, control_id: str) -> Answer:
        """POST once; the status line is the answer, the body of the response is never read."""
        deadline = time.monotonic() + self._timeout_seconds
        try:
            address = self._resolved()
            if address is None:
                return Answer(Outcome.REFUSED, "the address of the peer is not allowed (allow_private)")
            return self._post(address, payload, control_id, deadline)
        except ssl.SSLCertVerificationError as error:
            return Answer(Outcome.RETRY, f"certificate not trusted: {error.verify_message}")
        except TimeoutError:
            return Answer(Outcome.RETRY, f"no answer within {self._timeout_seconds:g} s")
        except (OSError, http.client.HTTPException) as error:
            return Answer(Outcome.RETRY, f"no answer: {type(error).__name__}")

    def close(self) -> None:
        """Nothing is kept between two messages."""

    def _resolved(self) -> _Address | None:
        """The address of the peer, looked up once; None when it is not one we may call."""
        if self._pinned is None:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
            if not all(is_allowed(address, allow_private=self._allow_private) for address in addresses):
                return None
            self._pinned = addresses[0]
        return self._pinned

    def _post(self, address: _Address, payload: bytes, control_id: str, deadline: float) -> Answer:
        connection = socket.create_connection((str(address), self._port), _left(deadline))
        if self._tls is not None:
            connection = self._tls.wrap_socket(
                connection, server_hostname=self._host, do_handshake_on_connect=False
            )
        # A socket's own time limit starts anew with every byte; this one does not.
        alarm = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, (connection,))
        alarm.daemon = True
        alarm.start()
        try:
            connection.settimeout(self._timeout_seconds)
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            request = http.client.HTTPConnection(self._host, self._port)
            request.sock = connection
            request.request("POST", self._target, body=payload, headers=self._headers(payload, control_id))
            return _judge(request.getresponse().status)
        except (OSError, http.client.HTTPException):
            if time.monotonic() >= deadline:  # cut by the alarm: say so instead of how it looked
                raise TimeoutError from None
            raise
        finally:
            alarm.cancel()
            connection.close()

    def _headers(self, payload: bytes, control_id: str) -> dict[str, str]:
        timestamp = int(self._clock())
        return {
            "Host": self._netloc,
            "Content-Type": "application/json",
            "User-Agent": "triage",
            "Connection": "close",
            "Triage-Delivery": control_id,
            "Idempotency-Key": control_id,
            "Triage-Timestamp": str(timestamp),
            "Triage-Signature": sign(self._secret, timestamp, payload),
        }


def is_allowed(address: _Address, *, allow_private: bool) -> bool:
    """May a webhook go there? An IPv4 address wrapped in IPv6 is judged as itself."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_allowed(inner, allow_private=allow_private)
    elif address.is_reserved:  # 240.0.0.0/4 and broadcast
        return False
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    return address.is_global or (allow_private and (address.is_private or address.is_loopback))


def _judge(status: int) -> Answer:
    if 200 <= status < 300:
        return Answer(Outcome.DELIVERED, f"HTTP {status}")
    if 300 <= status < 400:
        return Answer(Outcome.REFUSED, f"HTTP {status}: redirects are not followed")
    if 400 <= status < 500 and status not in _RETRY_STATUSES:
        return Answer(Outcome.REFUSED, f"HTTP {status}")
    return Answer(Outcome.RETRY, f"HTTP {status}")


def _parts(url: str, *, allow_private: bool) -> SplitResult:
    if any(ord(character) <= 0x20 or ord(character) >= 0x7F for character in url):
        raise Misconfigured("the address of a webhook has a character that does not belong into a URL")
    try:
        parts = urlsplit(url)
        complete = bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError as error:
        raise Misconfigured("the address of a webhook cannot be read as a URL") from error
    if parts.scheme not in ("https", "http") or not complete or "@" in parts.netloc or parts.fragment:
        raise Misconfigured("the address of a webhook is https://host[:port]/path, without user or fragment")
    if parts.scheme == "http" and not allow_private:
        raise Misconfigured("a webhook goes by https; http is for a private network (allow_private)")
    return parts


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _cut(connection: socket.socket) -> None:
    try:
        socket.socket.shutdown(
            connection, socket.SHUT_RDWR
        )  # not the TLS kind: its state belongs to the sender
    except OSError:
        return  # closed meanwhile
