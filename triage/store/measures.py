"""What QA asks of the rows: plain values of the studies that arrived in a period. Constancy studies are never among them.

A cohort is `study.first_received_at` in [start, end). The values hold no name, id or birth date of a patient; the
Study Instance UID is there for lists that stay in the department.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from triage.store.runs import SHADOW
from triage.store.schema import (
    alert,
    audit_event,
    delivery,
    feedback,
    finding,
    patient,
    policy,
    release,
    run,
    series,
    study,
    worklist_item,
)


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """One study as it arrived, waited and was read. `sender` is the AE title that brought its first series."""

    study_id: int
    study_instance_uid: str
    arrived_at: datetime
    sex: str
    age_years: float | None
    modality: str
    view: str
    sender: str
    ordered_priority: str
    base_class: int
    priority_class: int
    overridden: bool
    state: str
    ai_status: str
    bound_at: datetime
    opened_at: datetime | None
    read_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """A run that counts: asked for as more than a shadow, and not superseded."""

    run_id: int
    study_id: int
    detector: str
    version: str
    state: str
    reason: str
    finished_at: datetime | None
    mode: str
    policy_version: int | None


@dataclass(frozen=True)
class FlagFacts:
    """An actionable finding of a completed run; several of one name by one detector are one."""

    study_id: int
    detector: str
    name: str
    flagged_at: datetime
    # Its run was superseded then; the one that followed may flag the same.
    withdrawn_at: datetime | None = None

    def stood(self, at: datetime) -> bool:
        return self.flagged_at <= at and (self.withdrawn_at is None or at < self.withdrawn_at)


@dataclass(frozen=True)
class FeedbackFacts:
    """A reader's word that was not taken back; finding "" means every flag of the study.

    release  detector and version of the run that it is about, "" where it names none
    """

    study_id: int
    verdict: str
    finding: str
    chip: str
    at: datetime
    release: str = ""


@dataclass(frozen=True)
class AlertFacts:
    study_id: int
    finding: str
    state: str
    step: int
    raised_at: datetime
    acknowledged_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class Threshold:
    """An operating point that findings of the period were judged by."""

    detector: str
    version: str
    finding: str
    value: float


def studies_between(tx: Connection, start: datetime, end: datetime) -> list[StudyFacts]:
    """Studies that arrived in [start, end), in order of arrival."""
    senders: dict[int, str] = {}
    first = (
        select(series.c.study_id, series.c.calling_ae_title)
        .join(study, study.c.id == series.c.study_id)
        .where(cohort(start, end))
        .order_by(series.c.id)
    )
    for study_id, sender in tx.execute(first).tuples():
        senders.setdefault(study_id, sender)
    w = worklist_item.c
    rows = tx.execute(
        select(
            study.c.id, study.c.study_instance_uid, study.c.patient_age_years, patient.c.patient_sex,
            w.arrived_at, w.modality, w.view, w.ordered_priority, w.base_class, w.priority_class, w.override_class,
            w.state, w.ai_status, w.bound_at, w.opened_at, w.read_at,
        )
        .join(patient, patient.c.id == study.c.patient_id)
        .join(worklist_item, w.study_id == study.c.id)
        .where(cohort(start, end))
        .order_by(study.c.first_received_at, study.c.id)
    )  # fmt: skip
    return [
        StudyFacts(
            study_id=r.id, study_instance_uid=r.study_instance_uid, arrived_at=r.arrived_at, sex=r.patient_sex,
            age_years=r.patient_age_years, modality=r.modality, view=r.view, sender=senders.get(r.id, ""),
            ordered_priority=r.ordered_priority, base_class=r.base_class, priority_class=r.priority_class,
            overridden=r.override_class is not None, state=r.state, ai_status=r.ai_status, bound_at=r.bound_at,
            opened_at=r.opened_at, read_at=r.read_at,
        )
        for r in rows
    ]  # fmt: skip


def runs_between(tx: Connection, start: datetime, end: datetime) -> list[RunFacts]:
    """Runs that count, of the studies of the period, oldest first."""
    rows = tx.execute(
        _counting(
            select(
                run.c.id.label("run_id"), run.c.study_id, release.c.detector, release.c.version, run.c.state,
                run.c.reason_code.label("reason"), run.c.finished_at, run.c.mode, run.c.policy_version,
            ), start, end,
        ).order_by(run.c.id)
    )  # fmt: skip
    return [RunFacts(**r) for r in map(dict, rows.mappings())]


def flags_between(tx: Connection, start: datetime, end: datetime) -> list[FlagFacts]:
    """The flags of today: one for each (study, detector, finding), at the first run that counts and says so."""
    columns = (run.c.study_id, release.c.detector, finding.c.name)
    rows = tx.execute(
        _counting(select(*columns, func.min(run.c.finished_at)), start, end)
        .join(finding, finding.c.run_id == run.c.id)
        .where(run.c.state == "completed", finding.c.actionable)
        .group_by(*columns)
        .order_by(*columns)
    )
    return [FlagFacts(*r) for r in rows.tuples()]


def given_between(tx: Connection, start: datetime, end: datetime) -> list[FlagFacts]:
    """Every flag that a reader could see, those withdrawn since among them: one for each (run, finding), by run.

    A superseded run without its time (from before migration 0024) is left out: nobody knows when its flags stood.
    """
    rows = tx.execute(
        _asked(
            select(run.c.study_id, release.c.detector, finding.c.name, run.c.finished_at, run.c.superseded_at, run.c.id),
            start, end,
        )
        .join(finding, finding.c.run_id == run.c.id)
        .where(finding.c.actionable, or_(run.c.state == "completed", run.c.superseded_at.is_not(None)))
        .distinct()
        .order_by(run.c.id, finding.c.name)
    )  # fmt: skip
    return [FlagFacts(*r[:5]) for r in rows.tuples()]


def thresholds_between(tx: Connection, start: datetime, end: datetime) -> list[Threshold]:
    rows = tx.execute(
        _counting(
            select(release.c.detector, release.c.version, finding.c.name, finding.c.threshold), start, end
        )
        .join(finding, finding.c.run_id == run.c.id)
        .where(finding.c.threshold.is_not(None))
        .distinct()
        .order_by(release.c.detector, release.c.version, finding.c.name, finding.c.threshold)
    )
    return [Threshold(*r) for r in rows.tuples()]


def feedback_between(tx: Connection, start: datetime, end: datetime) -> list[FeedbackFacts]:
    """What readers said about the studies of the period, whenever they said it; oldest first."""
    f = feedback.c
    rows = tx.execute(
        select(f.study_id, f.verdict, f.finding, f.chip, f.at, release.c.detector, release.c.version)
        .join(study, study.c.id == f.study_id)
        .outerjoin(run, run.c.id == f.run_id)
        .outerjoin(release, release.c.id == run.c.release_id)
        .where(cohort(start, end), f.withdrawn_at.is_(None))
        .order_by(f.id)
    )
    return [FeedbackFacts(*r[:5], f"{r.detector} {r.version}" if r.detector else "") for r in rows]


def alerts_between(tx: Connection, start: datetime, end: datetime) -> list[AlertFacts]:
    a = alert.c
    rows = tx.execute(
        select(a.study_id, a.finding_name, a.state, a.step, a.raised_at, a.acknowledged_at, a.ended_at)
        .join(study, study.c.id == a.study_id)
        .where(cohort(start, end))
        .order_by(a.id)
    )
    return [AlertFacts(*r) for r in rows.tuples()]


def count_alerts(tx: Connection, start: datetime, end: datetime) -> int:
    """Alerts of patients raised in [start, end), whenever their studies came."""
    query = (
        select(func.count())
        .select_from(alert)
        .join(study, study.c.id == alert.c.study_id)
        .where(study.c.constancy.is_(False), alert.c.raised_at >= start, alert.c.raised_at < end)
    )
    return int(tx.execute(query).scalar_one())


def judged_alerts(tx: Connection, start: datetime, end: datetime) -> tuple[int, int]:
    """(agreed, disagreed): alerts raised in [start, end) by what readers last said of their finding, or of all flags.

    A word said before the alert was raised, or after it was withdrawn, is of other flags.
    """
    f = feedback.c
    rows = tx.execute(
        select(alert.c.id, f.verdict)
        .join(study, study.c.id == alert.c.study_id)
        .join(feedback, f.study_id == alert.c.study_id)
        .where(
            study.c.constancy.is_(False), alert.c.raised_at >= start, alert.c.raised_at < end, f.withdrawn_at.is_(None),
            f.verdict.in_(("agree", "disagree")), f.finding.in_(("", alert.c.finding_name)),
            f.at >= alert.c.raised_at, or_(alert.c.state != "withdrawn", f.at < alert.c.ended_at),
        )
        .order_by(f.id)
    ).tuples()  # fmt: skip
    last = dict(rows.all())
    return sum(v == "agree" for v in last.values()), sum(v == "disagree" for v in last.values())


def deliveries_between(tx: Connection, start: datetime, end: datetime) -> list[tuple[str, str, int]]:
    """(route, state, count) of the deliveries of those alerts."""
    rows = tx.execute(
        select(delivery.c.route, delivery.c.state, func.count())
        .join(alert, alert.c.id == delivery.c.alert_id)
        .join(study, study.c.id == alert.c.study_id)
        .where(cohort(start, end))
        .group_by(delivery.c.route, delivery.c.state)
        .order_by(delivery.c.route, delivery.c.state)
    )
    return [(r, s, n) for r, s, n in rows.tuples()]


def policies_between(tx: Connection, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Policies in force at some moment of the period: the last one made before it, and those made in it."""
    before = select(func.max(policy.c.version)).where(policy.c.made_at < start).scalar_subquery()
    rows = tx.execute(
        select(policy.c.version, policy.c.made_at, policy.c.content)
        .where(policy.c.made_at < end, policy.c.version >= func.coalesce(before, 0))
        .order_by(policy.c.version)
    )
    return [dict(r) for r in rows.mappings()]


