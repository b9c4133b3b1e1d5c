"""Alerts: raised, confirmed and withdrawn in the transaction that stores findings; climbed and delivered by rows.

A constancy study's alert is a real row on the real path, but is told to nobody and closed by its check.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from triage.domain.alerting import AlertState, MessageKind, Rung, alerting, rungs_due
from triage.domain.finding import Finding
from triage.store import alerts, audit, deliveries, drills, events, oncall, reading, results, studies
from triage.workflow.rank import rank
from triage.workflow.site import NewId, Site


def settle_study(tx: Connection, study_id: int, site: Site, ids: NewId, now: datetime) -> None:
    """Place and alerts of a study after any of its runs changed."""
    rank(tx, study_id, now)
    settle_alerts(tx, study_id, site, ids, now)


def settle_alerts(
    tx: Connection, study_id: int, site: Site, ids: NewId, now: datetime,
    why: str = "no longer found by the newest run", told_as: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Make the alerts of a study equal to what its current runs found (I8, I9).

    why, told_as  as in `withdraw`, for those that are found no longer
    """
    counting = results.counting_findings(tx, study_id)
    wanted = alerting([f for _, f in counting])
    run_of = {id(f): run_id for run_id, f in counting}
    held = alerts.alive(tx, study_id)
    reported = {
        a["finding_name"] for a in alerts.of_study(tx, study_id) if a["state"] == AlertState.CLOSED.value
    }
    for name, finding in wanted.items():
        if name in held:
            alerts.confirm(tx, held[name]["id"], run_of[id(finding)], finding.probability, finding.band.value)
        elif name not in reported:  # a reader who reported the study is not called again for the same finding
            _raise(tx, study_id, run_of[id(finding)], finding, site, ids, now)
    for name in sorted(held.keys() - wanted.keys()):
        withdraw(tx, held[name]["id"], study_id, why, ids, now, told_as)


def _raise(
    tx: Connection, study_id: int, run_id: int, finding: Finding, site: Site, ids: NewId, now: datetime
) -> None:
    alert_id = alerts.add(tx, study_id, run_id, finding.name, finding.probability, finding.band.value, now)
    if not studies.get_study(tx, study_id)["constancy"]:
        tell(tx, alert_id, 0, site.ladder[0].routes, ids, now)
        audit.append(
            tx, now, "triage", "alert.raised", "alert", alert_id, {"finding": finding.name, "run": run_id}
        )
    events.publish(tx, now, "alert", study_id, alert_id=alert_id, state=AlertState.OPEN.value)


def tell(
    tx: Connection,
    alert_id: int,
    rung: int,
    routes: Sequence[str],
    ids: NewId,
    now: datetime,
    recipient: str = "",
) -> None:
    """A delivery for each route of a rung; a second call adds nothing."""
    for route in routes:
        deliveries.add(tx, alert_id, route, rung, MessageKind.RESULT, ids(), now, recipient=recipient)


