"""Whom we speak DICOM with: from elsewhere than loopback only these may call, by AE title and address."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, select

from triage.store.schema import peer
from triage.store.upsert import upsert


def add(tx: Connection, name: str, ae_title: str, host: str, port: int, *, tls: bool) -> bool:
    """False when a peer of this name exists."""
    values = {"ae_title": ae_title, "host": host, "port": port, "tls": tls}
    return upsert(tx, peer, {"name": name}, values, replace=False)


def listing(tx: Connection) -> list[dict[str, Any]]:
    return [dict(r) for r in tx.execute(select(peer).order_by(peer.c.name)).mappings()]


def find(tx: Connection, name: str) -> dict[str, Any] | None:
    row = tx.execute(select(peer).where(peer.c.name == name)).mappings().first()
    return dict(row) if row else None


def hosts_of(tx: Connection, ae_title: str) -> list[str]:
    """Hosts from which this AE title may call."""
    return list(tx.execute(select(peer.c.host).where(peer.c.ae_title == ae_title)).scalars())


def remove(tx: Connection, name: str) -> bool:
    return tx.execute(delete(peer).where(peer.c.name == name)).rowcount == 1
