"""Whom we speak DICOM with: from elsewhere than loopback only these may call, by AE title and address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select

from triage.store.schema import peer
from triage.store.upsert import upsert


def add(
    tx: Connection, name: str, ae_title: str, host: str, port: int, *, tls: bool, certificate_sha256: str = ""
) -> bool:
    """False when a peer of this name exists."""
    values = {
        "ae_title": ae_title,
        "host": host,
        "port": port,
        "tls": tls,
        "certificate_sha256": certificate_sha256,
    }
    return upsert(tx, peer, {"name": name}, values, replace=False)


def listing(tx: Connection) -> list[dict[str, Any]]:
    return [dict(r) for r in tx.execute(select(peer).order_by(peer.c.name)).mappings()]


def find(tx: Connection, name: str) -> dict[str, Any] | None:
    row = tx.execute(select(peer).where(peer.c.name == name)).mappings().first()
    return dict(row) if row else None


def hosts_of(tx: Connection, ae_title: str) -> list[str]:
    """Hosts from which this AE title may call."""
    return list(tx.execute(select(peer.c.host).where(peer.c.ae_title == ae_title)).scalars())


def titles_of_certificate(tx: Connection, sha256: str, names: Sequence[str]) -> set[str]:
    """AE titles that the holder of a verified certificate may call itself: of peers with this very certificate, and
    of TLS peers without one whose host is a name in it (standards 9.1)."""
    by_name = and_(peer.c.certificate_sha256 == "", peer.c.tls, peer.c.host.in_(list(names)))
    query = select(peer.c.ae_title).where(or_(peer.c.certificate_sha256 == sha256, by_name))
    return set(tx.execute(query).scalars())


def remove(tx: Connection, name: str) -> bool:
    return tx.execute(delete(peer).where(peer.c.name == name)).rowcount == 1
