"""Lists of instances by name, as modalities (MPPS) and archives (IAN) give them; kept also before the images come."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select, update

from triage.store.schema import listed_series, performed_step, study
from triage.store.upsert import insert_or_get, upsert


def add_step(tx: Connection, sop_instance_uid: str, **values: Any) -> bool:
    """False when the step is known."""
    return insert_or_get(tx, performed_step, {"sop_instance_uid": sop_instance_uid}, values)[1]


def find_step(tx: Connection, sop_instance_uid: str) -> dict[str, Any] | None:
    query = select(performed_step).where(performed_step.c.sop_instance_uid == sop_instance_uid)
    if tx.dialect.name == "postgresql":
        query = query.with_for_update()
    row = tx.execute(query).mappings().first()
    return dict(row) if row else None


def change_step(tx: Connection, step_id: int, **values: Any) -> None:
    tx.execute(update(performed_step).where(performed_step.c.id == step_id).values(**values))


def list_series(
    tx: Connection, source: str, source_uid: str, series_instance_uid: str, now: datetime, *,
    study_instance_uid: str, here: Collection[str], gone: Collection[str] = (),
) -> None:  # fmt: skip
    key = {"source": source, "source_uid": source_uid, "series_instance_uid": series_instance_uid}
    values = {
        "study_instance_uid": study_instance_uid, "sop_instance_uids": sorted(here), "gone": sorted(gone),
        "said_at": now,
    }  # fmt: skip
    upsert(tx, listed_series, key, values)


def of_source(tx: Connection, source: str, source_uid: str) -> list[dict[str, Any]]:
    query = select(listed_series).where(
        listed_series.c.source == source, listed_series.c.source_uid == source_uid
    )
    return [dict(r) for r in tx.execute(query).mappings()]


def listed(tx: Connection, series_instance_uid: str) -> frozenset[str] | None:
    """SOP Instance UIDs that this series is said to have, later words over earlier ones; None where nobody listed any."""
    rows = tx.execute(
        select(listed_series.c.sop_instance_uids, listed_series.c.gone)
        .where(listed_series.c.series_instance_uid == series_instance_uid)
        .order_by(listed_series.c.said_at, listed_series.c.id)
    ).all()
    found: set[str] = set()
    for row in rows:
        found = (found | set(row.sop_instance_uids)) - set(row.gone)
    return frozenset(found) if rows and found else None


def forget(tx: Connection, before: datetime) -> None:
    """What was said of studies that never came; a study that is here takes its lists along when it goes."""
    held = select(study.c.study_instance_uid)
    old = (listed_series.c.said_at < before, listed_series.c.study_instance_uid.not_in(held))
    tx.execute(delete(listed_series).where(*old))
    tx.execute(delete(performed_step).where(performed_step.c.changed_at < before))