def changes_between(
    tx: Connection, start: datetime, end: datetime, acts: Iterable[str]
) -> list[tuple[str, str, str, str]]:
    """(at, act, object kind, object id) of these acts in the audit; its times are ISO text in UTC, which sorts."""
    e = audit_event.c
    rows = tx.execute(
        select(e.at, e.act, e.object_kind, e.object_id)
        .where(e.at >= _iso(start), e.at < _iso(end), e.act.in_(list(acts)))
        .order_by(e.number)
    )
    return [(at, act, kind, key) for at, act, kind, key in rows.tuples()]


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def cohort(start: datetime, end: datetime) -> ColumnElement[bool]:
    """Studies that arrived in [start, end) and are no constancy phantom."""
    return and_(
        study.c.constancy.is_(False), study.c.first_received_at >= start, study.c.first_received_at < end
    )


def _counting(query: Select[Any], start: datetime, end: datetime) -> Select[Any]:
    """Narrow a query over runs to those that count, of the cohort."""
    return _asked(query, start, end).where(run.c.state != "superseded")


def _asked(query: Select[Any], start: datetime, end: datetime) -> Select[Any]:
    """Runs of the cohort that were asked for as more than a shadow, superseded ones among them."""
    return (
        query.select_from(run)
        .join(study, study.c.id == run.c.study_id)
        .join(release, release.c.id == run.c.release_id)
        .where(cohort(start, end), run.c.queue != SHADOW)
    )
