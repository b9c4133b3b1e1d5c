"""Constancy checks: what was sent, what was expected, whether the flag came in time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from triage.store.schema import (
    alert,
    claim,
    constancy_check,
    delivery,
    finding,
    instance,
    operator_notice,
    output,
    run,
    series,
    study,
    worklist_item,
)


def add(
    tx: Connection,
    detector: str,
    study_instance_uid: str,
    finding_name: str,
    started_at: datetime,
    due_at: datetime,
) -> int:
    row = insert(constancy_check).values(
        detector=detector,
        study_instance_uid=study_instance_uid,
        finding_name=finding_name,
        started_at=started_at,
        due_at=due_at,
    )
    return int(tx.execute(row.returning(constancy_check.c.id)).scalar_one())


def pending(tx: Connection) -> list[dict[str, Any]]:
    rows = tx.execute(
        select(constancy_check).where(constancy_check.c.ok.is_(None)).order_by(constancy_check.c.id)
    )
    return [dict(r) for r in rows.mappings()]


def left_open(tx: Connection) -> list[str]:
    """Study Instance UIDs of constancy studies with an open alert that no pending check will close.

    The flag came after its check had ended. Index alert_open: the few open alerts are looked at.
    """
    awaited = (
        select(constancy_check.c.id)
        .where(
            constancy_check.c.study_instance_uid == study.c.study_instance_uid, constancy_check.c.ok.is_(None)
        )
        .exists()
    )
    query = (
        select(study.c.study_instance_uid)
        .join(alert, alert.c.study_id == study.c.id)
        .where(alert.c.state == "open", study.c.constancy, ~awaited, ~alert.c.drill)
        .distinct()
    )
    return list(tx.execute(query).scalars())


def finish(tx: Connection, check_id: int, ok: bool, detail: str, now: datetime) -> None:
    tx.execute(
        update(constancy_check)
        .where(constancy_check.c.id == check_id, constancy_check.c.ok.is_(None))
        .values(ok=ok, detail=detail[:400], finished_at=now)
    )


def last_finished(tx: Connection) -> list[dict[str, Any]]:
    """The newest finished check of each detector."""
    newest = (
        select(func.max(constancy_check.c.id))
        .where(constancy_check.c.ok.is_not(None))
        .group_by(constancy_check.c.detector)
    )
    rows = tx.execute(
        select(constancy_check).where(constancy_check.c.id.in_(newest)).order_by(constancy_check.c.detector)
    )
    return [dict(r) for r in rows.mappings()]


def first_due(tx: Connection) -> datetime | None:
    due: datetime | None = tx.execute(select(func.min(constancy_check.c.due_at))).scalar_one()
    return due


def between(tx: Connection, start: datetime, end: datetime) -> list[dict[str, Any]]:
    rows = tx.execute(
        select(constancy_check)
        .where(constancy_check.c.started_at >= start, constancy_check.c.started_at < end)
        .order_by(constancy_check.c.id)
    )
    return [dict(r) for r in rows.mappings()]


def forget_studies(tx: Connection, before: datetime) -> list[str]:
    """Remove the rows of constancy studies that were checked before then; returns digests to take off the spool.

    The check's own row, and its audit events, stay: a phantom every quarter of an hour must not fill the disk.
    """
    checked = select(constancy_check.c.study_instance_uid).where(
        constancy_check.c.ok.is_not(None), constancy_check.c.finished_at < before
    )
    old = select(study.c.id).where(study.c.constancy, study.c.study_instance_uid.in_(checked))
    ids = list(tx.execute(old).scalars())
    if not ids:
        return []
    of_series = select(series.c.id).where(series.c.study_id.in_(ids))
    digests = list(tx.execute(select(instance.c.digest).where(instance.c.series_id.in_(of_series))).scalars())
    of_runs = select(run.c.id).where(run.c.study_id.in_(ids))
    of_alerts = select(alert.c.id).where(alert.c.study_id.in_(ids))
    of_items = select(worklist_item.c.id).where(worklist_item.c.study_id.in_(ids))
    tx.execute(delete(delivery).where(delivery.c.alert_id.in_(of_alerts)))
    tx.execute(delete(alert).where(alert.c.study_id.in_(ids)))
    tx.execute(delete(finding).where(finding.c.study_id.in_(ids)))
    tx.execute(delete(output).where(output.c.run_id.in_(of_runs)))
    tx.execute(delete(run).where(run.c.study_id.in_(ids)))
    tx.execute(delete(instance).where(instance.c.series_id.in_(of_series)))
    tx.execute(delete(series).where(series.c.study_id.in_(ids)))
    tx.execute(delete(claim).where(claim.c.worklist_item_id.in_(of_items)))
    tx.execute(delete(worklist_item).where(worklist_item.c.study_id.in_(ids)))
    tx.execute(delete(study).where(study.c.id.in_(ids)))
    return digests


def add_notice(tx: Connection, kind: str, text: str, route: str, control_id: str, now: datetime) -> None:
    """Tell an operator over one route; sent by the relay until the peer answers."""
    tx.execute(
        insert(operator_notice).values(
            kind=kind,
            text=text[:400],
            route=route,
            control_id=control_id,
            created_at=now,
            next_attempt_at=now,
        )
    )


def has_notice(tx: Connection, kind: str, text: str, route: str) -> bool:
    """Was this route told exactly this before?"""
    n = operator_notice.c
    query = select(n.id).where(n.kind == kind, n.text == text[:400], n.route == route)
    return tx.execute(query.limit(1)).first() is not None


def due_notice(tx: Connection, route: str, now: datetime) -> dict[str, Any] | None:
    row = (
        tx.execute(
            select(operator_notice)
            .where(
                operator_notice.c.sent_at.is_(None),
                operator_notice.c.route == route,
                operator_notice.c.next_attempt_at <= now,
            )
            .order_by(operator_notice.c.id)
            .limit(1)
        )
        .mappings()
        .first()
    )
    return dict(row) if row else None


def record_notice(
    tx: Connection, notice_id: int, sent: bool, now: datetime, next_attempt_at: datetime
) -> None:
    values: dict[str, Any] = {"attempts": operator_notice.c.attempts + 1, "next_attempt_at": next_attempt_at}
    if sent:
        values["sent_at"] = now
    tx.execute(update(operator_notice).where(operator_notice.c.id == notice_id).values(**values))
