"""Objects that we made: which completed Runs still lack theirs, and what was written where (one of a kind for a Run).

`path` is relative to the outputs folder. A row is `written` once its file is durable, or `failed` with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.sql import Select

from triage.domain.run import RunState
from triage.store.runs import SHADOW
from triage.store.schema import output, release, run, series, study
from triage.store.upsert import insert_or_get

_OPEN = (RunState.REQUESTED.value, RunState.RUNNING.value)


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A completed Run with what its objects need beside headers and findings.

    runs_before  earlier Runs of the study that are more than shadows: numbers our series
    """

    run_id: int
    study_id: int
    study_instance_uid: str
    accession_number: str
    series_instance_uid: str
    detector: str
    version: str
    release_digest: str
    not_covered: tuple[str, ...]
    input_digest: str
    sop_instance_uids: tuple[str, ...]
    mode: str
    requested_at: datetime
    finished_at: datetime
    runs_before: int = 0


def waiting(tx: Connection, after: int, limit: int) -> list[int]:
    """Completed Runs with an id above `after` that have no object yet, oldest first.

    Shadow Runs and constancy studies never get one: neither is for an archive.
    """
    has_one = select(output.c.id).where(output.c.run_id == run.c.id).exists()
    query = (
        select(run.c.id)
        .join(study, study.c.id == run.c.study_id)
        .where(
            run.c.id > after,
            run.c.state == RunState.COMPLETED.value,
            run.c.queue != SHADOW,
            study.c.constancy.is_(False),
            ~has_one,
        )
        .order_by(run.c.id)
        .limit(limit)
    )
    return [int(r.id) for r in tx.execute(query)]


def settled_up_to(tx: Connection) -> int:
    """The id up to which no Run is open any more: once nothing waits, the next look may begin there."""
    first_open = tx.execute(select(func.min(run.c.id)).where(run.c.state.in_(_OPEN))).scalar_one()
    if first_open is not None:
        return int(first_open) - 1
    return int(tx.execute(select(func.coalesce(func.max(run.c.id), 0))).scalar_one())


def completed(tx: Connection, run_id: int) -> Completed | None:
    """None when the Run was superseded or removed meanwhile."""
    query = _runs().where(run.c.id == run_id, run.c.state == RunState.COMPLETED.value)
    row = tx.execute(query).mappings().first()
    if row is None:
        return None
    before = select(func.count()).where(
        run.c.study_id == row["study_id"], run.c.id < run_id, run.c.queue != SHADOW
    )
    return _completed(dict(row), tx.execute(before).scalar_one())


def superseded_by(tx: Connection, newer: Completed, kind: str) -> Completed | None:
    """The newest superseded Run of the same detector over some of these images whose object of `kind` is written."""
    query = (
        _runs()
        .join(output, output.c.run_id == run.c.id)
        .where(
            series.c.series_instance_uid == newer.series_instance_uid,
            run.c.study_id == newer.study_id,
            run.c.id < newer.run_id,
            run.c.state == RunState.SUPERSEDED.value,
            release.c.detector == newer.detector,
            output.c.kind == kind,
            output.c.state == "written",
        )
        .order_by(run.c.id.desc())
    )
    images = set(newer.sop_instance_uids)
    for row in tx.execute(query).mappings():
        if images & set(row["sop_instance_uids"]):
            return _completed(dict(row))
    return None


def record(
    tx: Connection, run_id: int, kind: str, sop_instance_uid: str, now: datetime, *, path: str = "",
    state: str = "written", detail: str = "",
) -> int | None:  # fmt: skip
    """Keep that an object was made; its id, or None when it is known already."""
    values = {
        "sop_instance_uid": sop_instance_uid,
        "path": path,
        "state": state,
        "detail": detail[:400],
        "created_at": now,
    }
    output_id, inserted = insert_or_get(tx, output, {"run_id": run_id, "kind": kind}, values)
    return output_id if inserted else None


def written(tx: Connection, after: int, kinds: Sequence[str], since: datetime, limit: int) -> list[int]:
    """Ids above `after` of objects of these kinds that were written since, oldest first."""
    query = (
        select(output.c.id)
        .where(
            output.c.id > after,
            output.c.kind.in_(kinds),
            output.c.state == "written",
            output.c.created_at >= since,
        )
        .order_by(output.c.id)
        .limit(limit)
    )
    return list(tx.execute(query).scalars())


def of_runs(tx: Connection, run_ids: Sequence[int]) -> list[dict[str, Any]]:
    query = select(output).where(output.c.run_id.in_(list(run_ids))).order_by(output.c.id)
    return [dict(r) for r in tx.execute(query).mappings()]


def find(tx: Connection, sop_instance_uid: str) -> int | None:
    query = select(output.c.id).where(output.c.sop_instance_uid == sop_instance_uid)
    return tx.execute(query).scalar_one_or_none()


def is_held(tx: Connection, run_id: int) -> bool:
    """False when the Run was removed with its study."""
    return tx.execute(select(run.c.id).where(run.c.id == run_id)).first() is not None


def _runs() -> Select[Any]:
    return (
        select(
            run.c.id.label("run_id"),
            run.c.study_id,
            study.c.study_instance_uid,
            study.c.accession_number,
            series.c.series_instance_uid,
            release.c.detector,
            release.c.version,
            release.c.digest.label("release_digest"),
            release.c.not_covered,
            run.c.input_digest,
            run.c.sop_instance_uids,
            run.c.mode,
            run.c.requested_at,
            run.c.finished_at,
        )
        .join(study, study.c.id == run.c.study_id)
        .join(series, series.c.id == run.c.series_id)
        .join(release, release.c.id == run.c.release_id)
    )


def _completed(row: dict[str, Any], runs_before: int = 0) -> Completed:
    lists = {name: tuple(row[name]) for name in ("not_covered", "sop_instance_uids")}
    return Completed(**{**row, **lists}, runs_before=runs_before)
