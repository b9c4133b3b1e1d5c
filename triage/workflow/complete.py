"""Second step: judge whether a series is whole and ask for its Runs. Late slices come through here again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage.dicom.geometry import ladder
from triage.domain.completeness import Evidence, Judgement, Verdict, judge
from triage.domain.eligibility import choose_series, ct_series_answer
from triage.domain.study import CT_CLASSES, RADIOGRAPH_CLASSES, SeriesInstanceUID
from triage.domain.suitability import NotSuitable, ReasonCode
from triage.store import completeness, evidence, instances, pulls, releases, runs
from triage.store.instances import Held
from triage.workflow.alert import settle_study
from triage.workflow.intake import input_digest, request_runs
from triage.workflow.site import NewId, Site, new_id


def complete_series(
    tx: Connection, series_id: int, site: Site, now: datetime, ids: NewId = new_id
) -> list[tuple[int, str]]:
    """Judge one series now; returns (run id, queue) to wake after the commit. Twice does nothing more.

    A late slice may make a series unsuitable whose finding had raised an alert: then the alert is recalled here (I9).
    """
    row = completeness.get_series(tx, series_id)
    held = instances.held(tx, series_id)
    taken_out = instances.held(tx, series_id, rejected=True)
    if not held and taken_out and row["state"] != "complete":
        return _all_rejected(tx, row, taken_out, site, ids, now)
    if not held or row["state"] == "complete":
        completeness.look_again(tx, series_id, None)
        return []
    if pulls.is_prior(tx, row["study_instance_uid"]):
        completeness.settle_series(tx, series_id, "prior")
        return []
    slices = [h for h in held if h.header.sop_class_uid in CT_CLASSES]
    judgement = judge(_evidence(tx, row, held, slices, taken_out), site.quiet_seconds, now)
    if judgement.verdict is Verdict.WAITING:
        completeness.look_again(tx, series_id, judgement.look_again_at)
        return []
    completeness.settle_series(tx, series_id, judgement.because)
    wake = _request_ct(tx, row, slices, judgement, site, now) if slices else []
    settle_study(tx, row["study_id"], site, ids, now)
    return wake


def _evidence(
    tx: Connection, row: dict[str, Any], held: list[Held], slices: list[Held], taken_out: list[Held]
) -> Evidence:
    """taken_out  instances that were rejected: counted and listed by others, and not waited for"""
    listed = evidence.listed(tx, row["series_instance_uid"])
    expected = row["expected_count"]
    films = all(h.header.sop_class_uid in RADIOGRAPH_CLASSES for h in held)
    return Evidence(
        is_film=films,
        instance_count=len(held),
        expected_count=None if expected is None else max(0, expected - len(taken_out)),
        has_gap=len(slices) > 1 and ladder([s.header for s in slices]).has_gap,
        association_open=bool(row["open_association"]),
        association_aborted=bool(row["association_aborted"]),
        first_instance_at=row["first_instance_at"],
        last_instance_at=row["last_instance_at"],
        missing_count=None
        if listed is None
        else len(listed - {h.header.sop_instance_uid for h in (*held, *taken_out)}),
    )


def _request_ct(
    tx: Connection,
    row: dict[str, Any],
    slices: list[Held],
    judgement: Judgement,
    site: Site,
    now: datetime,
) -> list[tuple[int, str]]:
    study_id, series_id = row["study_id"], row["id"]
    inputs = [(s.header.sop_instance_uid, s.digest) for s in slices]
    answer = ct_series_answer([s.header for s in slices])
    if answer is None and judgement.verdict is Verdict.GIVEN_UP:
        gap = judgement.because.startswith("quiet, gap")
        code = ReasonCode.GAP_IN_SERIES if gap else ReasonCode.INCOMPLETE_AT_LIMIT
        answer = NotSuitable(code, f"{len(slices)} slices, {judgement.because}")
    answer = answer or _better_series(tx, study_id, series_id, slices)
    runs.supersede_waiting(tx, series_id, input_digest(inputs, row["changes"]), now)
    return request_runs(
        tx, "lung_nodule", study_id, series_id, inputs, answer, site, now, changes=row["changes"]
    )


def _all_rejected(
    tx: Connection, row: dict[str, Any], taken_out: list[Held], site: Site, ids: NewId, now: datetime
) -> list[tuple[int, str]]:
    """Nothing of the series is in use: a reader hears that, and that no detector has looked at it."""
    completeness.settle_series(tx, row["id"], "rejected")
    slices = [h for h in taken_out if h.header.sop_class_uid in CT_CLASSES]
    if slices:
        inputs = [(s.header.sop_instance_uid, s.digest) for s in slices]
        answer = NotSuitable(ReasonCode.REJECTED)
        request_runs(
            tx, "lung_nodule", row["study_id"], row["id"], inputs, answer, site, now, changes=row["changes"]
        )
    settle_study(tx, row["study_id"], site, ids, now)
    return []


def _better_series(tx: Connection, study_id: int, series_id: int, slices: list[Held]) -> NotSuitable | None:
    """One series a study is read, the one that suits best (standards 4.2); why another one was taken, or None.

    Judged among the series that are whole now: a better one that comes later is read as well.
    """
    others = instances.whole_ct_headers(tx, study_id, series_id)
    if not others:
        return None
    uid = slices[0].header.series_instance_uid
    known = {SeriesInstanceUID(other): headers for other, headers in others.items()}
    kernels = releases.preferred_kernels(tx, "lung_nodule")
    choice = choose_series({**known, uid: [s.header for s in slices]}, kernels)
    return None if choice.chosen == uid else NotSuitable(ReasonCode.DUPLICATE, choice.because[uid])
