"""From a peer's row and the settings to how we call it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from triage.dicom.associate import Remote, client_context
from triage.domain.errors import Refused
from triage.settings import Settings
from triage.store import peers


def find_peer(tx: Connection, name: str) -> dict[str, Any]:
    """raises Refused when nobody is called so."""
    row = peers.find(tx, name)
    if row is None:
        raise Refused(f"no peer is called {name!r}: triage peer list")
    return row


def remote_of(settings: Settings, peer: dict[str, Any], timeout_seconds: float = 60.0) -> Remote:
    """raises Misconfigured when it wants TLS and our files for that cannot be used."""
    d = settings.dicom
    return Remote(
        host=peer["host"],
        port=peer["port"],
        called=peer["ae_title"],
        calling=d.ae_title,
        timeout_seconds=timeout_seconds,
        tls=client_context(d.tls_certificate, d.tls_key, d.tls_ca) if peer["tls"] else None,
    )
