"""Errors as RFC 9457 problems with a reference that the page shows and the log holds; never patient data in them."""

from __future__ import annotations

import json
import secrets
from typing import Any

from flask import Flask, Response, g, render_template, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from triage.domain.errors import Conflict, Misconfigured, ReadOnly, Refused, Unavailable
from triage.log import get_logger
from triage.web.context import stamp
from triage.workflow import fhir
from triage.workflow.read.row import Held, NotFound, NotOpened, Stale

log = get_logger()

# slug -> (title, what it means and what to do): the `type` of a problem points to it in /api/docs
KINDS: dict[str, tuple[str, str]] = {
    "unauthorized": ("Sign in", "No session and no valid bearer token. Sign in, or send `Authorization: Bearer <token>`."),
    "forbidden": ("Not allowed", "Your role or token lacks the scope that this path needs, or the CSRF token is missing."),
    "not-found": ("Not found", "No such study, alert or path, or none that you may see."),
    "method-not-allowed": ("Method not allowed", "The path exists, but not with this method."),
    "held": ("Somebody was faster", "`holder` has it, until `until`. Ask, wait, or take over with a reason."),
    "changed": ("Changed meanwhile", "`version` is the version of now. Look again, then repeat with it in If-Match."),
    "conflict": ("Conflict", "The request contradicts what is stored."),
    "refused": ("Refused", "The input is at fault; `detail` says what to mend. `needs: claim`: claim it first."),
    "too-many": ("Too many requests", "Wait for the seconds in Retry-After, then try again."),
    "too-large": ("Too large", "The body is larger than this path takes."),
    "unavailable": ("Not available now", "`part` does not answer. Nothing was changed; try again."),
    "read-only": ("Nothing can be changed now", "The database takes no writes. What it holds can be read; call by phone."),
    "bad-request": ("Not understood", "The request is not valid HTTP or JSON."),
    "internal": ("Our fault", "Something failed here. Tell your administrator the reference."),
}  # fmt: skip
_SLUG_OF_STATUS = {
    400: "bad-request", 401: "unauthorized", 403: "forbidden", 404: "not-found", 405: "method-not-allowed",
    409: "conflict", 412: "changed", 413: "too-large", 415: "bad-request", 422: "refused", 429: "too-many",
    503: "unavailable",
}  # fmt: skip


_ISSUES = {
    401: "login",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    429: "throttled",
    503: "transient",
}


class Denied(Exception):
    """Refused at the door: 401, 403, 429 or 503 before any view ran."""

    def __init__(self, status: int, detail: str, retry_seconds: float | None = None) -> None:
        self.status, self.retry_seconds = status, retry_seconds
        super().__init__(detail)


def problem(status: int, slug: str, detail: str, **extra: Any) -> Response:
    """The answer for an error: a page where a page was asked for, else problem+json."""
    reference = reference_of_request()
    title = KINDS[slug][0]
    if getattr(g, "html", False):
        page = render_template("error.html", title=title, detail=detail, reference=reference, status=status)
        response = Response(page, status, mimetype="text/html")
    elif request.path.startswith("/fhir/"):
        said = fhir.outcome(
            _ISSUES.get(status, "invalid" if status < 500 else "exception"), f"{title}: {detail}"
        )
        response = Response(json.dumps(said), status, mimetype="application/fhir+json")
    else:
        body = {"type": f"/api/docs#{slug}", "title": title, "status": status, "detail": detail,
                "instance": request.path, "reference": reference, **extra}  # fmt: skip
        response = Response(json.dumps(body), status, mimetype="application/problem+json")
    response.headers["X-Reference"] = reference
    return response


def reference_of_request() -> str:
    if "reference" not in g:
        g.reference = secrets.token_hex(6)
    return str(g.reference)


def install(app: Flask) -> None:
    app.register_error_handler(Exception, _answer)


def _answer(error: Exception) -> Response:
    if isinstance(error, Denied):
        response = problem(error.status, _SLUG_OF_STATUS[error.status], str(error))
        # 401 is every page left open over night; wrong passwords are in the audit.
        if error.status in (403, 429):
            rule = request.url_rule.rule if request.url_rule else ""
            who = getattr(g.get("who"), "name", "")
            log.warning(
                "request.denied", request_id=reference_of_request(), status=error.status, method=request.method,
                path=rule, user=who, detail=str(error),
            )  # fmt: skip
        if error.status == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="triage"'
        if error.retry_seconds is not None:
            response.headers["Retry-After"] = str(max(1, round(error.retry_seconds)))
        return response
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, ValidationError):
        said = "; ".join(
            f"{'.'.join(str(p) for p in e['loc']) or 'body'}: {e['msg']}" for e in error.errors()[:5]
        )
        return problem(422, "refused", said)
    known = _of_domain(error)
    if known is not None:
        return known
    log.error("request.failed", request_id=reference_of_request(), method=request.method, exc_info=error)
    return problem(500, "internal", "the request failed here; nothing was changed")


def _of_domain(error: Exception) -> Response | None:
    if isinstance(error, Stale):
        return problem(412, "changed", str(error), version=error.version)
    if isinstance(error, Held):
        return problem(409, "held", str(error), holder=error.holder, until=stamp(error.until))
    if isinstance(error, NotFound):
        return problem(404, "not-found", str(error))
    if isinstance(error, Conflict):
        return problem(409, "conflict", str(error))
    if isinstance(error, NotOpened):
        return problem(422, "refused", str(error), needs="claim")
    if isinstance(error, Refused):
        return problem(422, "refused", str(error))
    if isinstance(error, Unavailable | Misconfigured):
        log.error("request.unavailable", request_id=reference_of_request(), detail=str(error))
        part = "database" if "database" in str(error) else "storage"
        slug = "read-only" if isinstance(error, ReadOnly) else "unavailable"
        response = problem(503, slug, str(error), part=part, since=None)
        response.headers["Retry-After"] = "5"
        return response
    return None


def _of_http(error: HTTPException) -> Response:
    if error.response is not None:
        return error.response  # type: ignore[return-value]
    status = error.code or 500
    slug = _SLUG_OF_STATUS.get(status, "internal" if status >= 500 else "bad-request")
    response = problem(status, slug, KINDS[slug][1].replace("`", ""))
    for name, value in error.get_headers():
        if name in ("Allow", "Location", "Retry-After"):
            response.headers[name] = value
    return response
