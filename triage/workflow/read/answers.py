"""A person answers an alert: acknowledge, hand over, later. No machine closes one (ux 9)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from triage.domain.alerting import AlertState
from triage.domain.errors import Refused
from triage.store import alerts, audit, drills, events, reading, studies, users
from triage.workflow.alert import tell_pages
from triage.workflow.read.row import Held, NotFound, Stale

LATER_LENGTH = timedelta(minutes=5)


def acknowledge(
    tx: Connection, alert_id: int, person: str, now: datetime, *, version: int | None = None
) -> dict[str, Any]:
    """Seen; I take care of it. Stops the ladder; it is not a claim and not a report.

    Twice by one person is once. raises  Held when another was first; Refused when it has ended otherwise
    """
    alert = _alert(tx, alert_id)
    if alert["state"] == AlertState.ACKNOWLEDGED.value:
        if alert["acknowledged_by"] == person:
            return alert
        raise Held(alert["acknowledged_by"], None, "acknowledged by")
    if not alerts.move(tx, alert_id, AlertState.ACKNOWLEDGED, now, by=person, version=version):
        now_row = _alert(tx, alert_id)
        if now_row["state"] in alerts.UNANSWERED:
            raise Stale(now_row["version"])
        raise Refused(f"the alert is {now_row['state']}")
    audit.append(
        tx, now, person, "alert.acknowledged", "alert", alert_id,
        {
            "finding": alert["finding_name"],
            "detected_at": alert["raised_at"].isoformat(),
            "seconds": round((now - alert["raised_at"]).total_seconds(), 1),
            "step": alert["step"],
        } | ({"drill": True} if alert["drill"] else {}),
    )  # fmt: skip
    if alert["drill"]:
        drills.stop_sending(tx, alert_id)
    _tell_alert(tx, now, alert, AlertState.ACKNOWLEDGED.value)
    return _alert(tx, alert_id)


def hand_over(tx: Connection, alert_id: int, person: str, to: str, now: datetime) -> dict[str, Any]:
    """Put the alert on a colleague's page; the ladder goes on until somebody acknowledges."""
    alert = _alert(tx, alert_id)
    colleague = users.find_user(tx, to)
    if colleague is None or colleague["disabled"] or colleague["role"] not in ("reader", "lead"):
        raise Refused(f"{to or 'nobody'} cannot take alerts; name a reader or lead")
    if not reading.assign_alert(tx, alert_id, to, alerts.UNANSWERED):
        raise Refused(f"the alert is {alert['state']}")
    audit.append(
        tx, now, person, "alert.handed_over", "alert", alert_id, {"to": to, "from": alert["assigned_to"]}
    )
    _tell_alert(tx, now, alert, alert["state"])
    return _alert(tx, alert_id)


def put_off(tx: Connection, alert_id: int, person: str, now: datetime) -> dict[str, Any]:
    """Hide the banner for five minutes, once; the ladder is not stopped."""
    alert = _alert(tx, alert_id)
    if alert["state"] not in alerts.UNANSWERED:
        raise Refused(f"the alert is {alert['state']}")
    if not reading.hide_alert_until(tx, alert_id, now + LATER_LENGTH):
        raise Refused("an alert can be put off once, and not after its ladder ended")
    audit.append(tx, now, person, "alert.put_off", "alert", alert_id)
    _tell_alert(tx, now, alert, alert["state"])
    return _alert(tx, alert_id)


def _alert(tx: Connection, alert_id: int) -> dict[str, Any]:
    alert = alerts.get(tx, alert_id)
    if alert is None or (studies.get_study(tx, alert["study_id"])["constancy"] and not alert["drill"]):
        raise NotFound("no such alert")
    return alert


def _tell_alert(tx: Connection, now: datetime, alert: dict[str, Any], state: str) -> None:
    tell_pages(tx, alert, AlertState(state), now)
    if not alert["drill"]:
        events.publish(tx, now, "worklist", alert["study_id"])  # the alert column of the row
