"""Rows for the read-only FHIR view: of real studies alone, by patient, identifier and date, in pages by id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, or_, select

from triage.store.schema import alert, audit_event, finding, order, patient, release, run, series, study


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a search narrows by; times are half-open [since, before).

    patient     row id; identifier (system words left out) of patient, order or study
    after_id    last id of the page before
    """

    id: int | None = None
    patient: int | None = None
    patient_identifier: str = ""
    identifier: str = ""
    since: datetime | None = None
    before: datetime | None = None
    after_id: int = 0
    limit: int = 50


_PATIENT = (
    patient.c.id.label("patient_row"), patient.c.patient_id.label("patient_code"), patient.c.issuer_of_patient_id,
    patient.c.patient_name, patient.c.patient_birth_date, patient.c.patient_sex,
)  # fmt: skip
_STUDY = (
    study.c.study_instance_uid, study.c.accession_number, study.c.study_description, study.c.acquired_at,
    study.c.first_received_at, study.c.id.label("study_row"),
)  # fmt: skip


def patients(tx: Connection, wanted: Wanted) -> list[dict[str, Any]]:
    real = select(study.c.id).where(study.c.patient_id == patient.c.id, study.c.constancy.is_(False)).exists()
    ordered = select(order.c.id).where(order.c.patient_id == patient.c.id).exists()
    query = select(patient.c.id, *_PATIENT).where(or_(real, ordered))
    return _page(tx, query, patient.c.id, wanted, identifiers=(patient.c.patient_id,), at=None)


def studies(tx: Connection, wanted: Wanted) -> list[dict[str, Any]]:
    query = (
        select(study.c.id, *_STUDY, *_PATIENT)
        .join(patient, patient.c.id == study.c.patient_id)
        .where(study.c.constancy.is_(False))
    )
    names = (study.c.study_instance_uid, study.c.accession_number)
    rows = _page(tx, query, study.c.id, wanted, identifiers=names, at=study.c.acquired_at)
    held = tx.execute(
        select(series).where(series.c.study_id.in_([r["id"] for r in rows])).order_by(series.c.id)
    ).mappings()
    by_study: dict[int, list[dict[str, Any]]] = {}
    for s in held:
        by_study.setdefault(s["study_id"], []).append(dict(s))
    return [{**r, "series": by_study.get(r["id"], [])} for r in rows]


def orders(tx: Connection, wanted: Wanted) -> list[dict[str, Any]]:
    query = select(order, *_PATIENT).outerjoin(patient, patient.c.id == order.c.patient_id)
    names = (
        order.c.accession_number, order.c.placer_order_number, order.c.filler_order_number, order.c.study_instance_uid,
    )  # fmt: skip
    return _page(tx, query, order.c.id, wanted, identifiers=names, at=order.c.received_at)


def findings(tx: Connection, wanted: Wanted, run_ids: list[int] | None = None) -> list[dict[str, Any]]:
    """Actionable findings of completed runs of releases that count."""
    query = (
        select(finding, *_STUDY, *_PATIENT, run.c.finished_at, run.c.release_id, release.c.detector, release.c.version)
        .join(run, run.c.id == finding.c.run_id)
        .join(release, release.c.id == run.c.release_id)
        .join(study, study.c.id == finding.c.study_id)
        .join(patient, patient.c.id == study.c.patient_id)
        .where(finding.c.actionable, *_COUNTS)
    )  # fmt: skip
    if run_ids is not None:
        query = query.where(finding.c.run_id.in_(run_ids))
    names = (study.c.study_instance_uid, study.c.accession_number)
    return _page(tx, query, finding.c.id, wanted, identifiers=names, at=run.c.finished_at)


_COUNTS: tuple[ColumnElement[bool], ...] = (
    run.c.state == "completed", run.c.queue != "shadow", study.c.constancy.is_(False),
)  # fmt: skip


def runs(tx: Connection, wanted: Wanted) -> list[dict[str, Any]]:
    query = (
        select(run.c.id, run.c.finished_at, run.c.release_id, release.c.detector, release.c.version, *_STUDY, *_PATIENT)
        .join(release, release.c.id == run.c.release_id)
        .join(study, study.c.id == run.c.study_id)
        .join(patient, patient.c.id == study.c.patient_id)
        .where(*_COUNTS)
    )  # fmt: skip
    names = (study.c.study_instance_uid, study.c.accession_number)
    return _page(tx, query, run.c.id, wanted, identifiers=names, at=run.c.finished_at)


def releases(tx: Connection, wanted: Wanted) -> list[dict[str, Any]]:
    query = select(release)
    return _page(tx, query, release.c.id, wanted, identifiers=(release.c.digest, release.c.version), at=None)


def alerts(tx: Connection, wanted: Wanted) -> list[dict[str, Any]]:
    query = (
        select(alert, *_STUDY, *_PATIENT)
        .join(study, study.c.id == alert.c.study_id)
        .join(patient, patient.c.id == study.c.patient_id)
        .where(study.c.constancy.is_(False))
    )
    names = (study.c.study_instance_uid, study.c.accession_number)
    return _page(tx, query, alert.c.id, wanted, identifiers=names, at=alert.c.raised_at)


def audits(tx: Connection, wanted: Wanted) -> list[dict[str, Any]]:
    """The trail in order of number; its times are text in ISO order."""
    n = audit_event.c.number
    conditions = [n > wanted.after_id]
    if wanted.id is not None:
        conditions.append(n == wanted.id)
    if wanted.since:
        conditions.append(audit_event.c.at >= wanted.since.isoformat())
    if wanted.before:
        conditions.append(audit_event.c.at < wanted.before.isoformat())
    if wanted.patient is not None or wanted.patient_identifier or wanted.identifier:
        return []  # the trail names objects by their rows, not patients
    rows = tx.execute(select(audit_event).where(*conditions).order_by(n).limit(wanted.limit)).mappings()
    return [{**r, "id": r["number"]} for r in rows]


def _page(
    tx: Connection, query: Select[Any], id_column: ColumnElement[int], wanted: Wanted, *,
    identifiers: tuple[ColumnElement[str], ...], at: ColumnElement[datetime] | None,
) -> list[dict[str, Any]]:  # fmt: skip
    conditions: list[ColumnElement[bool]] = [id_column > wanted.after_id]
    if wanted.id is not None:
        conditions.append(id_column == wanted.id)
    if wanted.patient is not None:
        conditions.append(patient.c.id == wanted.patient)
    if wanted.patient_identifier:
        conditions.append(patient.c.patient_id == wanted.patient_identifier)
    if wanted.identifier:
        conditions.append(or_(*(c == wanted.identifier for c in identifiers)))
    if at is not None and wanted.since is not None:
        conditions.append(at >= wanted.since)
    if at is not None and wanted.before is not None:
        conditions.append(at < wanted.before)
    found = query.where(and_(*conditions)).order_by(id_column).limit(wanted.limit)
    return [dict(r) for r in tx.execute(found).mappings()]
