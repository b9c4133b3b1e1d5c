"""Studies without a flag that are read a second time, blind: what tells how much was missed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from triage.store.measures import cohort
from triage.store.runs import SHADOW
from triage.store.schema import double_read, finding, run, study, worklist_item


@dataclass(frozen=True, kw_only=True)
class DoubleRead:
    """findings: names that the second reader saw; read_at None while nobody has looked."""

    study_id: int
    study_instance_uid: str
    drawn_at: datetime
    reader: str
    read_at: datetime | None
    findings: tuple[str, ...]


def unflagged_between(tx: Connection, start: datetime, end: datetime) -> list[tuple[int, str]]:
    """(id, Study Instance UID) of read studies of the period that were analysed and raised no flag."""
    flagged = (
        select(run.c.study_id)
        .join(finding, finding.c.run_id == run.c.id)
        .where(run.c.state == "completed", run.c.queue != SHADOW, finding.c.actionable)
    )
    rows = tx.execute(
        select(study.c.id, study.c.study_instance_uid)
        .join(worklist_item, worklist_item.c.study_id == study.c.id)
        .where(
            cohort(start, end),
            worklist_item.c.state == "read",
            worklist_item.c.ai_status == "completed",
            study.c.id.not_in(flagged),
        )
        .order_by(study.c.id)
    )
    return [(study_id, uid) for study_id, uid in rows.tuples()]


def add(tx: Connection, study_ids: Iterable[int], now: datetime) -> int:
    """Draw these studies; one that was drawn before stays as it is. Returns how many are new."""
    held = set(tx.execute(select(double_read.c.study_id)).scalars())
    new = [{"study_id": i, "drawn_at": now, "findings": []} for i in study_ids if i not in held]
    if new:
        tx.execute(insert(double_read), new)
    return len(new)


def waiting(tx: Connection, limit: int = 100) -> list[dict[str, Any]]:
    """Studies that nobody has read a second time, oldest draw first."""
    rows = tx.execute(
        select(
            double_read.c.id, study.c.id.label("study_id"), study.c.study_instance_uid, study.c.study_description,
            worklist_item.c.modality, worklist_item.c.view, double_read.c.drawn_at,
        )
        .join(study, study.c.id == double_read.c.study_id)
        .join(worklist_item, worklist_item.c.study_id == study.c.id)
        .where(double_read.c.read_at.is_(None))
        .order_by(double_read.c.id)
        .limit(limit)
    ).mappings()  # fmt: skip
    return [dict(r) for r in rows]


def record(
    tx: Connection, study_id: int, reader: str, findings: Sequence[str], comment: str, now: datetime
) -> bool:
    """False when the study was not drawn, or was read by somebody else meanwhile."""
    done = tx.execute(
        update(double_read)
        .where(double_read.c.study_id == study_id, double_read.c.read_at.is_(None))
        .values(reader=reader, read_at=now, findings=sorted(findings), comment=comment)
    )
    return done.rowcount == 1


def between(tx: Connection, start: datetime, end: datetime) -> list[DoubleRead]:
    """Those of the studies of the period."""
    d = double_read.c
    rows = tx.execute(
        select(study.c.id, study.c.study_instance_uid, d.drawn_at, d.reader, d.read_at, d.findings)
        .join(study, study.c.id == d.study_id)
        .where(cohort(start, end))
        .order_by(d.id)
    ).tuples()
    return [
        DoubleRead(
            study_id=study_id, study_instance_uid=uid, drawn_at=drawn_at, reader=reader, read_at=read_at,
            findings=tuple(findings),
        )
        for study_id, uid, drawn_at, reader, read_at, findings in rows
    ]  # fmt: skip


def count_waiting(tx: Connection) -> int:
    return int(tx.execute(select(func.count()).where(double_read.c.read_at.is_(None))).scalar_one())
