"""From a peer's row and the settings to how we call it, by DICOM or over the web."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from triage.dicom.associate import Remote, client_context
from triage.dicom.stow_send import Service
from triage.domain.errors import Misconfigured, Refused
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


def web_service(
    settings: Settings, whose: str, url: str, token_file: Path | None, timeout_seconds: float
) -> Service:
    """whose: names the setting in an error. raises Misconfigured when the token or our TLS files cannot be read"""
    d = settings.dicom
    token = ""
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Misconfigured(f"{whose}: {token_file}: {error.strerror}") from error
    own = url.startswith("https:") and d.tls_ca is not None
    return Service(
        url=url,
        token=token,
        timeout_seconds=timeout_seconds,
        tls=client_context(d.tls_certificate, d.tls_key, d.tls_ca) if own else None,
    )
