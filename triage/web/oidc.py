"""The two addresses of a sign-in by the hospital's identity provider. The checks are in `workflow.oidc`."""

from __future__ import annotations

from flask import Response, make_response, redirect, render_template, request, url_for

from triage.domain.errors import Conflict, Refused, Unavailable
from triage.web import auth
from triage.web.context import PUBLIC, Call, Route
from triage.web.rates import SIGN_IN_ADDRESS
from triage.workflow import accounts
from triage.workflow.oidc import Flow, Provider

FLOW_SECONDS = 600
_PATH = "/sign-in/oidc"


def begin(call: Call) -> Response:
    """Off to the identity provider; what must come back is kept in a cookie of ten minutes."""
    provider = _provider(call)
    if call.web.rates.wait_seconds(SIGN_IN_ADDRESS, request.remote_addr or ""):
        return _no("too many tries; wait a minute", 429)
    try:
        address, flow = provider.begin(_redirect_uri(), auth.own_path(request.args.get("next", "")))
    except (Refused, Unavailable) as error:
        return _no(str(error), 503)
    response = make_response(redirect(address))
    # Lax: the provider's redirect is a top-level navigation and brings it; a foreign form does not.
    response.set_cookie(
        _cookie(call), flow.as_text(), max_age=FLOW_SECONDS, path=_PATH, httponly=True, samesite="Lax",
        secure=call.web.settings.web.secure_cookies,
    )  # fmt: skip
    return response


def come_back(call: Call) -> Response:
    """Back from the identity provider: check, open a fresh session, go where the person wanted to go."""
    provider = _provider(call)
    try:
        flow = Flow.from_text(request.cookies.get(_cookie(call), ""))
        person = provider.finish(flow, request.args, _redirect_uri())
        with call.web.database.write() as tx:
            auth.end_old_session(call.web, tx)
            signed = accounts.sign_in_from_outside(
                tx, person.name, person.display_name, person.role, call.now
            )
    except (Refused, Conflict) as error:
        return _no(str(error), 403)
    except Unavailable as error:
        return _no(str(error), 503)
    response = make_response(redirect(auth.own_path(flow.next) or url_for("GET /")))
    response.delete_cookie(_cookie(call), path=_PATH)
    auth.set_cookie(call.web, response, signed.secret)
    return response


def _provider(call: Call) -> Provider:
    if call.web.provider is None:
        raise Refused("no identity provider is configured (oidc.issuer)")
    return call.web.provider


def _redirect_uri() -> str:
    return f"{request.host_url.rstrip('/')}{_PATH}/callback"


def _cookie(call: Call) -> str:
    return "__Secure-triage-flow" if call.web.settings.web.secure_cookies else "triage_flow"


def _no(why: str, status: int) -> Response:
    return make_response(render_template("sign_in.html", error=why, next="", outside=True), status)


ROUTES = (
    Route(path=_PATH, view=begin, scopes=PUBLIC, html=True, needs_tx=False),
    Route(path=f"{_PATH}/callback", view=come_back, scopes=PUBLIC, html=True, needs_tx=False),
)
