"""One run in the hands of one worker: lease, renew, finish. The old state is in the WHERE: a lost lease is a no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, or_, select, update

from triage.domain.run import MAX_ATTEMPTS, RunState, state_after
from triage.domain.suitability import NotSuitable
from triage.store.run_queue import is_open
from triage.store.schema import release, run


@dataclass(frozen=True)
class Leased:
    """A run that this worker holds until `until`."""

    run_id: int
    token: str
    detector: str
    release_digest: str
    study_id: int
    series_id: int
    sop_instance_uids: tuple[str, ...]
    attempts: int


def lease(tx: Connection, run_id: int, token: str, now: datetime, length: timedelta) -> Leased | None:
    """Take a requested run, or one whose lease ended; None when there is nothing to take.

    The attempt is counted before the work, so that a study that kills its worker stops at MAX_ATTEMPTS.
    """
    free = or_(
        run.c.state == RunState.REQUESTED.value,
        and_(run.c.state == RunState.RUNNING.value, run.c.lease_until < now),
    )
    row = (
        tx.execute(
            update(run)
            .where(run.c.id == run_id, free, run.c.attempts < MAX_ATTEMPTS)
            .values(
                state=RunState.RUNNING.value,
                attempts=run.c.attempts + 1,
                lease_token=token,
                lease_until=now + length,
                started_at=now,
            )
            .returning(run)
        )
        .mappings()
        .first()
    )
    if row is None:
        return None
    rel = tx.execute(select(release).where(release.c.id == row["release_id"])).mappings().one()
    return Leased(
        run_id, token, rel["detector"], rel["digest"], row["study_id"], row["series_id"],
        tuple(row["sop_instance_uids"]), row["attempts"],
    )  # fmt: skip


def renew(tx: Connection, run_id: int, token: str, until: datetime) -> bool:
    """False when the lease is no longer ours."""
    return (
        tx.execute(
            update(run)
            .where(run.c.id == run_id, run.c.lease_token == token, run.c.state == RunState.RUNNING.value)
            .values(lease_until=until)
        ).rowcount
        == 1
    )


def finish(
    tx: Connection, run_id: int, token: str, event: str, now: datetime, reason: NotSuitable | None = None,
    failure: str = "", runtime: str = "", code_version: str = "", notes: Sequence[str] = (),
    lung_map: dict[str, Any] | None = None,
) -> bool:  # fmt: skip
    """Commit the end of a run by the holder of its current lease (I7); False when the lease is another's."""
    state = state_after(RunState.RUNNING, event)
    return (
        tx.execute(
            update(run)
            .where(run.c.id == run_id, run.c.lease_token == token, run.c.state == RunState.RUNNING.value)
            .values(
                state=state.value,
                reason_code=reason.code.value if reason else failure[:40],
                reason_detail=reason.detail[:400] if reason else "",
                finished_at=now,
                lease_until=None,
                runtime=runtime[:60],
                code_version=code_version,
                notes=list(notes),
                lung_map=lung_map,
            )
        ).rowcount
        == 1
    )


def give_up_crashed(tx: Connection, now: datetime) -> list[tuple[int, int]]:
    """Runs that used up their attempts: failed(crashed), visible (F10). Returns (study id, run id)."""
    spent = and_(is_open(), run.c.attempts >= MAX_ATTEMPTS, or_(
        run.c.state == RunState.REQUESTED.value,
        and_(run.c.state == RunState.RUNNING.value, run.c.lease_until < now),
    ))  # fmt: skip
    rows = tx.execute(
        update(run)
        .where(spent)
        .values(state=RunState.FAILED.value, reason_code="crashed", finished_at=now, lease_until=None)
        .returning(run.c.study_id, run.c.id)
    )
    return [(int(r.study_id), int(r.id)) for r in rows]
