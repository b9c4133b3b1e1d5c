"""What may go, and taking it away: whole studies, with everything that names them (I25).

A study goes when it was reported (or never was for a reader), none of its alerts is unanswered, nothing of it still
runs or is to be sent, and it is older than the rule. Constancy phantoms go sooner (`store.constancy.forget_studies`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    delete,
    exists,
    false,
    func,
    or_,
    select,
    update,
)

from triage.store.alerts import UNANSWERED
from triage.store.schema import (
    alert,
    claim,
    constancy_check,
    delivery,
    delivery_attempt,
    dispatch,
    double_read,
    feedback,
    finding,
    heartbeat,
    identity_fact,
    instance,
    listed_series,
    order,
    output,
    patient,
    patient_link,
    prior_study,
    quarantine,
    rejected_instance,
    rejection_note,
    report,
    run,
    series,
    session,
    study,
    study_patient,
    subscription,
    workitem,
    worklist_item,
)


@dataclass(frozen=True)
class Removed:
    """What left the database. digests: objects that no row names any more, whose files may go after the commit."""

    study_instance_uid: str
    constancy: bool
    runs: int
    instances: int
    bytes: int
    digests: tuple[str, ...]


def aged(tx: Connection, before: datetime, limit: int) -> list[int]:
    """Studies that may go, oldest first."""
    query = (
        select(study.c.id)
        .outerjoin(worklist_item, worklist_item.c.study_id == study.c.id)
        .where(_may_go(before))
        .order_by(study.c.last_received_at, study.c.id)
        .limit(limit)
    )
    return [int(i) for i in tx.execute(query).scalars()]


def may_go(tx: Connection, study_id: int, before: datetime) -> bool:
    """Asked again in the transaction that removes; on PostgreSQL the row is held, so that nothing joins it meanwhile."""
    if tx.dialect.name == "postgresql":
        tx.execute(select(study.c.id).where(study.c.id == study_id).with_for_update())
    query = (
        select(study.c.id)
        .outerjoin(worklist_item, worklist_item.c.study_id == study.c.id)
        .where(study.c.id == study_id, _may_go(before))
    )
    return tx.execute(query).first() is not None


def _may_go(before: datetime) -> ColumnElement[bool]:
    w = worklist_item.c
    of_study = alert.c.study_id == study.c.id
    unanswered = exists().where(of_study, alert.c.state.in_(UNANSWERED))
    to_send = exists().where(of_study, delivery.c.alert_id == alert.c.id, delivery.c.state == "waiting")
    at_work = exists().where(run.c.study_id == study.c.id, run.c.state.in_(("requested", "running")))
    done_with = or_(
        and_(w.state == "read", w.report_state != "", w.read_at < before),
        w.state == "withdrawn",
        w.id.is_(None),  # objects that nobody reads by themselves (SR, KO ...)
    )
    judged = ~exists().where(
        constancy_check.c.study_instance_uid == study.c.study_instance_uid, constancy_check.c.ok.is_(None)
    )
    return and_(
        study.c.last_received_at < before,
        or_(
            and_(study.c.constancy, judged),
            and_(study.c.constancy.is_(False), done_with, ~unanswered, ~to_send),
        ),
        ~at_work,
    )


def remove(tx: Connection, study_id: int) -> Removed:
    """Delete a study and all that belongs to it; the caller has asked `may_go` and writes the audit."""
    row = tx.execute(select(study).where(study.c.id == study_id)).mappings().one()
    of_study = select(series.c.id).where(series.c.study_id == study_id)
    held = tx.execute(
        select(instance.c.id, instance.c.digest, instance.c.size_bytes).where(
            instance.c.series_id.in_(of_study)
        )
    ).all()
    instances = select(instance.c.id).where(instance.c.series_id.in_(of_study))
    aside = (
        tx.execute(select(quarantine.c.digest).where(quarantine.c.instance_id.in_(instances))).scalars().all()
    )
    alerts = select(alert.c.id).where(alert.c.study_id == study_id)
    runs = select(run.c.id).where(run.c.study_id == study_id)
    notes = select(rejection_note.c.id).where(
        rejection_note.c.study_instance_uid == row["study_instance_uid"]
    )
    items = select(worklist_item.c.id).where(worklist_item.c.study_id == study_id)
    steps = select(workitem.c.sop_instance_uid).where(workitem.c.worklist_item_id.in_(items))
    count = int(
        tx.execute(select(func.count()).select_from(run).where(run.c.study_id == study_id)).scalar_one()
    )
    uid = row["study_instance_uid"]
    for table, which in (
        (delivery_attempt, delivery_attempt.c.delivery_id.in_(select(delivery.c.id).where(delivery.c.alert_id.in_(alerts)))),
        (delivery, delivery.c.alert_id.in_(alerts)),
        (alert, alert.c.study_id == study_id),
        (feedback, feedback.c.study_id == study_id),
        (finding, finding.c.study_id == study_id),
        (dispatch, dispatch.c.output_id.in_(select(output.c.id).where(output.c.run_id.in_(runs)))),
        (output, output.c.run_id.in_(runs)),
        (run, run.c.study_id == study_id),
        (claim, claim.c.worklist_item_id.in_(items)),
        (subscription, subscription.c.workitem_uid.in_(steps)),
        (workitem, workitem.c.worklist_item_id.in_(items)),
        (worklist_item, worklist_item.c.study_id == study_id),
        (quarantine, quarantine.c.instance_id.in_(instances)),
        (instance, instance.c.series_id.in_(of_study)),
        (series, series.c.study_id == study_id),
        (double_read, double_read.c.study_id == study_id),
        (report, report.c.study_id == study_id),
        (order, order.c.study_instance_uid == uid if uid else false()),
        (study_patient, study_patient.c.study_id == study_id),
        (prior_study, prior_study.c.study_instance_uid == uid),
        (rejected_instance, rejected_instance.c.note_id.in_(notes)),
        (rejection_note, rejection_note.c.study_instance_uid == uid),
        (listed_series, listed_series.c.study_instance_uid == uid),
        (study, study.c.id == study_id),
    ):  # fmt: skip
        _delete(tx, table, which)
    _delete(tx, patient, and_(patient.c.id == row["patient_id"], patient.c.heard_at.is_(None), _of_nobody()))
    digests = sorted(
        {*(h.digest for h in held), *aside} - _still_named(tx, {*(h.digest for h in held), *aside})
    )
    return Removed(uid, row["constancy"], count, len(held), sum(h.size_bytes for h in held), tuple(digests))


def forget_patients(tx: Connection, before: datetime) -> int:
    """Patients without a study whom no registry has spoken of since; their merges and moves go with them."""
    old = and_(patient.c.heard_at < before, _of_nobody())
    kin = patient_link.alias()
    other = patient.alias()
    # A merged patient stays as long as one of its kin does: a late image must still find its way.
    needed = exists().where(
        or_(
            and_(kin.c.prior_id == patient.c.id, kin.c.surviving_id == other.c.id),
            and_(kin.c.surviving_id == patient.c.id, kin.c.prior_id == other.c.id),
        ),
        or_(other.c.heard_at >= before, exists().where(study.c.patient_id == other.c.id)),
    )
    gone = list(tx.execute(select(patient.c.id).where(old, ~needed).limit(1000)).scalars())
    _delete(tx, patient_link, or_(patient_link.c.prior_id.in_(gone), patient_link.c.surviving_id.in_(gone)))
    _delete(tx, identity_fact, or_(identity_fact.c.prior_id.in_(gone), identity_fact.c.patient_id.in_(gone)))
    _delete(tx, patient, patient.c.id.in_(gone))
    return len(gone)


def _of_nobody() -> ColumnElement[bool]:
    named = or_(study_patient.c.sent_id == patient.c.id, study_patient.c.own_id == patient.c.id)
    held = [~exists().where(table.c.patient_id == patient.c.id) for table in (study, order)]
    return and_(*held, ~exists().where(named))


def _delete(tx: Connection, table: Table, which: ColumnElement[Any]) -> None:
    tx.execute(delete(table).where(which))


def _still_named(tx: Connection, digests: Iterable[str]) -> set[str]:
    return {digest for digest in digests if is_named(tx, digest)}


def is_named(tx: Connection, digest: str) -> bool:
    """Does any row speak of these bytes?"""
    return any(
        tx.execute(select(table.c.id).where(table.c.digest == digest).limit(1)).first() is not None
        for table in (instance, quarantine)
    )


def after_restore(tx: Connection) -> dict[str, int]:
    """What yesterday's rows must not do by themselves (H25): alerts wait for a person, nothing is sent again alone.

    Open alerts stay red as exhausted, deliveries that waited are parked, everybody signs in anew, old heartbeats go.
    """
    alerts = tx.execute(
        update(alert).where(alert.c.state == "open").values(state="exhausted", version=alert.c.version + 1)
    )
    deliveries = tx.execute(
        update(delivery)
        .where(delivery.c.state == "waiting")
        .values(state="parked", detail="restored from a backup: may have been sent; send again by hand")
    )
    sessions = tx.execute(delete(session))
    tx.execute(delete(heartbeat))
    return {"alerts": alerts.rowcount, "deliveries": deliveries.rowcount, "sessions": sessions.rowcount}
