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


def remove(tx: Connection, name: str) -> bool:
    return tx.execute(delete(peer).where(peer.c.name == name)).rowcount == 1
