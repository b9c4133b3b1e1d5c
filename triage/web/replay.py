"""The queue replay as a page: what a policy would have done to the waits, before it applies (`triage simulate`)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from flask import render_template
from pydantic import Field

from triage.domain.errors import Refused
from triage.domain.priority import Policy
from triage.qa.replay.model import Model, replay_model
from triage.qa.replay.rules import RULES
from triage.qa.replay.site import replay_site
from triage.store import policies
from triage.web.context import Call, Route, stamp
from triage.web.language import N_, _
from triage.web.models.base import Request

TITLES = {
    "first_come": N_("first come"), "order": N_("order priority"), "policy": N_("policy"),
    "policy_without_bound": N_("policy without bound"),
}  # fmt: skip
GROUPS = {
    "all": N_("all"), "flagged": N_("flagged"), "unflagged": N_("not flagged"), "class critical": N_("class critical"),
    "class high": N_("class high"), "class elevated": N_("class elevated"), "class routine": N_("class routine"),
    "ordered STAT": N_("ordered STAT"), "ordered URGENT": N_("ordered URGENT"), "ordered ROUTINE": N_("ordered ROUTINE"),
}  # fmt: skip
HOURS, REPLICATIONS = 48.0, 6  # a page answers in seconds; `triage simulate` takes more
STUDIES_MAX = 20_000


class ReplayQuery(Request):
    source: Literal["", "site", "model"] = ""
    days: Annotated[str, Field(pattern=r"^\d{0,3}$")] = "30"
    readers: Annotated[str, Field(pattern=r"^\d{0,3}$")] = ""
    minutes: Annotated[str, Field(pattern=r"^(\d{1,4}([.,]\d{1,4})?)?$")] = ""
    arrivals: Annotated[str, Field(pattern=r"^(\d{1,4}([.,]\d{1,4})?)?$")] = ""
    flagged: Annotated[str, Field(pattern=r"^([01]([.,]\d{1,6})?)?$")] = "0.02"
    version: Annotated[str, Field(pattern=r"^\d{0,9}$")] = ""


def replay_page(call: Call) -> str:
    """Waits per class under first come, the order's priority, and the policy, with and without its bound."""
    query: ReplayQuery = call.query
    found, error = None, ""
    if query.source:
        try:
            found = _replayed(call, query)
        except Refused as refused:
            error = str(refused)
    return render_template(
        "replay.html", page="qa", who=call.who, site=call.web.settings.site, now=stamp(call.now), query=query, found=found,
        error=error, rules=RULES, titles={r: _(t) for r, t in TITLES.items()}, groups={g: _(t) for g, t in GROUPS.items()},
        versions=[str(p["version"]) for p in policies.history(call.tx)],
    )  # fmt: skip


def _replayed(call: Call, query: ReplayQuery) -> dict[str, Any]:
    policy = _policy(call, query.version)
    readers = int(query.readers) if query.readers else None
    minutes = _number(query.minutes)
    if query.source == "site":
        start = call.now - timedelta(days=int(query.days or 30))
        return replay_site(call.tx, start, call.now, policy, readers=readers, reading_minutes=minutes)
    arrivals = _number(query.arrivals)
    if not (readers and minutes and arrivals):
        raise Refused("a model needs readers, minutes a study and arrivals an hour")
    if arrivals * HOURS * REPLICATIONS > STUDIES_MAX:
        raise Refused("so many arrivals take too long for a page: use triage simulate")
    return replay_model(
        Model(
            arrivals_per_hour=arrivals, readers=readers, reading_minutes=minutes, hours=HOURS, replications=REPLICATIONS,
            flag_rates={"pneumothorax": _number(query.flagged) or 0.0},
        ),
        policy,
    )  # fmt: skip


def _policy(call: Call, version: str) -> Policy:
    found = policies.get(call.tx, int(version)) if version else policies.active(call.tx)
    if found is None:
        raise Refused("there is no such version of the policy")
    return found


def _number(text: str) -> float | None:
    return float(text.replace(",", ".")) if text else None


ROUTES = (Route(path="/qa/replay", view=replay_page, scopes=("qa:read",), query=ReplayQuery, html=True),)
