"""`/api/v1/admin`: policies with dry run, the rule tester, releases with a second person."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from triage.store import policies, proposals, releases
from triage.web.context import Call, Route, stamp
from triage.web.models.base import ClassWord, Nothing, Request
from triage.workflow import activation, policy

ADMIN = ("admin",)
Reason = Annotated[str, Field(min_length=1, max_length=400)]


class PolicyContent(Request):
    """`longest_wait_minutes` and `raises_to` are whole; `thresholds` names only what differs from the release's own."""

    longest_wait_minutes: dict[ClassWord, Annotated[float, Field(gt=0, le=100_000)]]
    raises_to: Annotated[dict[str, ClassWord], Field(max_length=100)]
    raised_per_hour: Annotated[int, Field(ge=0, le=10_000)]
    thresholds: Annotated[dict[str, float], Field(max_length=100)] = Field(default_factory=dict)


class DryRunBody(Request):
    content: PolicyContent
    hours: Annotated[int, Field(ge=1, le=720)] = policy.DRY_RUN_HOURS


class ApplyBody(Request):
    content: PolicyContent
    reason: Reason


class ReasonBody(Request):
    reason: Reason


class MoveBody(Request):
    to: Literal["shadow", "retired"]
    reason: Reason


class TryBody(Request):
    ordered_priority: Literal["STAT", "URGENT", "ROUTINE"] = "ROUTINE"
    findings: Annotated[list[str], Field(max_length=20)] = Field(default_factory=list)
    waited_minutes: Annotated[float, Field(ge=0, le=100_000)] = 0
    content: PolicyContent | None = None


def get_policies(call: Call) -> dict[str, Any]:
    """Every version of the policy, newest first, with who made it and why."""
    return {
        "active": policies.active(call.tx).version,
        "versions": [version(p) for p in policies.history(call.tx)],
    }


def version(p: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": p["version"],
        "content": p["content"],
        "made_by": p["made_by"],
        "reason": p["reason"],
        "made_at": stamp(p["made_at"]),
        "active": p["active"],
    }


def dry_run(call: Call) -> dict[str, Any]:
    """What a policy would have moved among the studies of the last hours; nothing is changed."""
    body: DryRunBody = call.body
    return policy.dry_run(call.tx, policy.policy_of(body.content.model_dump()), call.now, body.hours)


def apply_policy(call: Call) -> dict[str, Any]:
    """Put a policy into force: every open study takes its new place."""
    body: ApplyBody = call.body
    new = policy.policy_of(body.content.model_dump())
    return {"version": policy.apply(call.tx, new, call.who.name, body.reason, call.now)}


def restore(call: Call, number: int) -> dict[str, Any]:
    """An older version once more, as a new one."""
    return {"version": policy.restore(call.tx, number, call.who.name, call.body.reason, call.now)}


def try_rule(call: Call) -> dict[str, Any]:
    """Where a study with this order and these findings would stand, and why."""
    body: TryBody = call.body
    rules = policy.policy_of(body.content.model_dump()) if body.content else policies.active(call.tx)
    said = policy.try_rule(rules, body.ordered_priority, body.findings, body.waited_minutes, call.now)
    return said | {"due_at": stamp(said["due_at"]), "bound_at": stamp(said["bound_at"])}


def get_releases(call: Call) -> dict[str, Any]:
    """Releases and what is proposed for them."""
    return {
        "releases": [r | {"registered_at": stamp(r["registered_at"])} for r in releases.in_states(call.tx)],
        "proposals": [
            p | {"proposed_at": stamp(p["proposed_at"]), "ended_at": stamp(p["ended_at"])}
            for p in proposals.listing(call.tx)
        ],
    }


def propose(call: Call, number: int) -> dict[str, Any]:
    """Ask that a release be made active; a second person confirms."""
    return {"id": activation.propose(call.tx, number, call.who.name, call.body.reason, call.now)}


def confirm(call: Call, number: int) -> dict[str, Any]:
    """The second person: makes the proposed release active."""
    activation.confirm(call.tx, number, call.who.name, call.now)
    return get_releases(call)


def withdraw(call: Call, number: int) -> dict[str, Any]:
    """Take a proposal back."""
    activation.withdraw(call.tx, number, call.who.name, call.now)
    return get_releases(call)


def move_release(call: Call, number: int) -> dict[str, Any]:
    """Into the shadow, or out of service."""
    activation.move(call.tx, number, call.body.to, call.who.name, call.body.reason, call.now)
    return get_releases(call)


def roll_back(call: Call, number: int) -> dict[str, Any]:
    """Back to a release that was active before, in one act."""
    activation.roll_back(call.tx, number, call.who.name, call.body.reason, call.now)
    return get_releases(call)


def _post(path: str, view: Any, body: Any = Nothing) -> Route:
    return Route(path=f"/api/v1/admin/{path}", view=view, method="POST", scopes=ADMIN, body=body)


ROUTES = (
    Route(path="/api/v1/admin/policies", view=get_policies, scopes=ADMIN),
    _post("policies/dry-run", dry_run, DryRunBody),
    _post("policies", apply_policy, ApplyBody),
    _post("policies/<id:number>/restore", restore, ReasonBody),
    _post("rules/try", try_rule, TryBody),
    Route(path="/api/v1/admin/releases", view=get_releases, scopes=ADMIN),
    _post("releases/<id:number>/propose", propose, ReasonBody),
    _post("releases/<id:number>/move", move_release, MoveBody),
    _post("releases/<id:number>/roll-back", roll_back, ReasonBody),
    _post("proposals/<id:number>/confirm", confirm),
    _post("proposals/<id:number>/withdraw", withdraw),
)
