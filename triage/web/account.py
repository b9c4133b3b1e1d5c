"""One's own account: a new password, and the places where one is signed in (OWASP ASVS 5.0, 6.2.2, 6.2.3, 7.5.2)."""

from __future__ import annotations

from dataclasses import replace

from flask import Response, make_response, redirect, render_template, request

from triage.domain.errors import Refused
from triage.store import users
from triage.web import auth
from triage.web.context import SIGNED_IN, Call, Route
from triage.web.language import N_, _
from triage.web.rates import SIGN_IN_ACCOUNT
from triage.workflow import accounts

DONE = {
    "password": N_("Your password is changed. Every other session of yours has ended."),
    "ended": N_("Ended."),
}


def account_page(call: Call, *, error: str = "") -> str:
    """Where this person is signed in, and a form for another password."""
    found = users.find_user(call.tx, call.who.name)
    if found is None:
        raise Refused("a token has no account; sign in")
    seen_since, opened_since = auth.lives_since(call.web, call.now)
    return render_template(
        "account.html", page="account", who=call.who, site=call.web.settings.site, error=error,
        done=_(DONE.get(request.args.get("done", ""), "")), outside=found["password_hash"] == accounts.OUTSIDE,
        sessions=users.sessions_of(call.tx, found["id"], seen_since, opened_since), shortest=accounts.PASSWORD_LENGTH,
        lives=call.web.settings.web,
    )  # fmt: skip


def act_on_account(call: Call) -> Response:
    """Another password, or the end of sessions; refused: the same page with the reason."""
    if not call.who.is_person:
        raise Refused("a token has no account; sign in")
    try:
        if request.form.get("act") == "password":
            return _change_password(call)
        if request.form.get("act") != "end":
            raise Refused("no such act")
        with call.web.database.write() as tx:
            accounts.end_sessions(
                tx, call.who.name, request.form.get("session", ""), call.who.session_digest, call.now
            )
    except Refused as error:
        return _again(call, str(error), 429 if isinstance(error, accounts.TooSoon) else 422)
    return make_response(redirect("/account?done=ended"))


def _change_password(call: Call) -> Response:
    """Who sits at an open session must know the password of now; afterwards a fresh session is the only one."""
    web, name, form = call.web, call.who.name, request.form
    current, new = form.get("current", "")[:1000], form.get("password", "")[:1001]
    wait = web.rates.wait_seconds(SIGN_IN_ACCOUNT, name)
    if wait:
        raise accounts.TooSoon(wait)
    if len(new) > 1000:
        raise Refused("a password has at most 1,000 characters")
    if new != form.get("again", ""):
        raise Refused("the two new passwords differ")
    with web.database.read() as tx:
        fits = accounts.password_fits(tx, name, current, call.now)
    if not fits:
        with web.database.write() as tx:
            accounts.note_failure(tx, name, call.now)
        raise Refused("the password of now is wrong")
    with web.database.write() as tx:
        accounts.change_password(tx, name, new, call.now, by=name)
        signed = accounts.sign_in(tx, name, call.now)
    response = make_response(redirect("/account?done=password"))
    auth.set_cookie(web, response, signed.secret)
    return response


def _again(call: Call, error: str, status: int) -> Response:
    with call.web.database.read() as tx:
        return make_response(account_page(replace(call, tx=tx), error=error), status)


ROUTES = (
    Route(path="/account", view=account_page, scopes=SIGNED_IN, html=True),
    Route(path="/account", view=act_on_account, method="POST", scopes=SIGNED_IN, html=True, needs_tx=False),
)
