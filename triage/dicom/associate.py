"""How we open an association as the one who calls: over TCP or TLS, with deadlines, saying what failed."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from triage.dicom import services
from triage.dicom.reactor import close_gap
from triage.domain.errors import Misconfigured, Unavailable

_config.STORE_SEND_CHUNKED_DATASET = True  # files leave as they are, piece by piece
_config.LOG_HANDLER_LEVEL = "none"
logging.getLogger("pynetdicom").addHandler(logging.NullHandler())
logging.getLogger("pynetdicom").propagate = False

PDU_BYTES = 131_072
CONNECT_SECONDS = 10.0
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A peer as we call it. tls: None speaks plainly."""

    host: str
    port: int
    called: str = "ANY-SCP"
    calling: str = "TRIAGE"
    timeout_seconds: float = 60.0
    tls: ssl.SSLContext | None = None

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"


def client_context(certificate: Path | None, key: Path | None, ca: Path | None) -> ssl.SSLContext:
    """TLS by the BCP 195 profile (PS3.15 B.12) as a client; peers are known by a site's CA or pinned certificates.

    raises  Misconfigured when a file cannot be used
    """
    if ca is None:
        raise Misconfigured("TLS: dicom.tls_ca names no file, so no peer's certificate could be checked")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # DICOM peers are known by address and AE title; certificates of devices seldom carry a host's name. What is
    # trusted is the site's own CA or the peers' certificates themselves, never the public ones.
    context.check_hostname = False
    try:
        context.load_verify_locations(ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"TLS: certificate {certificate}, key {key} or CA {ca} cannot be used: {error.strerror}"
        ) from error
    return context


def associate(
    remote: Remote,
    contexts: Sequence[PresentationContext],
    handlers: Sequence[Any] = (),
    roles: Sequence[Any] = (),
) -> Association:
    """An established association. raises Unavailable, saying why, when there is none."""
    ae = AE(ae_title=remote.calling)
    ae.maximum_pdu_size = PDU_BYTES
    ae.connection_timeout = min(CONNECT_SECONDS, remote.timeout_seconds)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = remote.timeout_seconds
    ae.implementation_class_uid = services.IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = services.IMPLEMENTATION_VERSION_NAME
    association = ae.associate(
        remote.host,
        remote.port,
        contexts=list(contexts),
        ae_title=remote.called,
        ext_neg=list(roles),
        tls_args=(remote.tls, remote.host) if remote.tls is not None else None,
        evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay), *handlers],
    )
    if association.is_established:
        close_gap(association)
        return association
    if association.is_rejected:
        answer = association.acceptor.primitive
        reason = f" ({answer.reason_str})" if answer is not None else ""
        raise Unavailable(
            f"{remote.where} rejected the association of {remote.calling} to {remote.called}{reason}"
        )
    if association.rejected_contexts:
        raise Unavailable(
            f"{remote.called} at {remote.where} offers none of the services that were asked for"
        )
    kind = " with TLS" if remote.tls is not None else ""
    raise Unavailable(f"no association with {remote.called} at {remote.where}{kind}: does it listen there?")


def _no_delay(event: evt.Event) -> None:
    """Nagle would hold the last piece of each message back until the peer's delayed acknowledgement."""
    wrapper = event.assoc.dul.socket
    if wrapper is not None and wrapper.socket is not None:
        wrapper.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
