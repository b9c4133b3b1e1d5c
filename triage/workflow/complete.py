"""Second step: judge whether a series is whole and ask for its Runs. Late slices come through here again."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from triage.dicom.geometry import ladder
from triage.domain.completeness import Evidence, Judgement, Verdict, judge
from triage.domain.eligibility import choose_series, ct_series_answer
from triage.domain.study import CT_CLASSES, RADIOGRAPH_CLASSES, SeriesInstanceUID
from triage.domain.suitability import NotSuitable, ReasonCode
from triage.store import evidence, pulls, runs, studies
from triage.store.studies import Held
from triage.workflow.alert import settle_study
from triage.workflow.intake import input_digest, request_runs
from triage.workflow.site import NewId, Site, new_id


def complete_series(
    tx: Connection, series_id: int, site: Site, now: datetime, ids: NewId = new_id
) -> list[tuple[int, str]]:
    """Judge one series now; returns (run id, queue) to wake after the commit. Twice does nothing more.

    A late slice may make a series unsuitable whose finding had raised an alert: then the alert is recalled here (I9).
    """
    row = studies.get_series(tx, series_id)
    held = studies.held(tx, series_id)
    if not held or row["state"] == "complete":
        studies.look_again(tx, series_id, None)
        return []
    if pulls.is_prior(tx, row["study_instance_uid"]):
        studies.settle_series(tx, series_id, "prior")
        return []
    slices = [h for h in held if h.header.sop_class_uid in CT_CLASSES]
    listed = evidence.listed(tx, row["series_instance_uid"])
    judgement = judge(_evidence(row, held, slices, listed), site.quiet_seconds, now)
    if judgement.verdict is Verdict.WAITING:
        studies.look_again(tx, series_id, judgement.look_again_at)
        return []
    studies.settle_series(tx, series_id, judgement.because)
    wake = _request_ct(tx, row["study_id"], series_id, slices, judgement, site, now) if slices else []
    settle_study(tx, row["study_id"], site, ids, now)
    return wake


def _evidence(
    row: dict[str, object], held: list[Held], slices: list[Held], listed: frozenset[str] | None
) -> Evidence:
    films = all(h.header.sop_class_uid in RADIOGRAPH_CLASSES for h in held)
    return Evidence(
        is_film=films,
        instance_count=len(held),
        expected_count=row["expected_count"],  # type: ignore[arg-type]
        has_gap=len(slices) > 1 and ladder([s.header for s in slices]).has_gap,
        association_open=bool(row["open_association"]),
        association_aborted=bool(row["association_aborted"]),
        first_instance_at=row["first_instance_at"],  # type: ignore[arg-type]
        last_instance_at=row["last_instance_at"],  # type: ignore[arg-type]
        missing_count=None if listed is None else len(listed - {h.header.sop_instance_uid for h in held}),
    )


def _request_ct(
    tx: Connection,
    study_id: int,
    series_id: int,
    slices: list[Held],
    judgement: Judgement,
    site: Site,
    now: datetime,
) -> list[tuple[int, str]]:
    inputs = [(s.header.sop_instance_uid, s.digest) for s in slices]
    answer = ct_series_answer([s.header for s in slices])
    if answer is None and judgement.verdict is Verdict.GIVEN_UP:
        gap = judgement.because.startswith("quiet, gap")
        code = ReasonCode.GAP_IN_SERIES if gap else ReasonCode.INCOMPLETE_AT_LIMIT
        answer = NotSuitable(code, f"{len(slices)} slices, {judgement.because}")
    answer = answer or _better_series(tx, study_id, series_id, slices)
    runs.supersede_waiting(tx, series_id, input_digest(inputs))
    return request_runs(tx, "lung_nodule", study_id, series_id, inputs, answer, site, now)


def _better_series(tx: Connection, study_id: int, series_id: int, slices: list[Held]) -> NotSuitable | None:
    """One series a study is read, the one that suits best (standards 4.2); why another one was taken, or None.

    Judged among the series that are whole now: a better one that comes later is read as well.
    """
    others = studies.whole_ct_headers(tx, study_id, series_id)
    if not others:
        return None
    uid = slices[0].header.series_instance_uid
    known = {SeriesInstanceUID(other): headers for other, headers in others.items()}
    choice = choose_series({**known, uid: [s.header for s in slices]})
    return None if choice.chosen == uid else NotSuitable(ReasonCode.DUPLICATE, choice.because[uid])
