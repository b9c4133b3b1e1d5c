"""The Flask application: every route declared with who may, every request in one unit of work.

Nothing starts at import; `create_app` is called once per process, after forking.
"""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, current_app, g, make_response, request
from pydantic import ValidationError
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import IntegerConverter, UnicodeConverter

from triage.domain.errors import Refused, Unavailable
from triage.settings import LOOPBACK, Settings
from triage.store import users
from triage.store.database import Database
from triage.store.events import publish
from triage.web import (
    account,
    admin,
    answers,
    api_admin,
    api_alerts,
    api_escalation,
    api_messages,
    api_oncall,
    api_peers,
    api_studies,
    api_system,
    api_views,
    api_worklist,
    auth,
    dicomweb_events,
    dicomweb_query,
    dicomweb_retrieve,
    dicomweb_store,
    dicomweb_worklist,
    escalation_page,
    events,
    fhir,
    keys,
    language,
    messages_page,
    oidc,
    openapi,
    pages,
    problems,
    quality_pages,
    replay,
    text_pages,
    wording,
)
from triage.web.context import Call, Clock, Route, Web
from triage.web.problems import Denied
from triage.web.rates import Rates
from triage.workflow.fhircast import Hub
from triage.workflow.inlet import Inlet
from triage.workflow.oidc import Provider
from triage.workflow.preview import Previewer

ROUTES: tuple[Route, ...] = (
    *api_system.ROUTES,
    *api_worklist.ROUTES,
    *api_views.ROUTES,
    *api_studies.ROUTES,
    *api_alerts.ROUTES,
    *api_messages.ROUTES,
    *api_oncall.ROUTES,
    *api_peers.ROUTES,
    *dicomweb_worklist.ROUTES,
    *dicomweb_events.ROUTES,
    *fhir.ROUTES,
    *events.ROUTES,
    *dicomweb_store.ROUTES,
    *dicomweb_query.ROUTES,
    *dicomweb_retrieve.ROUTES,
    *openapi.ROUTES,
    *auth.ROUTES,
    *account.ROUTES,
    *pages.ROUTES,
    *keys.ROUTES,
    *text_pages.ROUTES,
    *replay.ROUTES,
    *admin.ROUTES,
    *messages_page.ROUTES,
    *escalation_page.ROUTES,
    *api_escalation.ROUTES,
    *api_admin.ROUTES,
    *quality_pages.ROUTES,
    *oidc.ROUTES,
)
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
BODY_BYTES_MAX = 256 * 1024
IDEMPOTENCY_KEY_MAX = 200
COMPRESSED_FROM = 2048  # bytes
COMPRESSED_TYPES = frozenset({"application/json", "application/fhir+json", "text/html", "text/csv"})


class _Uid(UnicodeConverter):
    """A DICOM UID and nothing else (T4)."""

    regex = r"[0-9][0-9.]{0,63}"
    part_isolating = True


class _RowId(IntegerConverter):
    """A row id that every database can hold."""

    regex = r"\d{1,15}"


def utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(
    settings: Settings,
    database: Database,
    clock: Clock = utc_now,
    monotonic: Callable[[], float] = time.monotonic,
) -> Flask:
    """The pages and the API over one database. monotonic: seconds that rate limits count by"""
    app = Flask("triage.web", template_folder="templates", static_folder="static")
    app.config.update(
        MAX_CONTENT_LENGTH=BODY_BYTES_MAX,
        MAX_FORM_PARTS=50,
        TRUSTED_HOSTS=[*LOOPBACK, "[::1]"]
        if settings.web.host in LOOPBACK and not settings.web.proxies
        else None,
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.url_map.converters |= {"uid": _Uid, "id": _RowId}
    if settings.web.proxies:
        hops = settings.web.proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    web = Web(
        settings,
        database,
        clock,
        events.Feed(settings, database, clock),
        Rates(monotonic),
        Previewer(settings),
        Inlet(settings, database, clock, "web"),
        Provider(settings.oidc) if settings.oidc.issuer else None,
        Hub(settings.fhircast, clock, lambda: _refresh_pages(database, clock))
        if settings.fhircast.url
        else None,
    )
    app.extensions["triage"] = web
    app.extensions["triage.routes"] = {}
    for route in ROUTES:
        app.extensions["triage.routes"][route.endpoint] = route
        door = _door(web, route)
        app.add_url_rule(route.path, endpoint=route.endpoint, view_func=door, methods=[route.method])
        if route.websocket:
            app.add_url_rule(route.path, endpoint=route.endpoint, view_func=door, websocket=True)
    app.before_request(_only_declared_routes)
    app.after_request(_compressed)
    app.after_request(lambda response: _headers(response, settings))
    problems.install(app)
    wording.install(app)
    language.install(app)
    return app


def _refresh_pages(database: Database, clock: Clock) -> None:
    """Open lists ask again: a bar comes or goes."""
    with suppress(Unavailable), database.write() as tx:
        publish(tx, clock(), "worklist")


def _only_declared_routes() -> None:
    """Deny by default: an endpoint that declares no scope answers nothing."""
    if request.endpoint is None or request.endpoint == "static":
        return
    route = current_app.extensions["triage.routes"].get(request.endpoint)
    if route is None:
        raise Denied(403, "this path is not declared")
    g.html = route.html


def _door(web: Web, route: Route) -> Callable[..., Any]:
    """The one way from a request to a view: who, what, unit of work, answer."""

    def answer(**path: Any) -> Any:
        now = web.clock()
        try:
            who = auth.admit(web, route, now)
        except Denied as denied:
            if route.html and denied.status == 401:
                return auth.sign_in_redirect()
            raise
        g.who = who
        query = route.query.model_validate(request.args.to_dict()) if route.query else None
        if not route.needs_tx:
            return route.view(Call(web, None, now, who, query, None, None), **path)  # type: ignore[arg-type]
        if not route.acts:
            with web.database.read() as tx:
                said = route.view(Call(web, tx, now, who, query), **path)
                return answers.of_mapping(said) if isinstance(said, dict) else make_response(said)
        body = _body(route)
        version = _if_match()
        with web.database.write() as tx:
            call = Call(web, tx, now, who, query, body, version)
            return _act_once(call, lambda: make_response(route.view(call, **path)))

    answer.__name__ = route.view.__name__
    return answer


def _body(route: Route) -> Any:
    if route.body is None:
        return None
    if request.mimetype in ("application/x-www-form-urlencoded", "multipart/form-data"):
        raise Refused("send JSON: Content-Type: application/json")  # what a foreign form could send (T10)
    raw = request.get_data()
    if not raw.strip():
        return route.body.model_validate({})
    try:
        return route.body.model_validate_json(raw)
    except ValidationError:
        raise
    except (ValueError, RecursionError) as error:
        raise Refused("the body is not valid JSON") from error


def _if_match() -> int | None:
    sent = request.headers.get("If-Match", "").strip()
    if sent in ("", "*"):
        return None
    text = sent.removeprefix("W/").strip('"')
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise Refused("If-Match holds the version of the study or alert, a number")
    return int(text)


def _act_once(call: Call, act: Callable[[], Response]) -> Response:
    """Honour Idempotency-Key: the first answer is kept in the transaction of its act and given again."""
    sent = request.headers.get("Idempotency-Key", "")
    if not sent or request.method != "POST":
        return act()
    if len(sent) > IDEMPOTENCY_KEY_MAX:
        raise Refused(f"an Idempotency-Key has at most {IDEMPOTENCY_KEY_MAX} characters")
    key = hashlib.sha256(f"{call.who.name}\n{sent}".encode()).hexdigest()
    asked = hashlib.sha256(request.path.encode() + b"\n" + request.get_data()).hexdigest()
    kept = users.reserve_answer(call.tx, key, asked, call.now)
    if kept is not None:
        if kept["request_digest"] != asked:
            raise Refused("this Idempotency-Key was used for another request")
        replay = Response(kept["body"], kept["status"], mimetype="application/json")
        replay.headers["Idempotent-Replayed"] = "true"
        return replay
    response = act()
    users.keep_answer(call.tx, key, response.status_code, response.get_data(as_text=True))
    return response


def _compressed(response: Response) -> Response:
    """Lists are long and repeat themselves: a page of 100 rows is 90 KB, and 5 KB as gzip."""
    small = (
        response.direct_passthrough
        or response.is_streamed
        or (response.content_length or 0) < COMPRESSED_FROM
    )
    fit = response.mimetype in COMPRESSED_TYPES and "Content-Encoding" not in response.headers
    if small or not fit or response.status_code != 200 or not request.accept_encodings.quality("gzip"):
        return response
    response.set_data(gzip.compress(response.get_data(), compresslevel=5, mtime=0))
    response.headers["Content-Encoding"] = "gzip"
    response.vary.add("Accept-Encoding")
    return response


def _headers(response: Response, settings: Settings) -> Response:
    headers = response.headers
    headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=(), payment=()"
    # What a proxy or a browser keeps can be shown to the next person (Flask CVE-2023-30861).
    headers["Cache-Control"] = "no-cache" if request.endpoint == "static" else "no-store"
    headers.pop("Server", None)
    if settings.web.secure_cookies:
        headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    return response
