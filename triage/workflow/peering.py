"""Peers: added and removed with their audit, by `triage peer` and the page alike."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from triage.domain.errors import Conflict, Refused
from triage.store import audit, peers


def add(
    tx: Connection,
    name: str,
    ae_title: str,
    host: str,
    port: int,
    *,
    tls: bool,
    certificate_sha256: str = "",
    by: str,
    now: datetime,
) -> None:
    """Let a peer call us, and know where it is. With a certificate, our TLS port knows it by that alone.

    raises  Refused for what is no name, AE title, address or port; Conflict when the name is taken
    """
    title = check_ae_title(ae_title)
    if not name or len(name) > 40 or not name.isprintable():
        raise Refused("a peer's name has 1 to 40 printable characters")
    if not host or len(host) > 255 or not host.isprintable() or " " in host:
        raise Refused(f"{host!r} is no address")
    if not 1 <= port <= 65535:
        raise Refused("a port lies between 1 and 65535")
    if not peers.add(tx, name, title, host, port, tls=tls, certificate_sha256=certificate_sha256):
        raise Conflict(f"a peer called {name} exists; remove it first: triage peer remove {name}")
    detail = {"ae_title": title, "host": host, "port": port, "tls": tls}
    if certificate_sha256:
        detail["certificate_sha256"] = certificate_sha256
    audit.append(tx, now, by, "peer.added", "peer", name, detail)


def remove(tx: Connection, name: str, *, by: str, now: datetime) -> None:
    """Its calls are refused from now on."""
    if not peers.remove(tx, name):
        raise Refused(f"no peer is called {name}: triage peer list")
    audit.append(tx, now, by, "peer.removed", "peer", name)


def check_ae_title(ae_title: str) -> str:
    """An AE title as DICOM allows it: 1 to 16 characters of ASCII, no backslash or control; source PS3.5 6.2."""
    title = ae_title.strip()
    if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise Refused(f"{ae_title!r} is no AE title: 1 to 16 characters of ASCII without backslash")
    return title
