"""What drift and use charts ask of the rows: inputs, scores, times of runs, and the acts of readers.

Cohorts are those of `store.measures`: studies that arrived in [start, end), never a constancy study. The values hold no
name, id or birth date.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, select

from triage.store.measures import cohort
from triage.store.runs import SHADOW
from triage.store.schema import audit_event, finding, instance, release, report, run, series, study


@dataclass(frozen=True, kw_only=True)
class InputFacts:
    """The header of the first object of a series that a run looked at."""

    study_id: int
    detector: str
    arrived_at: datetime
    device: str  # manufacturer and model
    kvp: float | None
    slice_thickness_mm: float | None
    kernel: str
    columns: int | None
    age_years: float | None


@dataclass(frozen=True, kw_only=True)
class ScoreFacts:
    """What one completed run said of one finding; the highest where it said it of several places."""

    study_id: int
    detector: str
    version: str
    is_shadow: bool
    name: str
    probability: float
    actionable: bool
    threshold: float | None
    finished_at: datetime


@dataclass(frozen=True, kw_only=True)
class TimingFacts:
    """The stations of a completed run that counts; times as the rows have them."""

    study_id: int
    detector: str
    first_instance_at: datetime
    last_instance_at: datetime
    requested_at: datetime
    started_at: datetime
    finished_at: datetime


@dataclass(frozen=True)
class Opened:
    """A reader opened a study: from the list with `next`, or by choice at a rank."""

    at: datetime
    reader: str
    study_uid: str
    by_next: bool
    rank: int | None


def inputs_between(tx: Connection, start: datetime, end: datetime) -> list[InputFacts]:
    """One row for each (series, detector) that had a run which counts, in order of arrival."""
    first = select(func.min(instance.c.id)).where(instance.c.series_id == run.c.series_id).correlate(run)
    header = instance.c.header
    rows = tx.execute(
        select(
            run.c.study_id, release.c.detector, study.c.first_received_at, study.c.patient_age_years,
            header["manufacturer"].as_string(), header["manufacturer_model_name"].as_string(),
            header["kvp"].as_float(), header["slice_thickness_mm"].as_float(),
            header["convolution_kernel"].as_string(), header["columns"].as_integer(),
        )
        .select_from(run)
        .join(study, study.c.id == run.c.study_id)
        .join(release, release.c.id == run.c.release_id)
        .join(instance, instance.c.id == first.scalar_subquery())
        .where(cohort(start, end), run.c.state != "superseded", run.c.queue != SHADOW)
        .order_by(study.c.first_received_at, run.c.id)
    ).tuples()  # fmt: skip
    return [
        InputFacts(
            study_id=study_id, detector=detector, arrived_at=at, age_years=age,
            device=" ".join(w for w in (maker, model) if w), kvp=kvp, slice_thickness_mm=thickness,
            kernel=kernel or "", columns=columns,
        )
        for study_id, detector, at, age, maker, model, kvp, thickness, kernel, columns in rows
    ]  # fmt: skip


def scores_between(tx: Connection, start: datetime, end: datetime) -> list[ScoreFacts]:
    """Stored probabilities of completed runs, shadows among them, oldest run first."""
    columns = (run.c.id, run.c.study_id, release.c.detector, release.c.version, run.c.queue, finding.c.name)
    rows = tx.execute(
        select(
            *columns[1:], func.max(finding.c.probability), func.max(finding.c.threshold),
            func.count().filter(finding.c.actionable), run.c.finished_at,
        )
        .select_from(run)
        .join(study, study.c.id == run.c.study_id)
        .join(release, release.c.id == run.c.release_id)
        .join(finding, finding.c.run_id == run.c.id)
        .where(cohort(start, end), run.c.state == "completed")
        .group_by(*columns, run.c.finished_at)
        .order_by(run.c.id, finding.c.name)
    ).tuples()  # fmt: skip
    return [
        ScoreFacts(
            study_id=study_id, detector=detector, version=version, is_shadow=queue == SHADOW, name=name,
            probability=probability, actionable=actionable > 0, threshold=threshold, finished_at=at,
        )
        for study_id, detector, version, queue, name, probability, threshold, actionable, at in rows
    ]  # fmt: skip


def timings_between(tx: Connection, start: datetime, end: datetime) -> list[TimingFacts]:
    rows = tx.execute(
        select(
            run.c.study_id, release.c.detector, series.c.first_instance_at, series.c.last_instance_at,
            run.c.requested_at, run.c.started_at, run.c.finished_at,
        )
        .select_from(run)
        .join(study, study.c.id == run.c.study_id)
        .join(series, series.c.id == run.c.series_id)
        .join(release, release.c.id == run.c.release_id)
        .where(
            cohort(start, end), run.c.state == "completed", run.c.queue != SHADOW, run.c.started_at.is_not(None)
        )
        .order_by(run.c.id)
    ).mappings()  # fmt: skip
    return [TimingFacts(**r) for r in map(dict, rows)]


def opened_between(tx: Connection, start: datetime, end: datetime) -> list[Opened]:
    """Every opening in [start, end), from the audit: the only place that keeps more than the first one."""
    e = audit_event.c
    rows = tx.execute(
        select(e.at, e.actor, e.object_id, e.detail)
        .where(e.act == "study.opened", e.at >= _iso(start), e.at < _iso(end))
        .order_by(e.number)
    ).tuples()
    return [_opened(*row) for row in rows]


def report_texts_between(tx: Connection, start: datetime, end: datetime) -> dict[int, str]:
    """Study id to the text of its reports: the last final one with the addenda that came after it."""
    rows = tx.execute(
        select(report.c.study_id, report.c.state, report.c.text)
        .join(study, study.c.id == report.c.study_id)
        .where(cohort(start, end), report.c.state.in_(("final", "addendum")))
        .order_by(report.c.id)
    ).tuples()
    texts: dict[int, str] = {}
    for study_id, state, text in rows:
        texts[study_id] = text if state == "final" else f"{texts.get(study_id, '')}\n{text}"
    return texts


def _opened(at: str, actor: str, study_uid: str, detail: str) -> Opened:
    said: dict[str, Any] = json.loads(detail)
    return Opened(datetime.fromisoformat(at), actor, study_uid, bool(said.get("next")), said.get("rank"))


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
