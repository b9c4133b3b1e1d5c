"""At the door of every request: who is it, may they, and did our own page send it? Deny by default (T10 to T16)."""

from __future__ import annotations

import hmac
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from flask import Response, g, make_response, redirect, render_template, request, url_for

from triage.domain.errors import ReadOnly
from triage.store import audit, users
from triage.web.context import NOBODY, PUBLIC, SIGNED_IN, Call, Principal, Route, Web, web
from triage.web.problems import Denied
from triage.web.rates import API, SIGN_IN_ACCOUNT, SIGN_IN_ADDRESS
from triage.workflow import accounts

_TOUCH_EVERY = timedelta(seconds=30)
DICOM = ("dicom:read", "dicom:write")
DICOM_ONLY = tuple((scope,) for scope in DICOM)
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def admit(web: Web, route: Route, now: datetime) -> Principal:
    """The principal of this request; raises Denied."""
    if route.scopes == PUBLIC:
        return NOBODY
    who = g.who = _bearer(web) if "Authorization" in request.headers else _session(web, now)
    # A gateway sends and a viewer fetches a study image by image: its pace is the disk's.
    paced = not (route.scopes in DICOM_ONLY and who.may(*DICOM))
    wait = web.rates.wait_seconds(API, who.session_digest or who.name) if paced else 0.0
    if wait:
        raise Denied(429, "more than 20 requests a second", wait)
    if not who.may(*route.scopes):
        raise Denied(403, f"this needs the scope {' or '.join(route.scopes)}")
    if who.is_person and request.method not in SAFE:
        check_csrf(who.csrf_token)
    return who


def _bearer(web: Web) -> Principal:
    kind, _, secret = request.headers["Authorization"].partition(" ")
    if kind.lower() != "bearer" or not secret:
        raise Denied(401, "Authorization must be: Bearer <token>")
    with web.database.read() as tx:
        token = users.find_token(tx, secret.strip())
    if token is None:
        raise Denied(401, "this token is unknown or revoked")
    return Principal(f"token:{token['name']}", "", frozenset(token["scopes"]))


def _session(web: Web, now: datetime) -> Principal:
    secret = request.cookies.get(cookie_name(web), "")
    if not secret:
        raise Denied(401, "sign in first")
    with web.database.read() as tx:
        found = users.find_session(tx, secret, *lives_since(web, now))
    if found is None:
        raise Denied(401, "the session has ended; sign in again")
    # What a page fetches by itself does not keep a session alive: an empty chair is signed out (T12).
    by_itself = request.headers.get("X-Triage-Background") == "1"
    if not by_itself and now - found["seen_at"] > _TOUCH_EVERY:
        with suppress(ReadOnly), web.database.write() as tx:  # what can be read stays readable
            users.touch_session(tx, found["token_digest"], now)
    return Principal(
        name=found["name"],
        role=found["role"],
        scopes=accounts.ROLE_SCOPES[found["role"]],
        display_name=found["display_name"] or found["name"],
        csrf_token=found["csrf_token"],
        session_digest=found["token_digest"],
        preferences=found["preferences"],
    )


def lives_since(web: Web, now: datetime) -> tuple[datetime, datetime]:
    """A session of now was used after the first moment and opened after the second."""
    said = web.settings.web
    return now - timedelta(minutes=said.session_minutes), now - timedelta(hours=said.session_hours)


def session_lives(web: Web, who: Principal, secret: str, now: datetime) -> bool:
    """Asked by a long stream at each beat: an ended session or a revoked token ends its stream."""
    with web.database.read() as tx:
        if who.is_person:
            return users.find_session(tx, secret, *lives_since(web, now)) is not None
        return users.find_token(tx, secret) is not None


def check_csrf(expected: str) -> None:
    """The page's own token in a header or form field, and no foreign Origin."""
    sent = request.headers.get("X-CSRF-Token", "") or request.form.get("csrf_token", "")
    if not expected or not hmac.compare_digest(sent, expected):
        raise Denied(403, "the CSRF token is missing or wrong; load the page again")
    check_origin()


