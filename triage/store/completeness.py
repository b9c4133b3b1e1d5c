"""Series that still arrive: what is known of their end, and which are to be judged now (standards 3)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, update

from triage.store.schema import series, study


def association_ended(tx: Connection, association_id: str, aborted: bool, now: datetime) -> list[int]:
    """Series that this association was bringing; they are to be judged now."""
    return [
        int(r.id)
        for r in tx.execute(
            update(series)
            .where(series.c.open_association == association_id)
            .values(open_association="", association_aborted=aborted, judge_at=now)
            .returning(series.c.id)
        )
    ]


def forget_associations(tx: Connection, receiver_id: str, now: datetime) -> int:
    """At the start of a receiver: what its predecessor had open ended without release."""
    return tx.execute(
        update(series)
        .where(series.c.open_association.startswith(f"{receiver_id}:", autoescape=True))
        .values(open_association="", association_aborted=True, judge_at=now)
    ).rowcount


def series_to_judge(tx: Connection, now: datetime, limit: int = 200) -> list[int]:
    query = select(series.c.id).where(series.c.judge_at <= now).order_by(series.c.judge_at).limit(limit)
    return [int(r.id) for r in tx.execute(query)]


def get_series(tx: Connection, series_id: int) -> dict[str, Any]:
    query = (
        select(series, study.c.study_instance_uid, study.c.constancy)
        .join(study, study.c.id == series.c.study_id)
        .where(series.c.id == series_id)
    )
    if tx.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE already excludes other writers
        query = query.with_for_update(of=series)
    return dict(tx.execute(query).mappings().one())


def settle_series(tx: Connection, series_id: int, because: str) -> None:
    tx.execute(
        update(series)
        .where(series.c.id == series_id)
        .values(state="complete", complete_because=because[:40], judge_at=None)
    )


def look_again(tx: Connection, series_id: int, at: datetime | None) -> None:
    tx.execute(update(series).where(series.c.id == series_id).values(judge_at=at))


def set_expected_count(tx: Connection, series_instance_uid: str, count: int, now: datetime) -> list[int]:
    """Exact evidence: how many instances the archive (or MPPS, IAN) says this series has. Ids of what is to be judged."""
    query = (
        update(series)
        .where(series.c.series_instance_uid == series_instance_uid)
        .values(expected_count=count, judge_at=now)
    )
    return list(tx.execute(query.returning(series.c.id)).scalars())


@dataclass(frozen=True)
class Uncounted:
    """A CT series whose number of instances nobody has said yet."""

    study_instance_uid: str
    series_instance_uid: str


def uncounted_ct(tx: Connection, limit: int = 50) -> list[Uncounted]:
    """CT series that still arrive, newest first, to ask the archive about."""
    rows = tx.execute(
        select(study.c.study_instance_uid, series.c.series_instance_uid)
        .join(study, study.c.id == series.c.study_id)
        .where(
            series.c.state == "receiving",
            series.c.modality == "CT",
            series.c.expected_count.is_(None),
            study.c.constancy.is_(False),
        )
        .order_by(series.c.id.desc())
        .limit(limit)
    )
    return [Uncounted(r.study_instance_uid, r.series_instance_uid) for r in rows]


def study_is_arriving(tx: Connection, study_id: int) -> bool:
    query = select(func.count()).where(
        series.c.study_id == study_id, series.c.state == "receiving", series.c.instance_count > 0
    )
    return tx.execute(query).scalar_one() > 0
