"""Unified Procedure Steps of the reading list: rows, their change, and what is searched."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, case, delete, func, insert, or_, select, update
from sqlalchemy.sql import Select

from triage.domain.workitem import StepState
from triage.store.schema import instance, patient, series, study, workitem, workitem_event, worklist_item

_ALIVE = (StepState.SCHEDULED.value, StepState.IN_PROGRESS.value)


def stale(tx: Connection, now: datetime, limit: int) -> list[dict[str, Any]]:
    """Worklist items whose newest step says something older than they are, or that have none and can be read."""
    newest = (
        select(workitem.c.worklist_item_id, func.max(workitem.c.generation).label("generation"))
        .group_by(workitem.c.worklist_item_id)
        .subquery()
    )
    late = and_(worklist_item.c.bound_at < now, workitem.c.priority != "HIGH", workitem.c.state.in_(_ALIVE))
    never = and_(workitem.c.id.is_(None), worklist_item.c.state.in_(("arriving", "to_read", "claimed")))
    query = (
        select(
            worklist_item.c.id.label("item_id"), worklist_item.c.state, worklist_item.c.priority_class,
            worklist_item.c.bound_at, worklist_item.c.version, study.c.study_instance_uid,
            workitem.c.id.label("workitem_id"), workitem.c.generation, workitem.c.state.label("step_state"),
            workitem.c.sop_instance_uid, workitem.c.priority, workitem.c.readiness,
        )
        .join(study, study.c.id == worklist_item.c.study_id)
        .outerjoin(newest, newest.c.worklist_item_id == worklist_item.c.id)
        .outerjoin(
            workitem,
            and_(
                workitem.c.worklist_item_id == worklist_item.c.id,
                workitem.c.generation == newest.c.generation,
            ),
        )
        .where(
            study.c.constancy.is_(False),
            or_(never, workitem.c.item_version != worklist_item.c.version, late),
        )
        .order_by(worklist_item.c.id)
        .limit(limit)
    )  # fmt: skip
    return [dict(r) for r in tx.execute(query).mappings()]


def add(tx: Connection, **values: Any) -> int:
    return int(tx.execute(insert(workitem).values(**values).returning(workitem.c.id)).scalar_one())


def change(tx: Connection, workitem_id: int, now: datetime, **values: Any) -> None:
    tx.execute(update(workitem).where(workitem.c.id == workitem_id).values(changed_at=now, **values))


def claim(tx: Connection, workitem_id: int, transaction_uid: str, performer: str, now: datetime) -> bool:
    """Take a scheduled step; False when somebody else was faster."""
    taken = (
        update(workitem)
        .where(workitem.c.id == workitem_id, workitem.c.state == StepState.SCHEDULED.value)
        .values(
            state=StepState.IN_PROGRESS.value,
            transaction_uid=transaction_uid,
            performer=performer,
            changed_at=now,
        )
    )
    return tx.execute(taken).rowcount == 1


def find(tx: Connection, sop_instance_uid: str) -> dict[str, Any] | None:
    row = tx.execute(_all().where(workitem.c.sop_instance_uid == sop_instance_uid)).mappings().first()
    return dict(row) if row else None


def search(
    tx: Connection, *, states: Sequence[str] = (), priorities: Sequence[str] = (), readiness: str = "",
    study_instance_uid: str = "", accession_number: str = "", patient_id: str = "",
    sop_instance_uid: str = "", since: datetime, limit: int, offset: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """Steps that match, in the order of the reading list; those that ended before `since` are left out."""
    conditions = [or_(workitem.c.state.in_(_ALIVE), workitem.c.changed_at >= since)]
    for column, values in ((workitem.c.state, states), (workitem.c.priority, priorities)):
        if values:
            conditions.append(column.in_(values))
    for column, value in (
        (workitem.c.sop_instance_uid, sop_instance_uid),
        (workitem.c.readiness, readiness),
        (study.c.study_instance_uid, study_instance_uid),
        (study.c.accession_number, accession_number),
        (patient.c.patient_id, patient_id),
    ):
        if value:
            conditions.append(column == value)
    alive = case((workitem.c.state.in_(_ALIVE), 0), else_=1)
    order = (
        alive, case((workitem.c.priority == "HIGH", 0), else_=1), worklist_item.c.priority_class.desc(),
        worklist_item.c.due_at, workitem.c.id,
    )  # fmt: skip
    rows = tx.execute(_all().where(*conditions).order_by(*order).limit(limit).offset(offset)).mappings()
    return [dict(r) for r in rows]


def series_of(tx: Connection, study_id: int) -> dict[str, list[tuple[str, str]]]:
    """{Series Instance UID: [(SOP class, SOP Instance UID)]} of the images that are to be read."""
    found: dict[str, list[tuple[str, str]]] = {}
    rows = tx.execute(
        select(series.c.series_instance_uid, instance.c.sop_class_uid, instance.c.sop_instance_uid)
        .join(series, series.c.id == instance.c.series_id)
        .where(series.c.study_id == study_id, instance.c.rejected == "")
        .order_by(instance.c.id)
    )
    for series_uid, class_uid, uid in rows:
        found.setdefault(series_uid, []).append((class_uid, uid))
    return found


def tell(
    tx: Connection, row_id: int, uid: str, kind: int, data: dict[str, Any], now: datetime, receiver: str = ""
) -> None:
    """receiver  AE title of the one subscriber that is to hear it; "": all that want to"""
    values = {
        "workitem_id": row_id, "sop_instance_uid": uid, "kind": kind, "data": data, "at": now, "receiver": receiver,
    }  # fmt: skip
    tx.execute(insert(workitem_event).values(**values))


def events_after(tx: Connection, number: int, limit: int = 200) -> list[dict[str, Any]]:
    query = (
        select(workitem_event).where(workitem_event.c.id > number).order_by(workitem_event.c.id).limit(limit)
    )
    return [dict(r) for r in tx.execute(query).mappings()]


def last_event(tx: Connection) -> int:
    return int(tx.execute(select(func.coalesce(func.max(workitem_event.c.id), 0))).scalar_one())


def forget_events(tx: Connection, before: datetime) -> None:
    tx.execute(delete(workitem_event).where(workitem_event.c.at < before))


def _all() -> Select[Any]:
    return (
        select(
            workitem,
            worklist_item.c.study_id, worklist_item.c.modality, worklist_item.c.due_at, worklist_item.c.arrived_at,
            worklist_item.c.reasons, worklist_item.c.priority_class,
            study.c.study_instance_uid, study.c.accession_number, study.c.study_description,
            patient.c.patient_id, patient.c.issuer_of_patient_id, patient.c.patient_name,
            patient.c.patient_birth_date, patient.c.patient_sex,
        )
        .join(worklist_item, worklist_item.c.id == workitem.c.worklist_item_id)
        .join(study, study.c.id == worklist_item.c.study_id)
        .join(patient, patient.c.id == study.c.patient_id)
    )  # fmt: skip
