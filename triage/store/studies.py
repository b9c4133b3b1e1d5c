"""Studies and what stands in their rows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from triage.store.schema import patient, series, study


def get_study(tx: Connection, study_id: int) -> dict[str, Any]:
    query = (
        select(
            study,
            patient.c.patient_id.label("patient_code"),
            patient.c.issuer_of_patient_id,
            patient.c.patient_name,
            patient.c.patient_birth_date,
            patient.c.patient_sex,
        )
        .join(patient, patient.c.id == study.c.patient_id)
        .where(study.c.id == study_id)
    )
    return dict(tx.execute(query).mappings().one())


def find_study(tx: Connection, study_instance_uid: str) -> int | None:
    return tx.execute(
        select(study.c.id).where(study.c.study_instance_uid == study_instance_uid)
    ).scalar_one_or_none()


def series_of(tx: Connection, study_id: int) -> list[dict[str, Any]]:
    return [
        dict(r)
        for r in tx.execute(
            select(series).where(series.c.study_id == study_id).order_by(series.c.id)
        ).mappings()
    ]
