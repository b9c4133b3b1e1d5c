"""Policies as versioned data: never edited, one active."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from triage.domain.priority import Policy
from triage.store.schema import policy


def active(tx: Connection) -> Policy:
    """The policy in force."""
    row = tx.execute(select(policy.c.version, policy.c.content).where(policy.c.active)).one()
    return Policy.from_json(row.version, row.content)


def ensure_first(tx: Connection, now: datetime) -> None:
    if tx.execute(select(func.count()).select_from(policy)).scalar_one() == 0:
        adopt(tx, Policy(), "triage", "as installed", now)


def adopt(tx: Connection, new: Policy, by: str, reason: str, now: datetime) -> int:
    """Store `new` under the next version and make it the active one; returns the version."""
    version = int(tx.execute(select(func.coalesce(func.max(policy.c.version), 0))).scalar_one()) + 1
    tx.execute(update(policy).where(policy.c.active).values(active=False))
    tx.execute(
        insert(policy).values(
            version=version, content=new.as_json(), made_by=by, reason=reason, made_at=now, active=True
        )
    )
    return version


def history(tx: Connection) -> list[dict[str, Any]]:
    """Every version, newest first."""
    return [dict(r) for r in tx.execute(select(policy).order_by(policy.c.version.desc())).mappings()]


def get(tx: Connection, version: int) -> Policy | None:
    content = tx.execute(select(policy.c.content).where(policy.c.version == version)).scalar_one_or_none()
    return None if content is None else Policy.from_json(version, content)