def withdraw(
    tx: Connection, alert_id: int, study_id: int, why: str, ids: NewId, now: datetime,
    told_as: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Recall an alert: stop what was not sent, correct what was (standards 7.2, withdrawal).

    told_as  identity under which it was told, where the study is another's now
    """
    if not alerts.move(tx, alert_id, AlertState.WITHDRAWN, now):
        return
    for kind in (MessageKind.RESULT, MessageKind.CORRECTION):
        deliveries.cancel_waiting(tx, alert_id, kind)
    for route in deliveries.told_routes(tx, alert_id):
        deliveries.add(tx, alert_id, route, 0, MessageKind.WITHDRAWAL, ids(), now, told_as)
    audit.append(tx, now, "triage", "alert.withdrawn", "alert", alert_id, {"why": why})
    events.publish(tx, now, "alert", study_id, alert_id=alert_id, state=AlertState.WITHDRAWN.value)


def correct(tx: Connection, alert_id: int, study_id: int, state: str, ids: NewId, now: datetime) -> None:
    """Who was told hears how the patient and the order are named now; the rung of a correction is its number."""
    for route in deliveries.told_routes(tx, alert_id):
        count, waits = deliveries.corrections(tx, alert_id, route)
        if not waits:
            deliveries.add(tx, alert_id, route, count, MessageKind.CORRECTION, ids(), now)
    events.publish(tx, now, "alert", study_id, alert_id=alert_id, state=state)


def is_due(alert: dict[str, Any], ladder: Sequence[Rung], grace: timedelta, now: datetime) -> bool:
    """Has the time of its next rung come, or is it over after the last?"""
    raised_at = _raised_at(alert, now)
    ended = alert["step"] >= len(ladder) - 1 and now >= raised_at + ladder[-1].after + grace
    return ended or bool(rungs_due(ladder, raised_at, alert["step"], now))


def climb(
    tx: Connection, alert_id: int, ladder: Sequence[Rung], grace: timedelta, ids: NewId, now: datetime
) -> bool:
    """An open alert whose next rung's time has come goes up one rung; after the last it is exhausted.

    One rung a call, so that no rung is skipped and each is told once (I12). `grace` after the last rung before the
    alert counts as exhausted: still red, still to be acknowledged. False when nothing was to be done.
    """
    alert = alerts.get(tx, alert_id)
    if (
        alert is None
        or alert["state"] != AlertState.OPEN.value
        or not is_due(alert, ladder, grace, now)
        or (studies.get_study(tx, alert["study_id"])["constancy"] and not alert["drill"])
    ):
        return False
    if rungs_due(ladder, _raised_at(alert, now), alert["step"], now):
        return next_rung(tx, alert, ladder, ids, now)
    # Nobody answered: an alert stays red until somebody does; a drill is over.
    ended = AlertState.CLOSED if alert["drill"] else AlertState.EXHAUSTED
    if not alerts.move(tx, alert_id, ended, now):
        return False
    if alert["drill"]:
        drills.stop_sending(tx, alert_id)
    audit.append(tx, now, "triage", "alert.exhausted", "alert", alert_id, {"step": alert["step"]})
    tell_pages(tx, alert, ended, now, step=alert["step"])
    return True


def next_rung(
    tx: Connection, alert: dict[str, Any], ladder: Sequence[Rung], ids: NewId, now: datetime, why: str = ""
) -> bool:
    """One rung up. why: what brought it there before its time. False on the last rung, or when another was faster."""
    step = alert["step"] + 1
    if step >= len(ladder) or not alerts.climb(tx, alert["id"], step, now):
        return False
    contact = _call(tx, alert, ladder[step].on_call, now) if ladder[step].on_call else ""
    tell(tx, alert["id"], step, ladder[step].routes, ids, now, contact)
    detail = {"step": step} | ({"why": why} if why else {})
    audit.append(tx, now, "triage", "alert.escalated", "alert", alert["id"], detail)
    tell_pages(tx, alert, AlertState.OPEN, now, step=step)
    return True


def tell_pages(tx: Connection, alert: dict[str, Any], state: AlertState, now: datetime, **data: Any) -> None:
    """Open pages hear of it; of a drill without its study, which is hidden from them."""
    study_id = None if alert["drill"] else alert["study_id"]
    events.publish(tx, now, "alert", study_id, alert_id=alert["id"], state=state.value, **data)


def _raised_at(alert: dict[str, Any], now: datetime) -> datetime:
    raised_at: datetime = alert["raised_at"]
    return min(raised_at, now)  # a stamp from a clock that was ahead delays nothing (P17)


def _call(tx: Connection, alert: dict[str, Any], place: int, now: datetime) -> str:
    """Put the alert on the page of who is on call; returns their mail address. Whom a person chose keeps it at first."""
    study = studies.get_study(tx, alert["study_id"])
    duty = oncall.who(tx, study["site"], place, now)
    if duty is None:
        return ""
    if place > 1 or not alert["assigned_to"]:
        reading.assign_alert(tx, alert["id"], duty["person"], alerts.UNANSWERED)
    audit.append(
        tx, now, "triage", "alert.called", "alert", alert["id"], {"person": duty["person"], "place": place}
    )
    return str(duty["contact"])


def close_alerts(tx: Connection, study_id: int, by: str, why: str, now: datetime) -> int:
    """Closing rules (b) and (d): a report at least preliminary, or the order cancelled (ux 9)."""
    closed = 0
    for alert in alerts.alive(tx, study_id).values():
        if alerts.move(tx, alert["id"], AlertState.CLOSED, now):
            deliveries.cancel_waiting(tx, alert["id"], MessageKind.RESULT)
            audit.append(tx, now, by, "alert.closed", "alert", alert["id"], {"why": why})
            events.publish(tx, now, "alert", study_id, alert_id=alert["id"], state=AlertState.CLOSED.value)
            closed += 1
    return closed
