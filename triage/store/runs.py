"""Releases, runs and findings. A run moves only through `domain.run.TRANSITIONS`, and the old state is in the WHERE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from triage.domain.finding import Band, Finding, Growth, Location, Measurements, SliceMask
from triage.domain.run import MAX_ATTEMPTS, TERMINAL, RunState, state_after
from triage.domain.suitability import NOT_WHOLE, NotSuitable
from triage.store.schema import finding, release, run, series, study
from triage.store.upsert import insert_or_get

QUEUES = ("stat", "routine", "shadow")
SHADOW = "shadow"  # the queue of runs that are looked at by QA alone


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


def register_release(
    tx: Connection, detector: str, version: str, digest: str, not_covered: Sequence[str], now: datetime
) -> int:
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
            "registered_at": now,
        },
    )
    return release_id


def activate_release(tx: Connection, release_id: int) -> None:
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


def releases(tx: Connection, *states: str) -> list[dict[str, Any]]:
    query = select(release).order_by(release.c.detector, release.c.id)
    if states:
        query = query.where(release.c.state.in_(states))
    return [dict(r) for r in tx.execute(query).mappings()]


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


def give_up_crashed(tx: Connection, now: datetime) -> list[tuple[int, int]]:
    """Runs that used up their attempts: failed(crashed), visible (F10). Returns (study id, run id)."""
    spent = and_(run.c.attempts >= MAX_ATTEMPTS, or_(
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


def to_wake(tx: Connection, now: datetime, patience: timedelta, limit: int = 50) -> list[tuple[int, str]]:
    """(run id, queue) of runs that nobody holds and nobody was woken for lately; marks them as woken."""
    waiting = or_(
        run.c.state == RunState.REQUESTED.value,
        and_(run.c.state == RunState.RUNNING.value, run.c.lease_until < now),
    )
    stale = or_(run.c.woken_at.is_(None), run.c.woken_at < now - patience, run.c.woken_at > now)
    found: list[tuple[int, str]] = []
    for queue in QUEUES:  # of each queue the oldest few alone: calls for all that wait would fill the broker
        oldest = (
            select(run.c.id)
            .where(waiting, run.c.queue == queue)
            .order_by(run.c.requested_at, run.c.id)
            .limit(limit)
        )
        rows = tx.execute(
            select(run.c.id).where(run.c.id.in_(oldest), stale).order_by(run.c.requested_at, run.c.id)
        )
        found += [(int(r.id), queue) for r in rows]
    if found:
        tx.execute(update(run).where(run.c.id.in_([i for i, _ in found])).values(woken_at=now))
    return found


def hurry(tx: Connection, study_id: int) -> int:
    """The order turned out to be urgent: runs that wait go before the others, and are called anew by the sweeper."""
    query = update(run).where(
        run.c.study_id == study_id, run.c.state == RunState.REQUESTED.value, run.c.queue == "routine"
    )
    return tx.execute(query.values(queue="stat", woken_at=None)).rowcount


def supersede_older(tx: Connection, run_id: int) -> None:
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
        tx.execute(
            update(run).where(run.c.id.in_(older)).values(state=RunState.SUPERSEDED.value, lease_until=None)
        )


def _replaces(state: str, reason_code: str) -> bool:
    """May a run in this state end the earlier ones? "Not whole yet" says nothing against what was found before."""
    if state == RunState.NOT_ANALYSED.value:
        return reason_code not in NOT_WHOLE
    return state == RunState.COMPLETED.value


def supersede_waiting(tx: Connection, series_id: int, input_digest: str) -> None:
    """Before a new request: a run still waiting on an older set of images need not start."""
    tx.execute(
        update(run)
        .where(
            run.c.series_id == series_id,
            run.c.input_digest != input_digest,
            run.c.state == RunState.REQUESTED.value,
        )
        .values(state=RunState.SUPERSEDED.value)
    )


def add_findings(tx: Connection, run_id: int, study_id: int, findings: Sequence[Finding]) -> None:
    places: dict[str, int] = {}
    rows = []
    for f in findings:
        place = places[f.name] = places.get(f.name, -1) + 1
        rows.append(
            {
                "run_id": run_id,
                "study_id": study_id,
                "name": f.name,
                "place": place,
                "probability_raw": f.probability_raw,
                "probability": f.probability,
                "band": f.band.value,
                "threshold": f.threshold,
                "actionable": f.actionable,
                "location": asdict(f.location) if f.location else None,
                "measurements": asdict(f.measurements) if f.measurements else None,
                "growth": asdict(f.growth) if f.growth else None,
            }
        )
    if rows:
        tx.execute(insert(finding), rows)


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


def findings_of_runs(tx: Connection, run_ids: Sequence[int]) -> dict[int, list[Finding]]:
    found: dict[int, list[Finding]] = {i: [] for i in run_ids}
    if run_ids:
        rows = tx.execute(
            select(finding).where(finding.c.run_id.in_(run_ids)).order_by(finding.c.id)
        ).mappings()
        for r in rows:
            found[r["run_id"]].append(_finding(dict(r)))
    return found


def counting_findings(tx: Connection, study_id: int) -> list[tuple[int, Finding]]:
    """(run id, finding) of completed current runs: what may move the study."""
    runs = [r["id"] for r in current(tx, study_id) if r["state"] == RunState.COMPLETED.value]
    return [(i, f) for i, fs in findings_of_runs(tx, runs).items() for f in fs]


def is_terminal(state: str) -> bool:
    return RunState(state) in TERMINAL


def _finding(r: dict[str, Any]) -> Finding:
    location, measurements = r["location"], r["measurements"]
    return Finding(
        name=r["name"],
        probability_raw=r["probability_raw"],
        probability=r["probability"],
        band=Band(r["band"]),
        actionable=r["actionable"],
        threshold=r["threshold"],
        location=Location(
            tuple((float(x), float(y)) for x, y in location["outline"]),
            location["side"],
            location["zone"],
            tuple(SliceMask(**s) for s in location.get("region", ())),
        )
        if location
        else None,
        measurements=Measurements(**{**measurements, "center_lps_mm": tuple(measurements["center_lps_mm"])})
        if measurements
        else None,
        growth=Growth(**r["growth"]) if r["growth"] else None,
    )


def prior_scan(tx: Connection, study_id: int, detector: str) -> dict[str, Any] | None:
    """The newest scan of this patient before this study that the detector looked at, to be compared with.

    returns  id (of the run), lung_map, days between the two acquisitions, study_instance_uid; None when there is none,
             or nobody says when either was acquired
    """
    this = tx.execute(select(study.c.patient_id, study.c.acquired_at).where(study.c.id == study_id)).one()
    if this.acquired_at is None:
        return None
    row = tx.execute(
        select(run.c.id, run.c.lung_map, study.c.acquired_at, study.c.study_instance_uid)
        .join(study, study.c.id == run.c.study_id)
        .join(release, release.c.id == run.c.release_id)
        .where(
            study.c.patient_id == this.patient_id,
            study.c.acquired_at < this.acquired_at,
            study.c.constancy.is_(False),
            release.c.detector == detector,
            run.c.state == RunState.COMPLETED.value,
            run.c.queue != SHADOW,
            run.c.lung_map.is_not(None),
        )
        .order_by(study.c.acquired_at.desc(), run.c.id.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    return {
        "id": row.id,
        "lung_map": row.lung_map,
        "days": (this.acquired_at - row.acquired_at).days,
        "study_instance_uid": row.study_instance_uid,
    }


def oldest_waiting(tx: Connection) -> datetime | None:
    """When the longest waiting run was asked for; None when nothing waits."""
    waiting = select(func.min(run.c.requested_at)).where(run.c.state == RunState.REQUESTED.value)
    oldest: datetime | None = tx.execute(waiting).scalar_one()
    return oldest


def places(tx: Connection, study_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """{study id: {"place" in its queue from 1, "attempts", "requested_at"}} of its oldest run that is not done."""
    waiting = (RunState.REQUESTED.value, RunState.RUNNING.value)
    place = func.row_number().over(partition_by=run.c.queue, order_by=(run.c.requested_at, run.c.id))
    queued = (
        select(run.c.study_id, run.c.attempts, run.c.requested_at, place.label("place"))
        .where(run.c.state.in_(waiting))
        .subquery()
    )
    query = select(queued).where(queued.c.study_id.in_(list(study_ids))).order_by(queued.c.place.desc())
    return {int(r["study_id"]): dict(r) for r in tx.execute(query).mappings()} if study_ids else {}


def waiting_by_detector(tx: Connection) -> list[tuple[str, int, datetime]]:
    """[(detector, runs that wait, since when the oldest)]"""
    query = (
        select(release.c.detector, func.count(), func.min(run.c.requested_at))
        .join(release, release.c.id == run.c.release_id)
        .where(run.c.state == RunState.REQUESTED.value)
        .group_by(release.c.detector)
        .order_by(release.c.detector)
    )
    return [(d, int(n), at) for d, n, at in tx.execute(query).tuples()]


def nobody_takes(tx: Connection, now: datetime, patience: timedelta) -> bool:
    """Rows wait longer than `patience` although no run is being worked on: the workers do not hear (F16)."""
    oldest = oldest_waiting(tx)
    if oldest is None or now - oldest < patience:
        return False
    working = select(func.count()).where(run.c.state == RunState.RUNNING.value, run.c.lease_until >= now)
    lately = select(func.count()).where(run.c.started_at >= now - patience)
    return not tx.execute(working).scalar_one() and not tx.execute(lately).scalar_one()


def set_release_state(tx: Connection, release_id: int, state: str) -> None:
    """shadow or retired; making one active is `activate_release`."""
    assert state in ("shadow", "retired")
    tx.execute(update(release).where(release.c.id == release_id).values(state=state))
