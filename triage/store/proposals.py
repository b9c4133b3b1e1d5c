"""Proposals that wait for a second person."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from triage.store.schema import proposal, release


def add(tx: Connection, release_id: int, by: str, reason: str, now: datetime) -> int:
    statement = insert(proposal).values(release_id=release_id, proposed_by=by, reason=reason, proposed_at=now)
    return int(tx.execute(statement.returning(proposal.c.id)).scalar_one())


def find(tx: Connection, proposal_id: int) -> dict[str, Any] | None:
    row = tx.execute(select(proposal).where(proposal.c.id == proposal_id)).mappings().first()
    return dict(row) if row else None


def listing(tx: Connection, limit: int = 50) -> list[dict[str, Any]]:
    """Newest first, with the detector and version that each is about."""
    query = (
        select(proposal, release.c.detector, release.c.version)
        .join(release, release.c.id == proposal.c.release_id)
        .order_by(proposal.c.id.desc())
        .limit(limit)
    )
    return [dict(r) for r in tx.execute(query).mappings()]


def end(tx: Connection, proposal_id: int, state: str, by: str, now: datetime) -> bool:
    """False when it was ended before."""
    return (
        tx.execute(
            update(proposal)
            .where(proposal.c.id == proposal_id, proposal.c.state == "open")
            .values(state=state, ended_by=by, ended_at=now)
        ).rowcount
        == 1
    )
