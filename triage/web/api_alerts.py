"""`/api/v1/alerts`: what a person must acknowledge."""

from __future__ import annotations

from typing import Any

from triage.domain.alerting import AlertState
from triage.domain.errors import Refused
from triage.store import alerts, studies
from triage.web import shapes
from triage.web.context import Call, Route, stamp
from triage.web.models.alerts import AlertAnswer, Alerts, AlertsQuery, HandoverBody
from triage.web.models.base import Nothing
from triage.workflow.read import answers

EVERY_STATE = tuple(s.value for s in AlertState)


def get_alerts(call: Call) -> dict[str, Any]:
    """Alerts, newest first; without `state` those that nobody has answered."""
    query: AlertsQuery = call.query
    return {"alerts": listed(call, states_of(query.state), query.limit), "as_of": stamp(call.now)}


def acknowledge(call: Call, alert_id: int) -> dict[str, Any]:
    """Seen; I take care of it. Ends the ladder."""
    return _said(call, answers.acknowledge(call.tx, alert_id, call.who.name, call.now, version=call.version))


def handover(call: Call, alert_id: int) -> dict[str, Any]:
    """Put it on a colleague's page; the ladder goes on."""
    return _said(call, answers.hand_over(call.tx, alert_id, call.who.name, call.body.to, call.now))


def later(call: Call, alert_id: int) -> dict[str, Any]:
    """Hide the banner for five minutes, once; the ladder goes on."""
    return _said(call, answers.put_off(call.tx, alert_id, call.who.name, call.now))


def listed(call: Call, states: tuple[str, ...], limit: int) -> list[dict[str, Any]]:
    return [shapes.alert(a) for a in alerts.listing(call.tx, states=states, limit=limit)]


def states_of(text: str) -> tuple[str, ...]:
    if text == "all":
        return EVERY_STATE
    words = tuple(w for w in (p.strip() for p in text.split(",")) if w)
    if any(w not in EVERY_STATE for w in words):
        raise Refused(f"state is `all` or one or more of {', '.join(EVERY_STATE)}")
    return words or alerts.UNANSWERED


def _said(call: Call, row: dict[str, Any]) -> dict[str, Any]:
    uid = studies.get_study(call.tx, row["study_id"])["study_instance_uid"]
    return shapes.alert(row | {"study_instance_uid": uid})


ACT = ("alerts:act",)
_A = {"method": "POST", "scopes": ACT, "answer": AlertAnswer}
ROUTES = (
    Route(
        path="/api/v1/alerts", view=get_alerts, scopes=("worklist:read", "alerts:act"), query=AlertsQuery,
        answer=Alerts,
    ),
    Route(path="/api/v1/alerts/<id:alert_id>/acknowledge", view=acknowledge, body=Nothing, **_A),  # type: ignore[arg-type]
    Route(path="/api/v1/alerts/<id:alert_id>/handover", view=handover, body=HandoverBody, **_A),  # type: ignore[arg-type]
    Route(path="/api/v1/alerts/<id:alert_id>/later", view=later, body=Nothing, **_A),  # type: ignore[arg-type]
)  # fmt: skip
