"""The administrator's pages (ux 11): plain forms that work without script, each with its reason and its audit.

A form posts to its own page; what is refused comes back in the page, with what was typed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

from flask import Response, make_response, redirect, render_template, request
from sqlalchemy import Connection

from triage.domain.errors import Conflict, Refused
from triage.domain.finding import FINDING_CODES, PriorityClass
from triage.domain.priority import Policy
from triage.store import overview, peers, policies, proposals, releases, users
from triage.web import cards
from triage.web.context import Call, Route, stamp
from triage.web.language import N_, _
from triage.workflow import accounts, activation, peering, policy

ADMIN = ("admin",)
PAGES = (
    ("health", N_("Health")), ("peers", N_("Peers")), ("routes", N_("Routes")), ("escalation", N_("Escalation")),
    ("messages", N_("Messages")), ("policies", N_("Policies")), ("rules", N_("Rule tester")), ("releases", N_("Releases")),
    ("users", N_("Users")),
)  # fmt: skip
DONE = {
    "applied": N_("Applied. Every open study has its new place."),
    "restored": N_("The older version is in force again, as a new version."),
    "proposed": N_("Proposed. A second person confirms."),
    "confirmed": N_("Confirmed. The release is active."),
    "saved": N_("Saved."),
    "removed": N_("Removed."),
    "asked": N_("Asked again: the series come at the archive's next turn."),
    "drill": N_("The drill has begun. Its report grows below."),
}
Act = Callable[[Connection], str]


def page(call: Call, name: str, **values: Any) -> str:
    done = request.args.get("done", "")
    return render_template(
        f"admin_{name}.html", page="admin", admin_page=name, admin_pages=PAGES, who=call.who, site=call.web.settings.site,
        now=stamp(call.now), done=_(DONE[done]) if done in DONE else "", **{"error": "", "form": {}, **values},
    )  # fmt: skip


def submit(call: Call, name: str, view: Callable[..., str], act: Act, **values: Any) -> Response:
    """Do what the form asks in one unit of work; refused: the same page, its error, and what was typed."""
    try:
        with call.web.database.write() as tx:
            done = act(tx)
    except (Refused, Conflict) as error:
        with call.web.database.read() as tx:
            again = view(replace(call, tx=tx), error=str(error), form=request.form, **values)
        return make_response(again, 422 if isinstance(error, Refused) else 409)
    return make_response(redirect(f"/admin/{name}?done={done}"))


# --- policies ------------------------------------------------------------------------------------------------


def policies_page(call: Call, *, tried: dict[str, Any] | None = None, **values: Any) -> str:
    """The policy in force as a form, what a change would have moved, and every version with who and why."""
    held = policies.active(call.tx)
    history = [Policy.from_json(p["version"], p["content"]) for p in policies.history(call.tx)]
    changes = {new.version: policy.differences(old, new) for new, old in pairwise(history)}
    return page(
        call, "policies", held=held.as_json(), version=held.version, history=policies.history(call.tx), changes=changes,
        codes=FINDING_CODES.values(), classes=[c.word for c in sorted(PriorityClass, reverse=True)], tried=tried,
        below={n: [k.word for k in PriorityClass if k <= c.priority_class][::-1] for n, c in FINDING_CODES.items()},
        own=overview.thresholds_in_use(call.tx), **values,
    )  # fmt: skip


def act_on_policies(call: Call) -> Response:
    """Dry run, apply, or restore."""
    what = request.form.get("act", "")
    reason = request.form.get("reason", "")
    if what == "dry-run":
        with call.web.database.read() as tx:
            inner = replace(call, tx=tx)
            try:
                tried = policy.dry_run(tx, _policy_typed(request.form), call.now)
            except Refused as error:
                return make_response(policies_page(inner, error=str(error), form=request.form), 422)
            return make_response(policies_page(inner, form=request.form, tried=tried))

    def act(tx: Connection) -> str:
        if what == "restore":
            policy.restore(tx, number_typed("version"), call.who.name, reason, call.now)
            return "restored"
        policy.apply(tx, _policy_typed(request.form), call.who.name, reason, call.now)
        return "applied"

    return submit(call, "policies", policies_page, act)


def _policy_typed(form: Mapping[str, str]) -> Policy:
    thresholds = {n: form.get(f"threshold-{n}", "").strip().replace(",", ".") for n in FINDING_CODES}
    try:
        content = {
            "longest_wait_minutes": {
                c.word: float(form.get(f"wait-{c.word}", "").replace(",", ".")) for c in PriorityClass
            },
            "raises_to": {n: form.get(f"raise-{n}", "routine") for n in FINDING_CODES},
            "raised_per_hour": int(form.get("raised_per_hour", "")),
            "thresholds": {n: float(t) for n, t in thresholds.items() if t},
        }
    except ValueError as error:
        raise Refused("waits, thresholds and the hourly limit are numbers") from error
    return policy.policy_of(content)


def number_typed(name: str) -> int:
    text = request.form.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise Refused(f"{name}: a whole number")
    return int(text)


# --- rule tester ---------------------------------------------------------------------------------------------


def rules_page(call: Call) -> str:
    """Given an order, findings and a wait: which class, and why."""
    chosen = [n for n in request.args.getlist("finding") if n in FINDING_CODES]
    ordered = request.args.get("ordered", "ROUTINE")
    waited = request.args.get("waited", "0")
    said, error = None, ""
    try:
        minutes = min(max(float(waited or 0), 0), 100_000)
        order = ordered if ordered in ("STAT", "URGENT") else "ROUTINE"
        said = policy.try_rule(policies.active(call.tx), order, chosen, minutes, call.now)
    except ValueError:
        error = _("The wait is a number of minutes.")
    return page(
        call,
        "rules",
        said=said,
        chosen=chosen,
        ordered=ordered,
        waited=waited,
        codes=FINDING_CODES.values(),
        error=error,
    )


# --- releases ------------------------------------------------------------------------------------------------


def releases_page(call: Call, **values: Any) -> str:
    """Releases with their state and card, and what waits for a second person."""
    return page(
        call, "releases", releases=releases.in_states(call.tx), proposals=proposals.listing(call.tx),
        cards=cards.by_digest(), counts=overview.runs_by_release(call.tx, call.now - timedelta(days=1)), **values,
    )  # fmt: skip


def act_on_releases(call: Call) -> Response:
    what, reason = request.form.get("act", ""), request.form.get("reason", "")
    me, now = call.who.name, call.now

    def act(tx: Connection) -> str:
        if what == "propose":
            activation.propose(tx, number_typed("release"), me, reason, now)
            return "proposed"
        if what == "confirm":
            activation.confirm(tx, number_typed("proposal"), me, now)
            return "confirmed"
        if what == "withdraw":
            activation.withdraw(tx, number_typed("proposal"), me, now)
        elif what == "roll-back":
            activation.roll_back(tx, number_typed("release"), me, reason, now)
        else:
            activation.move(tx, number_typed("release"), what, me, reason, now)
        return "saved"

    return submit(call, "releases", releases_page, act)


# --- users and tokens ----------------------------------------------------------------------------------------


def users_page(call: Call, *, secret: str = "", **values: Any) -> str:
    """Who may sign in with which role, when they last did, and which programs hold a token."""
    return page(
        call, "users", people=users.listing(call.tx), seen=overview.last_seen(call.tx), tokens=users.tokens(call.tx),
        roles=accounts.ROLE_SCOPES, scopes=accounts.SCOPES, secret=secret, **values,
    )  # fmt: skip


def act_on_users(call: Call) -> Response:
    form, me, now = request.form, call.who.name, call.now
    what, name = form.get("act", ""), form.get("name", "").strip()
    issued: list[str] = []

    def act(tx: Connection) -> str:
        if what == "add":
            accounts.create_user(
                tx, name, form.get("role", ""), form.get("password", ""), now, by=me,
                display_name=form.get("display_name", "")[:200],
            )  # fmt: skip
        elif what == "password":
            accounts.change_password(tx, name, form.get("password", ""), now, by=me)
        elif what == "role":
            accounts.change_role(tx, name, form.get("role", ""), now, by=me)
        elif what == "disable":
            accounts.disable_user(tx, name, now, by=me)
        elif what == "enable":
            accounts.enable_user(tx, name, now, by=me)
        elif what == "token":
            issued.append(accounts.issue_token(tx, name, form.getlist("scope"), now, by=me))
        elif what == "revoke":
            accounts.revoke_token(tx, name, now, by=me)
        else:
            raise Refused("no such act")
        return "saved"

    response = submit(call, "users", users_page, act)
    if issued and response.status_code == 302:  # shown once, in the answer itself: it stands in no URL
        with call.web.database.read() as tx:
            return make_response(users_page(replace(call, tx=tx), secret=issued[0]))
    return response


# --- peers and routes ----------------------------------------------------------------------------------------


def peers_page(call: Call, **values: Any) -> str:
    """Whom we speak DICOM with, and how long each has been silent."""
    heard = overview.senders_heard(call.tx, call.now - timedelta(days=30))
    known = peers.listing(call.tx)
    unknown = sorted(set(heard) - {p["ae_title"] for p in known})
    return page(
        call, "peers", peers=known, heard=heard, unknown=unknown, settings=call.web.settings, **values
    )


def act_on_peers(call: Call) -> Response:
    form, me, now = request.form, call.who.name, call.now
    what, name = form.get("act", ""), form.get("name", "").strip()

    def act(tx: Connection) -> str:
        if what == "add":
            peering.add(
                tx, name, form.get("ae_title", ""), form.get("host", "").strip(), number_typed("port"), tls="tls" in form,
                by=me, now=now,
            )  # fmt: skip
            return "saved"
        if form.get("confirm", "") != name:
            raise Refused("type the name of the peer to remove it")
        peering.remove(tx, name, by=me, now=now)
        return "removed"

    return submit(call, "peers", peers_page, act)


def routes_page(call: Call, **values: Any) -> str:
    """Ways out for alerts, what waits on each, and the ladder that they are on."""
    return page(
        call, "routes", settings=call.web.settings, waiting=overview.deliveries_by_route(call.tx), **values
    )


def form_routes(name: str, view: Callable[..., str], act: Callable[..., Response]) -> tuple[Route, Route]:
    path = f"/admin/{name}"
    return (
        Route(path=path, view=view, scopes=ADMIN, html=True),
        Route(path=path, view=act, method="POST", scopes=ADMIN, html=True, needs_tx=False),
    )


ROUTES = (
    *form_routes("policies", policies_page, act_on_policies),
    *form_routes("releases", releases_page, act_on_releases),
    *form_routes("users", users_page, act_on_users),
    *form_routes("peers", peers_page, act_on_peers),
    Route(path="/admin/rules", view=rules_page, scopes=ADMIN, html=True),
    Route(path="/admin/routes", view=routes_page, scopes=ADMIN, html=True),
)
