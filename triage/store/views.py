"""Saved views of the list: one's own, and those that a lead shares."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, or_, select, update

from triage.store.schema import view
from triage.store.upsert import upsert


def save(
    tx: Connection,
    owner: str,
    name: str,
    content: dict[str, Any],
    now: datetime,
    *,
    shared: bool,
    default_for: str = "",
) -> None:
    """Under this name of this person; an older one of the same name is replaced. One default for a role."""
    if default_for:
        tx.execute(update(view).where(view.c.default_for == default_for).values(default_for=""))
    values = {"content": content, "shared": shared, "default_for": default_for, "saved_at": now}
    upsert(tx, view, {"owner": owner, "name": name}, values, replace=True)


def seen_by(tx: Connection, person: str) -> list[dict[str, Any]]:
    query = select(view).where(or_(view.c.owner == person, view.c.shared)).order_by(view.c.name, view.c.id)
    return [dict(r) for r in tx.execute(query).mappings()]


def default_of(tx: Connection, role: str) -> dict[str, Any] | None:
    row = (
        tx.execute(select(view).where(view.c.default_for == role, view.c.shared)).mappings().first()
        if role
        else None
    )
    return dict(row) if row else None


def remove(tx: Connection, owner: str, name: str) -> bool:
    return tx.execute(delete(view).where(view.c.owner == owner, view.c.name == name)).rowcount == 1
