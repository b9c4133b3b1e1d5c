"""`/fhir`: a read-only R4 view of results, for a bearer token (or session) with the scope `fhir:read`."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from flask import Response, request
from pydantic import ConfigDict, Field

from triage.domain.errors import Refused
from triage.store.fhir import Wanted
from triage.web.context import PUBLIC, Call, Route
from triage.web.models import Request
from triage.workflow import fhir
from triage.workflow.read import NotFound

MIMETYPE = "application/fhir+json"
COUNT_MAX = 200
READ = ("fhir:read",)
_SCOPES = {kind: ("audit:read",) if kind == "AuditEvent" else READ for kind in fhir.KINDS}


class SearchQuery(Request):
    """Names of FHIR's own; `date` may stand twice (ge and lt)."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    id: str = Field("", alias="_id", max_length=20)
    patient: str = Field("", max_length=200)
    patient_identifier: str = Field("", alias="patient.identifier", max_length=200)
    identifier: str = Field("", max_length=200)
    date: str = Field("", max_length=60)
    count: int = Field(50, alias="_count", ge=0, le=1000)
    after: int = Field(0, alias="_after", ge=0, lt=2**53)
    format: str = Field("json", alias="_format", max_length=40)


def metadata(call: Call) -> Response:
    """What this server can do; without sign-in, as FHIR wants it."""
    return said(fhir.capability(_base(), call.now))


def read(call: Call, number: int, *, kind: str) -> Response:
    """One resource."""
    found = fhir.find(call.tx, kind, Wanted(id=number, limit=1))
    if not found:
        raise NotFound("no such resource")
    return said(found[0])


def search(call: Call, *, kind: str) -> Response:
    """Resources by patient, identifier and date, a page at a time."""
    query: SearchQuery = call.query
    asked = {n for n in request.args if n not in ("_count", "_after", "_format")}
    unknown = asked - set(fhir.KINDS[kind])
    if unknown:
        raise Refused(
            f"{kind} is not searched by {', '.join(sorted(unknown))}; by {', '.join(fhir.KINDS[kind])}"
        )
    count = min(query.count, COUNT_MAX)
    since = before = None
    for value in request.args.getlist("date"):
        begin, end = fhir.span(value)
        since, before = begin or since, end or before
    wanted = Wanted(
        id=fhir.row_id(query.id, kind) if query.id else None,
        patient=fhir.row_id(query.patient, "Patient") if query.patient else None,
        patient_identifier=fhir.token_value(query.patient_identifier),
        identifier=fhir.token_value(query.identifier),
        since=since, before=before, after_id=query.after, limit=count,
    )  # fmt: skip
    found = fhir.find(call.tx, kind, wanted) if count else []
    following = ""
    if count and len(found) == count:
        pairs = [(n, v) for n, v in request.args.items(multi=True) if n != "_after"]
        following = f"{_base()}/{kind}?{urlencode([*pairs, ('_after', found[-1]['id'])])}"
    return said(fhir.searchset(found, _base(), request.url, following))


def said(resource: dict[str, Any]) -> Response:
    return Response(json.dumps(resource), mimetype=MIMETYPE)


def _base() -> str:
    return f"{request.url_root.rstrip('/')}/fhir"


def _reader(kind: str) -> Any:
    def read_one(call: Call, number: int) -> Response:
        """One resource of this kind."""
        return read(call, number, kind=kind)

    return read_one


def _searcher(kind: str) -> Any:
    def search_kind(call: Call) -> Response:
        """Resources of this kind, by patient, identifier and date."""
        return search(call, kind=kind)

    return search_kind


ROUTES = (
    Route(path="/fhir/metadata", view=metadata, scopes=PUBLIC, needs_tx=False),
    *(Route(path=f"/fhir/{k}", view=_searcher(k), scopes=_SCOPES[k], query=SearchQuery) for k in fhir.KINDS),
    *(Route(path=f"/fhir/{k}/<id:number>", view=_reader(k), scopes=_SCOPES[k]) for k in fhir.KINDS),
)
