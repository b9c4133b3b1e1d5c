"""Proves that triage works: phantoms with known findings go through the whole real path on a schedule (P11, H1).

They come under a reserved patient id, hidden from readers and reports. If a flag does not come in time `/health`
turns unhealthy and an operator notice goes out: this is how a silent failure becomes loud.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
from sqlalchemy import Connection

from triage.domain.alerting import AlertState
from triage.domain.finding import Finding
from triage.domain.run import RunState
from triage.domain.study import CONSTANCY_PATIENT_PREFIX
from triage.log import get_logger
from triage.phantom.identity import identity_for, uid_of
from triage.phantom.person import make_thorax
from triage.phantom.write import write_ct, write_radiograph
from triage.store import alerts, audit, constancy, events, results, runs, studies, worklist
from triage.workflow.site import NewId

DEADLINE = timedelta(seconds=60)  # outages are told within one interval and this (P11)
SEED = 20_261
CT_SLICES = 150
DRIFT = 0.05  # of a probability: the same release answers the same, whatever decodes and computes
FINDING_OF = {"chest_xray": "pneumothorax", "lung_nodule": "nodule"}
log = get_logger()


def begin(tx: Connection, detector: str, study_instance_uid: str, now: datetime) -> int:
    """Note what is about to be sent and by when its flag must be there."""
    return constancy.add(tx, detector, study_instance_uid, FINDING_OF[detector], now, now + DEADLINE)


def judge(tx: Connection, operator_routes: Sequence[str], ids: NewId, now: datetime) -> int:
    """End every check whose flag came, or whose time is over; returns how many ended."""
    for study_instance_uid in constancy.left_open(tx):
        _put_away(tx, study_instance_uid, now)  # its flag came after its check had ended
    ended = 0
    for check in constancy.pending(tx):
        ok, detail = _verdict(tx, check)
        if ok is None and now <= check["due_at"]:
            continue
        passed = ok is True and now <= check["due_at"] + DEADLINE
        detail = detail or f"no flag within {DEADLINE.total_seconds():.0f} s"
        constancy.finish(tx, check["id"], passed, detail, now)
        _put_away(tx, check["study_instance_uid"], now)
        ended += 1
        events.publish(tx, now, "health", None, constancy=passed)
        if not passed:
            audit.append(
                tx, now, "triage", "constancy.missed", "constancy_check", check["id"], {"detail": detail}
            )
            text = f"Triage is not working: constancy check of {check['detector']} failed ({detail}). Run: triage doctor"
            for route in operator_routes:
                constancy.add_notice(tx, "constancy.missed", text, route, ids(), now)
            log.error("constancy.missed", detector=check["detector"], detail=detail, fix="triage doctor")
    return ended


def _verdict(tx: Connection, check: dict[str, Any]) -> tuple[bool | None, str]:
    """(True when flagged, False when analysed without flag, None while it is on its way; words)."""
    study_id = studies.find_study(tx, check["study_instance_uid"])
    if study_id is None:
        return None, ""
    current = [r for r in runs.current(tx, study_id) if r["detector"] == check["detector"]]
    ended = [r for r in current if runs.is_terminal(r["state"])]
    if not ended or len(ended) < len(current):
        return None, ""
    run = ended[-1]
    if run["state"] != RunState.COMPLETED.value:
        return False, f"run ended as {run['state']} {run['reason_code']}".strip()
    found = results.findings_of_runs(tx, [run["id"]])[run["id"]]
    accepted = run["constancy"]
    if accepted and not accepted["flagged"]:
        return _as_accepted(found, accepted)
    if any(f.name == check["finding_name"] and f.actionable for f in found):
        seconds = (run["finished_at"] - check["started_at"]).total_seconds()
        return True, f"flagged after {seconds:.1f} s"
    return False, f"the known {check['finding_name']} was not flagged"


def _as_accepted(found: Sequence[Finding], accepted: dict[str, Any]) -> tuple[bool, str]:
    """For a release that does not flag the phantom: does it still answer what it did when it took effect?"""
    name, before = accepted["finding"], accepted["probability"]
    now = max((f.probability for f in found if f.name == name), default=0.0)
    return abs(
        now - before
    ) <= DRIFT, f"{name} {now:.3f}, {before:.3f} when the release took effect (no flag expected)"


def _put_away(tx: Connection, study_instance_uid: str, now: datetime) -> None:
    study_id = studies.find_study(tx, study_instance_uid)
    if study_id is None:
        return
    for alert in alerts.alive(tx, study_id).values():
        alerts.move(tx, alert["id"], AlertState.CLOSED, now)
    item = worklist.find_item(tx, study_id)
    if item is not None:
        worklist.set_values(tx, item["id"], state="withdrawn")


class Phantoms:
    """The two phantoms on disk, made once (seconds), sent each time under new UIDs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def files(self, detector: str, now: datetime) -> list[Path]:
        """DICOM files of one fresh constancy study."""
        template = self._folder / "template" / detector
        if not (template / "ready").exists():
            self._make(detector, template)
        target = self._folder / "sending" / detector
        target.mkdir(parents=True, exist_ok=True)
        for old in target.glob("*.dcm"):
            old.unlink()
        stamp = now.isoformat()
        return [_restamped(p, target / p.name, stamp, now) for p in sorted(template.glob("*.dcm"))]

    def _make(self, detector: str, template: Path) -> None:
        template.mkdir(parents=True, exist_ok=True)
        finding = FINDING_OF[detector]
        thorax = make_thorax(SEED, [finding])
        now = datetime(2026, 1, 1)  # noqa: DTZ001 - replaced at each sending
        modality = "DX" if detector == "chest_xray" else "CT"
        identity = identity_for(
            SEED, modality, now, sex=thorax.body.sex, patient_id=f"{CONSTANCY_PATIENT_PREFIX}-{modality}"
        )
        if modality == "DX":
            write_radiograph(template, thorax, identity=identity)
        else:
            write_ct(template, thorax, identity=identity, slices=CT_SLICES)
        (template / "ready").touch()


def _restamped(source: Path, target: Path, stamp: str, now: datetime) -> Path:
    """The same object as a new instance of a new study, acquired now."""
    ds = pydicom.dcmread(source)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        if keyword in ds:
            setattr(ds, keyword, uid_of(str(ds[keyword].value), stamp))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        if keyword in ds:
            setattr(ds, keyword, now.strftime("%Y%m%d"))
    for keyword in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        if keyword in ds:
            setattr(ds, keyword, now.strftime("%H%M%S"))
    ds.save_as(target, enforce_file_format=True)
    return target


def study_uid(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)
