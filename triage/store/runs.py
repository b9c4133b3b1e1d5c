"""Runs: asked for, superseded, looked up. They move only through `domain.run.TRANSITIONS`, the old state in the WHERE."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select, update

from triage.domain.dispatch import REPLACED
from triage.domain.run import TERMINAL, RunState, state_after
from triage.domain.suitability import NOT_WHOLE, NotSuitable
from triage.store import dispatches
from triage.store.schema import release, run, series, study
from triage.store.upsert import insert_or_get

SHADOW = "shadow"  # the queue of runs that are looked at by QA alone


def request(
    tx: Connection,
    *,
    study_id: int,
    series_id: int,
    release_id: int,
    input_digest: str,
    sop_instance_uids: Sequence[str],
    queue: str,
    policy_version: int,
    mode: str,
    now: datetime,
) -> tuple[int, bool]:
    """(run id, new) of the run of this release on exactly this input (P6)."""
    return insert_or_get(
        tx,
        run,
        {"series_id": series_id, "input_digest": input_digest, "release_id": release_id},
        {
            "study_id": study_id,
            "sop_instance_uids": list(sop_instance_uids),
            "state": RunState.REQUESTED.value,
            "queue": queue,
            "requested_at": now,
            "policy_version": policy_version,
            "mode": mode,
            "notes": [],
        },
    )


def settle_unsuitable(tx: Connection, run_id: int, reason: NotSuitable, now: datetime) -> None:
    """A run whose tags already say no: requested to not_analysed without a worker."""
    state = state_after(RunState.REQUESTED, "unsuitable")
    tx.execute(
        update(run)
        .where(run.c.id == run_id, run.c.state == RunState.REQUESTED.value)
        .values(
            state=state.value,
            reason_code=reason.code.value,
            reason_detail=reason.detail[:400],
            finished_at=now,
        )
    )


def supersede(tx: Connection, run_ids: Collection[int], now: datetime) -> None:
    """These runs count no more from now on; one that was superseded before keeps its time."""
    _end(tx, run.c.id.in_(list(run_ids)), run.c.state != RunState.SUPERSEDED.value, now=now)


def _end(tx: Connection, *which: ColumnElement[bool], now: datetime) -> None:
    ended = {"state": RunState.SUPERSEDED.value, "superseded_at": now, "lease_until": None}
    tx.execute(update(run).where(*which).values(**ended))


def supersede_older(tx: Connection, run_id: int, now: datetime) -> None:
    """Of the runs of this detector over these images only the newest settled one counts; end those before it.

    Films of one series are judged each alone, so only runs that share SOP Instances are kin. A shadow release
    supersedes nothing but itself (I19). A run that failed ends nothing: what was known stays known. Called after
    any of the kin settles, in whatever order they do.
    """
    this = (
        tx.execute(
            select(run, release.c.detector)
            .join(release, release.c.id == run.c.release_id)
            .where(run.c.id == run_id)
        )
        .mappings()
        .one()
    )
    same_line = (
        and_(run.c.release_id == this["release_id"], run.c.queue == SHADOW)
        if this["queue"] == SHADOW
        else and_(release.c.detector == this["detector"], run.c.queue != SHADOW)
    )
    rows = tx.execute(
        select(run.c.id, run.c.state, run.c.reason_code, run.c.sop_instance_uids)
        .join(release, release.c.id == run.c.release_id)
        .where(run.c.series_id == this["series_id"], same_line, run.c.state != RunState.SUPERSEDED.value)
        .order_by(run.c.id)
    ).all()
    mine = set(this["sop_instance_uids"])
    kin = [r for r in rows if mine & set(r.sop_instance_uids)]
    settled = [r.id for r in kin if _replaces(r.state, r.reason_code)]
    older = [r.id for r in kin if settled and r.id < settled[-1]]
    if older:
        supersede(tx, older, now)
        dispatches.outdate(tx, older, REPLACED)


def _replaces(state: str, reason_code: str) -> bool:
    """May a run in this state end the earlier ones? "Not whole yet" says nothing against what was found before."""
    if state == RunState.NOT_ANALYSED.value:
        return reason_code not in NOT_WHOLE
    return state == RunState.COMPLETED.value


def supersede_waiting(tx: Connection, series_id: int, input_digest: str, now: datetime) -> None:
    """Before a new request: a run still waiting on an older set of images need not start."""
    waits = run.c.state == RunState.REQUESTED.value
    _end(tx, run.c.series_id == series_id, run.c.input_digest != input_digest, waits, now=now)


def current(tx: Connection, study_id: int) -> list[dict[str, Any]]:
    """Runs that count (asked for as more than a shadow, not superseded), oldest first, with `detector`, `version` and
    what the release answers to the phantom (`constancy`).

    What a run was asked for decides, not what its release became: an activated shadow release counts from its next
    run on (I19, I20).
    """
    rows = tx.execute(
        select(run, release.c.detector, release.c.version, release.c.constancy)
        .join(release, release.c.id == run.c.release_id)
        .where(run.c.study_id == study_id, run.c.state != RunState.SUPERSEDED.value, run.c.queue != SHADOW)
        .order_by(run.c.id)
    ).mappings()
    return [dict(r) for r in rows]


def all_of_study(tx: Connection, study_id: int) -> list[dict[str, Any]]:
    rows = tx.execute(
        select(
            run,
            release.c.detector,
            release.c.version,
            release.c.state.label("release_state"),
            release.c.not_covered,
            series.c.series_instance_uid,
        )
        .join(release, release.c.id == run.c.release_id)
        .join(series, series.c.id == run.c.series_id)
        .where(run.c.study_id == study_id)
        .order_by(run.c.id)
    ).mappings()
    return [dict(r) for r in rows]


def get_run(tx: Connection, run_id: int) -> dict[str, Any]:
    row = (
        tx.execute(
            select(
                run,
                release.c.detector,
                release.c.version,
                release.c.state.label("release_state"),
                study.c.study_instance_uid,
                study.c.constancy,
            )
            .join(release, release.c.id == run.c.release_id)
            .join(study, study.c.id == run.c.study_id)
            .where(run.c.id == run_id)
        )
        .mappings()
        .one()
    )
    return dict(row)


def is_terminal(state: str) -> bool:
    return RunState(state) in TERMINAL