def check_origin() -> None:
    """Another site's form or script. Our own forms say `Origin: null`, since we send `Referrer-Policy: no-referrer`
    (Fetch, "append a request Origin header"); browsers that say so also say Sec-Fetch-Site."""
    from_where = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin", "null")
    foreign = origin != "null" and urlsplit(origin).netloc != request.host
    if foreign or from_where not in (None, "same-origin", "none"):
        raise Denied(403, "this request came from another site")


def cookie_name(web: Web) -> str:
    return "__Host-triage" if web.settings.web.secure_cookies else "triage_session"


# --- pages ---------------------------------------------------------------------------------------------------


def sign_in_page(call: Call) -> str:
    """Name and password; on a fresh installation the command that makes the first user (there is no default one)."""
    with call.web.database.read() as tx:
        hint = (
            ""
            if users.listing(tx)
            else "Nobody can sign in yet. Make the first user: triage user add NAME --role admin"
        )
    return render_template(
        "sign_in.html", error=hint, next=own_path(request.args.get("next", "")),
        outside=call.web.provider is not None,
    )  # fmt: skip


def sign_in(call: Call) -> Response:
    """Check the password, open a fresh session, go where the person wanted to go."""
    check_origin()
    web, now = call.web, call.now
    name, password = request.form.get("name", "")[:80], request.form.get("password", "")[:1000]
    target = own_path(request.form.get("next", ""))
    wait = max(
        web.rates.wait_seconds(SIGN_IN_ADDRESS, request.remote_addr or ""),
        web.rates.wait_seconds(SIGN_IN_ACCOUNT, name),
    )
    try:
        if wait:
            raise accounts.TooSoon(wait)
        with web.database.read() as tx:
            fits = accounts.password_fits(tx, name, password, now)
    except accounts.TooSoon as error:
        response = _try_again(str(error), target, 429)
        response.headers["Retry-After"] = str(max(1, round(error.seconds)))
        return response
    outside = web.settings.oidc
    if fits and outside.issuer and name not in outside.break_glass:
        return _try_again(
            "Sign in with your hospital account; a password is for emergencies alone.", target, 403
        )
    if not fits:
        with web.database.write() as tx:
            accounts.note_failure(tx, name, now)
        return _try_again("Name or password is wrong.", target, 401)
    with web.database.write() as tx:
        end_old_session(web, tx)
        signed = accounts.sign_in(tx, name, now)
        if outside.issuer:
            operators = [r.name for r in web.settings.routes if r.operator]
            accounts.tell_break_glass(tx, name, operators, now)
    response = make_response(redirect(target or url_for("GET /")))
    set_cookie(web, response, signed.secret)
    return response


def sign_out(call: Call) -> Response:
    users.close_session(call.tx, call.who.session_digest)
    audit.append(call.tx, call.now, call.who.name, "session.closed", "user", call.who.name)
    response = make_response(redirect(url_for("GET /sign-in")))
    response.delete_cookie(cookie_name(call.web), path="/", secure=call.web.settings.web.secure_cookies)
    return response


def set_cookie(web: Web, response: Response, secret: str) -> None:
    response.set_cookie(
        cookie_name(web),
        secret,
        path="/",
        httponly=True,
        samesite="Lax",
        secure=web.settings.web.secure_cookies,
    )


def _try_again(error: str, target: str, status: int) -> Response:
    return make_response(
        render_template("sign_in.html", error=error, next=target, outside=web().provider is not None), status
    )


def end_old_session(web: Web, tx: Any) -> None:
    """The cookie that came with a new sign-in opens nothing any more (T12)."""
    old = request.cookies.get(cookie_name(web), "")
    if old:
        users.close_session(tx, users.digest(old))


def own_path(target: str) -> str:
    """A path of ours, or "": never a way out to another host."""
    fine = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if fine and len(target) < 500 and "\\" not in target else ""


def sign_in_redirect() -> Response:
    here = request.full_path.rstrip("?") if request.method == "GET" else ""
    return make_response(redirect(url_for("GET /sign-in", next=own_path(here) or None)))


ROUTES = (
    Route(path="/sign-in", view=sign_in_page, scopes=PUBLIC, html=True, needs_tx=False),
    Route(path="/sign-in", view=sign_in, method="POST", scopes=PUBLIC, html=True, needs_tx=False),
    Route(path="/sign-out", view=sign_out, method="POST", scopes=SIGNED_IN, html=True),
)
