"""`/api/v1/oncall`: the on-call calendar that the ladder reads."""

from __future__ import annotations

from typing import Any

from triage.store import oncall
from triage.web.context import Call, Route, stamp
from triage.web.models.alerts import Duties, DutyAdded, DutyBody
from triage.web.models.base import Nothing
from triage.workflow import oncall as work


def get_duties(call: Call) -> dict[str, Any]:
    """Duties that have not ended, by site and time."""
    return {"duties": [duty(d) for d in oncall.listing(call.tx, call.now)], "as_of": stamp(call.now)}


def add_duty(call: Call) -> dict[str, Any]:
    """Name who is on call; 409 when somebody is already."""
    body: DutyBody = call.body
    duty_id = work.add_duty(
        call.tx, site=body.site, place=body.place, person=body.person, contact=body.contact, starts_at=body.starts_at,
        ends_at=body.ends_at, by=call.who.name, now=call.now,
    )  # fmt: skip
    return {"id": duty_id}


def remove_duty(call: Call, number: int) -> dict[str, Any]:
    """Take a duty out of the calendar."""
    work.remove_duty(call.tx, number, call.who.name, call.now)
    return {}


def duty(d: dict[str, Any]) -> dict[str, Any]:
    times = {"starts_at": stamp(d["starts_at"]), "ends_at": stamp(d["ends_at"])}
    return {k: d[k] for k in ("id", "site", "place", "person", "contact", "made_by")} | times


ROUTES = (
    Route(path="/api/v1/oncall", view=get_duties, scopes=("worklist:read", "admin"), answer=Duties),
    Route(
        path="/api/v1/oncall", view=add_duty, method="POST", scopes=("admin",), body=DutyBody,
        answer=DutyAdded,
    ),
    Route(
        path="/api/v1/oncall/<id:number>", view=remove_duty, method="DELETE", scopes=("admin",), body=Nothing,
        answer=Nothing,
    ),
)  # fmt: skip
