"""Rows of the work items that we perform for others: noted, claimed, ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, literal_column, select, update

from triage.store.schema import instance, series, study, task
from triage.store.upsert import insert_or_get

OPEN = ("wanted", "claimed")


def note(tx: Connection, source: str, sop_instance_uid: str, transaction_uid: str, now: datetime) -> bool:
    """A work item that might be ours; False when it is known."""
    key = {"source": source, "sop_instance_uid": sop_instance_uid}
    values = {
        "transaction_uid": transaction_uid, "state": "wanted", "inputs": {}, "next_attempt_at": now,
        "created_at": now,
    }  # fmt: skip
    return insert_or_get(tx, task, key, values)[1]


def _is_open() -> ColumnElement[bool]:
    """As index task_open has it: SQLite proves nothing of bound values."""
    return task.c.state.in_([literal_column(f"'{s}'") for s in OPEN])


def due(tx: Connection, source: str, now: datetime, limit: int = 50) -> list[dict[str, Any]]:
    query = (
        select(task)
        .where(task.c.source == source, _is_open(), task.c.next_attempt_at <= now)
        .order_by(task.c.id)
        .limit(limit)
    )
    return [dict(r) for r in tx.execute(query).mappings()]


def change(tx: Connection, task_id: int, **values: Any) -> bool:
    """Of a work item that is still open; False when it has ended."""
    of = update(task).where(task.c.id == task_id, task.c.state.in_(OPEN))
    if "detail" in values:
        values["detail"] = values["detail"][:400]
    return tx.execute(of.values(**values)).rowcount == 1


def missing(tx: Connection, study_instance_uid: str, inputs: Mapping[str, Sequence[str]]) -> list[str]:
    """Series Instance UIDs, one for each input that is not here; a series without instances named needs one at least."""
    lacking: list[str] = []
    for series_uid, wanted in inputs.items():
        query = (
            select(instance.c.sop_instance_uid)
            .join(series, series.c.id == instance.c.series_id)
            .join(study, study.c.id == series.c.study_id)
            .where(
                series.c.series_instance_uid == series_uid,
                study.c.study_instance_uid == study_instance_uid,
            )
        )
        held = set(tx.execute(query).scalars())
        lacking += [series_uid] * (len(set(wanted) - held) if wanted else not held)
    return lacking


def forget(tx: Connection, before: datetime) -> None:
    tx.execute(delete(task).where(task.c.ended_at < before))
