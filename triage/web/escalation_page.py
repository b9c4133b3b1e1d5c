"""The page of the ladder (ux 11): its steps, who is on call, and the drill with its report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Response, request
from sqlalchemy import Connection

from triage.domain.errors import Refused
from triage.store import drills, oncall, users
from triage.web import admin, api_escalation
from triage.web.context import Call
from triage.web.language import N_
from triage.workflow import budget, drill
from triage.workflow import oncall as work
from triage.workflow.site import new_id, site_of

STATES = {
    "running": N_("running"), "acknowledged": N_("acknowledged"), "ended": N_("called off"),
    "nobody_answered": N_("nobody answered"),
}  # fmt: skip


def escalation_page(call: Call, **values: Any) -> str:
    """Steps, calendar, drills; times in the site's zone."""
    settings = call.web.settings
    fit = [u for u in users.listing(call.tx) if u["role"] in ("reader", "lead") and not u["disabled"]]
    return admin.page(
        call, "escalation", ladder=site_of(settings).ladder, duties=oncall.listing(call.tx, call.now), moment_now=call.now,
        people=fit, reports=api_escalation.reports(call), states=STATES, running=drills.running(call.tx),
        zone=str(call.web.zone), budget=budget.as_json(budget.loudness(call.tx, call.now)), **values,
    )  # fmt: skip


def act_on_escalation(call: Call) -> Response:
    """Begin or end a drill; put a duty into the calendar or take it out."""
    form, me, now, settings = request.form, call.who.name, call.now, call.web.settings
    what = form.get("act", "")

    def act(tx: Connection) -> str:
        if what == "drill":
            drill.begin(tx, site_of(settings), me, new_id, now)
            return "drill"
        if what == "end":
            drill.end(tx, admin.number_typed("drill"), me, now)
            return "saved"
        if what == "add":
            place = 2 if form.get("place") == "2" else 1
            work.add_duty(
                tx, site=settings.site, place=place, person=form.get("person", ""), contact=form.get("contact", "").strip(),
                starts_at=_moment(call, "starts_at"), ends_at=_moment(call, "ends_at"), by=me, now=now,
            )  # fmt: skip
            return "saved"
        if what == "remove":
            work.remove_duty(tx, admin.number_typed("duty"), me, now)
            return "removed"
        raise Refused("no such act")

    return admin.submit(call, "escalation", escalation_page, act)


def _moment(call: Call, name: str) -> datetime:
    """A time typed without a zone is the site's."""
    try:
        typed = datetime.fromisoformat(request.form.get(name, ""))
    except ValueError as error:
        raise Refused("give begin and end as date and time") from error
    return (typed if typed.tzinfo else typed.replace(tzinfo=call.web.zone)).astimezone(UTC)


ROUTES = admin.form_routes("escalation", escalation_page, act_on_escalation)
