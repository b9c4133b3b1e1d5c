"""Who is on call: by site, place (first, second) and time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from triage.store.schema import on_call


def who(tx: Connection, site: str, place: int, now: datetime) -> dict[str, Any] | None:
    """Who is first (1) or second (2) on call at this moment; None when nobody is named."""
    row = (
        tx.execute(
            select(on_call)
            .where(
                on_call.c.site == site,
                on_call.c.place == place,
                on_call.c.starts_at <= now,
                on_call.c.ends_at > now,
            )
            .order_by(on_call.c.starts_at.desc(), on_call.c.id.desc())
            .limit(1)
        )
        .mappings()
        .first()
    )
    return dict(row) if row else None


def overlapping(tx: Connection, site: str, place: int, starts_at: datetime, ends_at: datetime) -> bool:
    query = select(on_call.c.id).where(
        on_call.c.site == site,
        on_call.c.place == place,
        on_call.c.starts_at < ends_at,
        on_call.c.ends_at > starts_at,
    )
    return tx.execute(query.limit(1)).first() is not None


def add(tx: Connection, **values: Any) -> int:
    return int(tx.execute(insert(on_call).values(**values).returning(on_call.c.id)).scalar_one())


def remove(tx: Connection, duty_id: int) -> bool:
    return tx.execute(delete(on_call).where(on_call.c.id == duty_id)).rowcount == 1


def listing(tx: Connection, since: datetime, limit: int = 500) -> list[dict[str, Any]]:
    """Duties that end after `since`, by site and time."""
    query = select(on_call).where(on_call.c.ends_at > since)
    order = (on_call.c.site, on_call.c.starts_at, on_call.c.place)
    return [dict(r) for r in tx.execute(query.order_by(*order).limit(limit)).mappings()]
