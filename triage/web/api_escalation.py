"""`/api/v1/admin/escalation` and `/routes/.../test`: the ladder, its rehearsal with a report, a test of a way out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from triage.store import audit, drills, oncall
from triage.web.api_oncall import duty
from triage.web.context import Call, Route, stamp
from triage.web.models.base import Nothing, Request, Time
from triage.web.models.system import PeerStep
from triage.workflow import budget, drill
from triage.workflow.route_check import check_route
from triage.workflow.site import new_id, site_of

ADMIN = ("admin",)


class DrillBody(Request):
    finding: Annotated[str, Field(max_length=40)] = drill.FINDING


class DrillBegun(BaseModel):
    alert_id: int


class RouteTestAnswer(BaseModel):
    route: str
    ok: bool
    control_id: str
    steps: list[PeerStep]
    next: str


class Escalation(BaseModel):
    ladder: list[dict[str, Any]]
    on_call: list[dict[str, Any]]
    drills: list[dict[str, Any]]
    budget: dict[str, Any]
    as_of: Time


def get_escalation(call: Call) -> dict[str, Any]:
    """The ladder as it is set, who is on call now and next, the alarm budget, and the drills with their reports."""
    rungs = [
        {
            "step": i,
            "after_minutes": r.after.total_seconds() / 60,
            "routes": list(r.routes),
            "on_call": r.on_call,
        }
        for i, r in enumerate(site_of(call.web.settings).ladder)
    ]
    return {
        "ladder": rungs,
        "on_call": [duty(d) for d in oncall.listing(call.tx, call.now)],
        "drills": [_stamped(r) for r in reports(call)],
        "budget": budget.as_json(budget.loudness(call.tx, call.now)),
        "as_of": stamp(call.now),
    }


def reports(call: Call) -> list[dict[str, Any]]:
    return [drill.report(call.tx, held) for held in drills.listing(call.tx)]


def _stamped(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _stamped(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_stamped(v) for v in value]
    return stamp(value) if isinstance(value, datetime) else value


def begin_drill(call: Call) -> dict[str, Any]:
    """Walk the ladder with a marked alert of no patient."""
    body: DrillBody = call.body
    site = site_of(call.web.settings)
    return {"alert_id": drill.begin(call.tx, site, call.who.name, new_id, call.now, body.finding)}


def end_drill(call: Call, number: int) -> dict[str, Any]:
    """Call a drill off."""
    drill.end(call.tx, number, call.who.name, call.now)
    return {}


def test_route(call: Call, name: str) -> dict[str, Any]:
    """Send a marked test message over its real channel. No transaction is open meanwhile."""
    check = check_route(call.web.settings, name, new_id, call.now)
    detail = {"ok": check.ok, "control_id": check.control_id}
    with call.web.database.write() as tx:
        audit.append(tx, call.now, call.who.name, "route.tested", "route", name, detail)
    return check.as_json(name)


_BASE = "/api/v1/admin/escalation"
ROUTES = (
    Route(path=_BASE, view=get_escalation, scopes=ADMIN, answer=Escalation),
    Route(
        path=f"{_BASE}/drill", view=begin_drill, method="POST", scopes=ADMIN, body=DrillBody, answer=DrillBegun
    ),
    Route(
        path=f"{_BASE}/drill/<id:number>/end", view=end_drill, method="POST", scopes=ADMIN, body=Nothing,
        answer=Nothing,
    ),
    Route(
        path="/api/v1/admin/routes/<string(maxlength=40):name>/test", view=test_route, method="POST", scopes=ADMIN,
        answer=RouteTestAnswer, needs_tx=False,
    ),
)  # fmt: skip
