"""Releases as the database knows them: which is active, which a shadow, what was seen of a site's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from triage.store.schema import release
from triage.store.upsert import insert_or_get


def register(
    tx: Connection, detector: str, version: str, digest: str, not_covered: Sequence[str], now: datetime,
    preferred_kernels: Sequence[str] = (),
) -> int:  # fmt: skip
    """The row of a release by its digest; the first of a detector becomes active."""
    active = tx.execute(
        select(release.c.id).where(release.c.detector == detector, release.c.state == "active")
    ).first()
    release_id, _ = insert_or_get(
        tx,
        release,
        {"digest": digest},
        {
            "detector": detector,
            "version": version,
            "state": "shadow" if active else "active",
            "not_covered": list(not_covered),
            "preferred_kernels": list(preferred_kernels),
            "registered_at": now,
        },
    )
    return release_id


def activate(tx: Connection, release_id: int) -> None:
    """Make this the active release of its detector; the one before is retired."""
    detector = tx.execute(select(release.c.detector).where(release.c.id == release_id)).scalar_one()
    tx.execute(
        update(release)
        .where(release.c.detector == detector, release.c.state == "active", release.c.id != release_id)
        .values(state="retired")
    )
    tx.execute(update(release).where(release.c.id == release_id).values(state="active"))


def note_acceptance(
    tx: Connection, release_id: int, *, calibrated: bool, constancy: dict[str, Any] | None = None
) -> None:
    """What was seen of a site's own release.

    constancy  its answer to the phantom, for one that need not flag it; None: the phantom must be flagged
    """
    values: dict[str, Any] = {"calibrated": calibrated}
    if constancy is not None:
        values["constancy"] = constancy
    tx.execute(update(release).where(release.c.id == release_id).values(values))


def in_states(tx: Connection, *states: str) -> list[dict[str, Any]]:
    query = select(release).order_by(release.c.detector, release.c.id)
    if states:
        query = query.where(release.c.state.in_(states))
    return [dict(r) for r in tx.execute(query).mappings()]


def preferred_kernels(tx: Connection, detector: str) -> frozenset[str]:
    """Of the active release: the kernels that it reads rather than others. No release of ours names any; a site's may."""
    query = select(release.c.preferred_kernels).where(
        release.c.detector == detector, release.c.state == "active"
    )
    return frozenset(tx.execute(query).scalar_one_or_none() or ())


def set_state(tx: Connection, release_id: int, state: str) -> None:
    """shadow or retired; making one active is `activate`."""
    assert state in ("shadow", "retired")
    tx.execute(update(release).where(release.c.id == release_id).values(state=state))
