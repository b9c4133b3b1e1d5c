"""Findings of runs, and the earlier scan that a new one is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, insert, select

from triage.domain.finding import Band, Finding, Growth, Location, Measurements, SliceMask
from triage.domain.run import RunState
from triage.store import runs
from triage.store.schema import finding, release, run, study


def add_findings(tx: Connection, run_id: int, study_id: int, findings: Sequence[Finding]) -> None:
    places: dict[str, int] = {}
    rows = []
    for f in findings:
        place = places[f.name] = places.get(f.name, -1) + 1
        rows.append(
            {
                "run_id": run_id,
                "study_id": study_id,
                "name": f.name,
                "place": place,
                "probability_raw": f.probability_raw,
                "probability": f.probability,
                "band": f.band.value,
                "threshold": f.threshold,
                "actionable": f.actionable,
                "location": asdict(f.location) if f.location else None,
                "measurements": asdict(f.measurements) if f.measurements else None,
                "growth": asdict(f.growth) if f.growth else None,
            }
        )
    if rows:
        tx.execute(insert(finding), rows)


def findings_of_runs(tx: Connection, run_ids: Sequence[int]) -> dict[int, list[Finding]]:
    found: dict[int, list[Finding]] = {i: [] for i in run_ids}
    if run_ids:
        rows = tx.execute(
            select(finding).where(finding.c.run_id.in_(run_ids)).order_by(finding.c.id)
        ).mappings()
        for r in rows:
            found[r["run_id"]].append(_finding(dict(r)))
    return found


def counting_findings(tx: Connection, study_id: int) -> list[tuple[int, Finding]]:
    """(run id, finding) of completed current runs: what may move the study."""
    completed = [r["id"] for r in runs.current(tx, study_id) if r["state"] == RunState.COMPLETED.value]
    return [(i, f) for i, fs in findings_of_runs(tx, completed).items() for f in fs]


def _finding(r: dict[str, Any]) -> Finding:
    location, measurements = r["location"], r["measurements"]
    return Finding(
        name=r["name"],
        probability_raw=r["probability_raw"],
        probability=r["probability"],
        band=Band(r["band"]),
        actionable=r["actionable"],
        threshold=r["threshold"],
        location=Location(
            tuple((float(x), float(y)) for x, y in location["outline"]),
            location["side"],
            location["zone"],
            tuple(SliceMask(**s) for s in location.get("region", ())),
        )
        if location
        else None,
        measurements=Measurements(**{**measurements, "center_lps_mm": tuple(measurements["center_lps_mm"])})
        if measurements
        else None,
        growth=Growth(**r["growth"]) if r["growth"] else None,
    )


def prior_scan(tx: Connection, study_id: int, detector: str) -> dict[str, Any] | None:
    """The newest scan of this patient before this study that the detector looked at, to be compared with.

    returns  id (of the run), lung_map, days between the two acquisitions, study_instance_uid; None when there is none,
             or nobody says when either was acquired
    """
    this = tx.execute(select(study.c.patient_id, study.c.acquired_at).where(study.c.id == study_id)).one()
    if this.acquired_at is None:
        return None
    row = tx.execute(
        select(run.c.id, run.c.lung_map, study.c.acquired_at, study.c.study_instance_uid)
        .join(study, study.c.id == run.c.study_id)
        .join(release, release.c.id == run.c.release_id)
        .where(
            study.c.patient_id == this.patient_id,
            study.c.acquired_at < this.acquired_at,
            study.c.constancy.is_(False),
            release.c.detector == detector,
            run.c.state == RunState.COMPLETED.value,
            run.c.queue != runs.SHADOW,
            run.c.lung_map.is_not(None),
        )
        .order_by(study.c.acquired_at.desc(), run.c.id.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    return {
        "id": row.id,
        "lung_map": row.lung_map,
        "days": (this.acquired_at - row.acquired_at).days,
        "study_instance_uid": row.study_instance_uid,
    }
