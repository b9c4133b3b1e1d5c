"""Instances of a series as the steps need them, oldest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from triage.domain.study import InstanceHeader
from triage.store.schema import instance, run, series

_TUPLES = (
    "image_type",
    "patient_orientation",
    "pixel_spacing_mm",
    "image_position_patient",
    "image_orientation_patient",
    "issuer_of_accession_number",
    "window",
)


@dataclass(frozen=True)
class Held:
    """One instance of a series as the steps need it."""

    id: int
    digest: str
    header: InstanceHeader
    received_at: datetime
    wanted: bool


def held(tx: Connection, series_id: int, *, rejected: bool = False) -> list[Held]:
    """Current instances of a series, oldest first: those in use, or those that were rejected."""
    which = instance.c.rejected != "" if rejected else instance.c.rejected == ""
    rows = tx.execute(
        select(instance).where(instance.c.series_id == series_id, which).order_by(instance.c.id)
    ).mappings()
    return [
        Held(r["id"], r["digest"], header_from_json(r["header"]), r["received_at"], r["wanted"]) for r in rows
    ]


def held_by_uid(tx: Connection, sop_instance_uids: list[str]) -> list[Held]:
    """Instances in the order of `sop_instance_uids`."""
    found: dict[str, Held] = {}
    for start in range(0, len(sop_instance_uids), 500):
        part = sop_instance_uids[start : start + 500]
        rows = tx.execute(select(instance).where(instance.c.sop_instance_uid.in_(part))).mappings()
        for r in rows:
            found[r["sop_instance_uid"]] = Held(
                r["id"], r["digest"], header_from_json(r["header"]), r["received_at"], r["wanted"]
            )
    return [found[uid] for uid in sop_instance_uids if uid in found]


def whole_ct_headers(tx: Connection, study_id: int, except_series_id: int) -> dict[str, list[InstanceHeader]]:
    """{Series Instance UID: headers} of the other CT series of a study that a detector reads or has read."""
    looked_at = select(run.c.series_id).where(
        run.c.study_id == study_id, run.c.state.in_(("requested", "running", "completed"))
    )
    rows = tx.execute(
        select(series.c.series_instance_uid, instance.c.header)
        .join(instance, instance.c.series_id == series.c.id)
        .where(
            series.c.study_id == study_id,
            series.c.id != except_series_id,
            series.c.state == "complete",
            series.c.modality == "CT",
            instance.c.wanted,
            instance.c.rejected == "",
            series.c.id.in_(looked_at),
        )
        .order_by(series.c.id, instance.c.id)
    )
    found: dict[str, list[InstanceHeader]] = {}
    for r in rows:
        found.setdefault(r.series_instance_uid, []).append(header_from_json(r.header))
    return found


def header_from_json(document: dict[str, Any]) -> InstanceHeader:
    values = dict(document)
    for name in _TUPLES:  # an object that came before a field was kept has none of it
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    values["other_patient_ids"] = tuple(tuple(other) for other in values.get("other_patient_ids", ()))
    return InstanceHeader(**values)
