"""Rehearsals of the ladder: rows as a constancy phantom has them, hidden wherever it is hidden, with an alert marked so.

A drill has no images; its run is there because an alert names one, superseded from the start so that nothing counts it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from triage.domain.alerting import AlertState, DeliveryState
from triage.domain.run import RunState
from triage.domain.study import DRILL_PATIENT_ID
from triage.store.schema import alert, delivery, patient, release, run, series, study
from triage.store.upsert import insert_or_get


def begin(tx: Connection, uid: str, site: str, finding: str, now: datetime) -> int | None:
    """The open alert of a new drill; None while no release is known.

    uid  Study Instance UID of a study that nobody will see
    """
    release_id = tx.execute(select(release.c.id).order_by(release.c.state, release.c.id).limit(1)).scalar()
    if release_id is None:
        return None
    patient_id, _ = insert_or_get(
        tx,
        patient,
        {"patient_id": DRILL_PATIENT_ID, "issuer_of_patient_id": ""},
        {"patient_name": "DRILL^NO PATIENT"},
    )
    study_id = _add(
        tx, study, study_instance_uid=uid, patient_id=patient_id, site=site, first_received_at=now,
        last_received_at=now, constancy=True,
    )  # fmt: skip
    series_id = _add(
        tx, series, study_id=study_id, series_instance_uid=f"{uid}.1", first_instance_at=now, last_instance_at=now,
        state="complete", complete_because="drill",
    )  # fmt: skip
    run_id = _add(
        tx, run, study_id=study_id, series_id=series_id, release_id=release_id, input_digest="drill",
        sop_instance_uids=[], state=RunState.SUPERSEDED.value, requested_at=now, superseded_at=now, notes=[],
    )  # fmt: skip
    return _add(
        tx, alert, study_id=study_id, run_id=run_id, finding_name=finding, probability=1.0, band="high", raised_at=now,
        stepped_at=now, drill=True,
    )  # fmt: skip


def _add(tx: Connection, table: Any, **values: Any) -> int:
    return int(tx.execute(insert(table).values(**values).returning(table.c.id)).scalar_one())


def running(tx: Connection) -> int | None:
    """The drill whose ladder still climbs."""
    query = select(alert.c.id).where(alert.c.drill, alert.c.state == AlertState.OPEN.value).limit(1)
    found: int | None = tx.execute(query).scalar()
    return found


def listing(tx: Connection, limit: int = 20) -> list[dict[str, Any]]:
    """Newest first."""
    query = select(alert).where(alert.c.drill).order_by(alert.c.id.desc()).limit(limit)
    return [dict(r) for r in tx.execute(query).mappings()]


def stop_sending(tx: Connection, alert_id: int) -> None:
    """The drill is over: what has not arrived need not."""
    waits = (delivery.c.alert_id == alert_id, delivery.c.state == DeliveryState.WAITING.value)
    tx.execute(update(delivery).where(*waits).values(state=DeliveryState.CANCELLED.value))
