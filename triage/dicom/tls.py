"""DICOM over TLS by the BCP 195 profile (PS3.15 B.12; RFC 9325), and who a certificate says is calling.

TLS 1.2 with ECDHE and AEAD alone, or 1.3; no compression, no renegotiation. Files are read again when they change.
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from triage.domain.errors import Misconfigured

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files. ca: who signed the peers' certificates (or these themselves); None asks peers for none."""

    certificate: Path
    key: Path
    ca: Path | None


@dataclass(frozen=True)
class PeerCertificate:
    """A certificate that the handshake has verified. names: its DNS and URI names (RFC 5280 4.2.1.6)."""

    sha256: str
    names: tuple[str, ...]


class ServerContexts:
    """Gives the context for the next connection."""

    def __init__(self, files: TlsFiles) -> None:
        """raises Misconfigured when the files cannot be used."""
        self._files = files
        self._lock = threading.Lock()
        self._stamp = self._stamps()
        self._context = server_context(files)

    def __call__(self) -> ssl.SSLContext:
        """The newest context that works: a certificate that is being replaced must not close the door."""
        with self._lock:
            try:
                stamp = self._stamps()
                if stamp != self._stamp:
                    self._context, self._stamp = server_context(self._files), stamp
            except (Misconfigured, OSError):
                pass  # `doctor` and /health look at the files themselves
            return self._context

    def _stamps(self) -> tuple[int, ...]:
        files = (self._files.certificate, self._files.key, self._files.ca)
        try:
            return tuple(f.stat().st_mtime_ns for f in files if f is not None)
        except OSError as e:
            raise Misconfigured(f"TLS: {e.filename} cannot be read: {e.strerror}") from e


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """raises Misconfigured when a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= (
        ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    )
    try:
        context.load_cert_chain(files.certificate, files.key)
        if files.ca is not None:
            context.load_verify_locations(files.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as e:
        raise Misconfigured(
            f"TLS: certificate {files.certificate}, key {files.key} or CA {files.ca} cannot be used: "
            f"{e.strerror or type(e).__name__}"
        ) from e
    return context


def peer_certificate(connection: object) -> PeerCertificate | None:
    """What the peer of this connection has shown; None on a plain one, or when none was asked for."""
    if not isinstance(connection, ssl.SSLSocket):
        return None
    der = connection.getpeercert(binary_form=True)
    if der is None:
        return None
    told = connection.getpeercert() or {}
    alternative = told.get("subjectAltName", ())
    names = tuple(str(n[1]) for n in alternative if n[0] in ("DNS", "URI"))
    return PeerCertificate(hashlib.sha256(der).hexdigest(), names)


def fingerprint(pem: bytes) -> str:
    """SHA-256 of the first certificate in a PEM file, hex. raises Misconfigured when there is none."""
    return hashlib.sha256(_first_der(pem)).hexdigest()


def not_after(pem: bytes) -> datetime:
    """When the first certificate in a PEM file ends (RFC 5280 4.1.2.5). raises Misconfigured for what is none."""
    try:
        return _end_of(_first_der(pem))
    except (IndexError, ValueError) as e:
        raise Misconfigured("this is no X.509 certificate") from e


def _first_der(pem: bytes) -> bytes:
    match = _PEM.search(pem)
    if match is None:
        raise Misconfigured("this file holds no PEM certificate")
    try:
        return base64.b64decode(match[1], validate=False)
    except ValueError as e:
        raise Misconfigured("this file holds no PEM certificate") from e


def _end_of(der: bytes) -> datetime:
    """Walks Certificate -> TBSCertificate to Validity: version, serial, signature, issuer, validity."""
    certificate = _children(der)[0][1]
    fields = _children(_children(certificate)[0][1])
    if fields[0][0] == 0xA0:  # [0] version, absent in version 1
        fields = fields[1:]
    kind, text = _children(fields[3][1])[1]
    layout = "%y%m%d%H%M%SZ" if kind == 0x17 else "%Y%m%d%H%M%SZ"  # UTCTime, GeneralizedTime
    return datetime.strptime(text.decode("ascii"), layout).replace(tzinfo=UTC)


def _children(der: bytes) -> list[tuple[int, bytes]]:
    """(tag, value) of the DER elements that stand side by side in `der`."""
    found = []
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(der[at : at + count], "big")
            at += count
        found.append((tag, der[at : at + length]))
        at += length
    return found
