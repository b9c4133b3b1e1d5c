"""Alerts: one for each finding of a study that somebody must hear of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from triage.domain.alerting import AlertState
from triage.store.schema import alert, patient, study, worklist_item

ALIVE = (AlertState.OPEN.value, AlertState.ACKNOWLEDGED.value, AlertState.EXHAUSTED.value)
UNANSWERED = (AlertState.OPEN.value, AlertState.EXHAUSTED.value)


def is_alive() -> ColumnElement[bool]:
    """As index alert_alive has it: SQLite proves nothing of bound values."""
    return alert.c.state.in_([literal_column(f"'{s}'") for s in ALIVE])


def alive(tx: Connection, study_id: int) -> dict[str, dict[str, Any]]:
    """Alerts of a study that were neither closed nor withdrawn, by finding name."""
    rows = tx.execute(select(alert).where(alert.c.study_id == study_id, alert.c.state.in_(ALIVE))).mappings()
    return {r["finding_name"]: dict(r) for r in rows}


def add(
    tx: Connection,
    study_id: int,
    run_id: int,
    finding_name: str,
    probability: float,
    band: str,
    now: datetime,
) -> int:
    return int(
        tx.execute(
            insert(alert)
            .values(
                study_id=study_id, run_id=run_id, finding_name=finding_name, probability=probability, band=band,
                raised_at=now, stepped_at=now,
            )
            .returning(alert.c.id)
        ).scalar_one()
    )  # fmt: skip


def confirm(tx: Connection, alert_id: int, run_id: int, probability: float, band: str) -> None:
    """A newer run has the same finding: the alert stands and names the run that counts."""
    tx.execute(
        update(alert).where(alert.c.id == alert_id).values(run_id=run_id, probability=probability, band=band)
    )


def move(
    tx: Connection, alert_id: int, to: AlertState, now: datetime, *, by: str = "", version: int | None = None
) -> bool:
    """Alert to another state; False when it is not alive any more or changed meanwhile."""
    values: dict[str, Any] = {"state": to.value, "version": alert.c.version + 1}
    allowed: Sequence[str] = ALIVE
    if to is AlertState.ACKNOWLEDGED:
        values |= {"acknowledged_at": now, "acknowledged_by": by}
        allowed = UNANSWERED  # an acknowledgement stays (I13)
    elif to is AlertState.EXHAUSTED:
        allowed = (AlertState.OPEN.value,)
    else:
        values["ended_at"] = now
    query = update(alert).where(alert.c.id == alert_id, alert.c.state.in_(allowed))
    if version is not None:
        query = query.where(alert.c.version == version)
    return tx.execute(query.values(**values)).rowcount == 1


def climb(tx: Connection, alert_id: int, step: int, now: datetime) -> bool:
    """One rung up, never down, and only while open (I12)."""
    return (
        tx.execute(
            update(alert)
            .where(alert.c.id == alert_id, alert.c.state == AlertState.OPEN.value, alert.c.step == step - 1)
            .values(step=step, stepped_at=now, version=alert.c.version + 1)
        ).rowcount
        == 1
    )


def open_alerts(tx: Connection) -> list[dict[str, Any]]:
    """What the ladder looks at: real ones and drills."""
    rows = tx.execute(
        select(alert)
        .join(study, study.c.id == alert.c.study_id)
        .where(alert.c.state == AlertState.OPEN.value, or_(study.c.constancy.is_(False), alert.c.drill))
        .order_by(alert.c.raised_at)
    )
    return [dict(r) for r in rows.mappings()]


def listing(
    tx: Connection, *, states: Sequence[str] = UNANSWERED, limit: int = 200, drills: bool = True
) -> list[dict[str, Any]]:
    """Alerts with what a banner shows, newest first; constancy studies are left out, drills on demand."""
    seen: ColumnElement[bool] = study.c.constancy.is_(False)
    if drills:
        seen = or_(seen, alert.c.drill)
    of_states: list[ColumnElement[bool]] = [alert.c.state.in_(list(states))]
    if set(states) <= set(ALIVE):
        of_states.append(is_alive())
    rows = tx.execute(
        select(
            alert, study.c.study_instance_uid, study.c.accession_number, study.c.acquired_at, study.c.site,
            patient.c.patient_name, patient.c.patient_sex, patient.c.patient_id.label("patient_code"),
            study.c.patient_age_years, worklist_item.c.location, worklist_item.c.arrived_at,
        )
        .join(study, study.c.id == alert.c.study_id)
        .join(patient, patient.c.id == study.c.patient_id)
        .outerjoin(worklist_item, worklist_item.c.study_id == study.c.id)
        .where(*of_states, seen)
        .order_by(alert.c.raised_at.desc(), alert.c.id.desc())
        .limit(limit)
    )  # fmt: skip
    return [dict(r) for r in rows.mappings()]


def get(tx: Connection, alert_id: int) -> dict[str, Any] | None:
    row = tx.execute(select(alert).where(alert.c.id == alert_id)).mappings().first()
    return dict(row) if row else None


def of_study(tx: Connection, study_id: int) -> list[dict[str, Any]]:
    return [
        dict(r)
        for r in tx.execute(select(alert).where(alert.c.study_id == study_id).order_by(alert.c.id)).mappings()
    ]
