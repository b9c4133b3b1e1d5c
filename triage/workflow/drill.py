"""A drill: the whole ladder rehearsed with a marked alert of no patient, its acknowledgement, and a report (ux 9).

It walks the same steps as an alert, over the real routes, and stands in no list of studies, no report, no figure.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage.domain.alerting import AlertState
from triage.domain.errors import Conflict, Refused
from triage.domain.finding import FINDING_CODES, PriorityClass
from triage.phantom.identity import uid_of
from triage.store import alerts, audit, deliveries, drills
from triage.workflow.alert import tell, tell_pages
from triage.workflow.read.row import NotFound
from triage.workflow.site import NewId, Site

FINDING = "pneumothorax"


def begin(tx: Connection, site: Site, person: str, ids: NewId, now: datetime, finding: str = FINDING) -> int:
    """Raise the drill's alert and tell the first rung; returns the alert's id.

    raises  Refused for a finding that calls nobody; Conflict while another drill runs
    """
    coded = FINDING_CODES.get(finding)
    if coded is None or coded.priority_class is not PriorityClass.CRITICAL:
        raise Refused("a drill is of a critical finding, such as pneumothorax")
    if drills.running(tx) is not None:
        raise Conflict("a drill is running already; end it first")
    alert_id = drills.begin(tx, uid_of("drill", ids()), site.name, finding, now)
    if alert_id is None:
        raise Refused("no release is known yet; start triage first")
    audit.append(tx, now, person, "drill.started", "alert", alert_id, {"finding": finding})
    tell(tx, alert_id, 0, site.ladder[0].routes, ids, now)
    tell_pages(tx, _drill(tx, alert_id), AlertState.OPEN, now)
    return alert_id


def end(tx: Connection, alert_id: int, person: str, now: datetime) -> None:
    """Call it off. raises  NotFound; Refused when it is over"""
    held = _drill(tx, alert_id)
    if held["state"] != AlertState.OPEN.value or not alerts.move(tx, alert_id, AlertState.CLOSED, now):
        raise Refused("this drill is over")
    drills.stop_sending(tx, alert_id)
    audit.append(tx, now, person, "drill.ended", "alert", alert_id, {"step": held["step"]})
    tell_pages(tx, held, AlertState.CLOSED, now)


def report(tx: Connection, held: dict[str, Any]) -> dict[str, Any]:
    """What became of one drill, rung by rung: when, over which routes, how fast each machine and the person answered."""
    trail = audit.events(tx, object_kind="alert", object_id=str(held["id"]))
    by = {e["act"]: e["actor"] for e in trail}
    climbed = {e["detail"]["step"]: e for e in trail if e["act"] == "alert.escalated"}
    called = {e["at"]: e["detail"]["person"] for e in trail if e["act"] == "alert.called"}
    sent = deliveries.rows(tx, held["id"])
    steps: list[dict[str, Any]] = [{"step": 0, "at": held["raised_at"], "why": "", "called": ""}]
    for number, event in climbed.items():
        at, why = datetime.fromisoformat(event["at"]), event["detail"].get("why", "")
        steps.append({"step": number, "at": at, "why": why, "called": called.get(event["at"], "")})
    for step in steps:
        step["routes"] = [_route(d) for d in sent if d["rung"] == step["step"]]
    seen = held["acknowledged_at"]
    return {
        "id": held["id"],
        "finding": held["finding_name"],
        "state": _state(held, by),
        "started_at": held["raised_at"],
        "started_by": by.get("drill.started", ""),
        "ended_at": held["ended_at"] or seen,
        "ended_by": held["acknowledged_by"] or by.get("drill.ended", ""),
        "seconds": None if seen is None else round((seen - held["raised_at"]).total_seconds(), 1),
        "steps": steps,
    }


def _state(held: dict[str, Any], by: dict[str, str]) -> str:
    if held["state"] == AlertState.CLOSED.value:
        return "ended" if "drill.ended" in by else "nobody_answered"
    return "running" if held["state"] == AlertState.OPEN.value else str(held["state"])


def _route(row: dict[str, Any]) -> dict[str, Any]:
    arrived = row["delivered_at"]
    return {
        "route": row["route"],
        "control_id": row["control_id"],
        "state": row["state"],
        "attempts": row["attempts"],
        "detail": row["detail"],
        "seconds": None if arrived is None else round((arrived - row["created_at"]).total_seconds(), 1),
    }


def _drill(tx: Connection, alert_id: int) -> dict[str, Any]:
    found = alerts.get(tx, alert_id)
    if found is None or not found["drill"]:
        raise NotFound("no such drill")
    return found
