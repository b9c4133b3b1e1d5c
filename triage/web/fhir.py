"""`/fhir`: a read-only R4 view of results, for a bearer token (or session) with the scope `fhir:read`."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Any
from urllib.parse import urlencode

from flask import Response, request
from pydantic import ConfigDict, Field
from werkzeug.datastructures import MultiDict

from triage.domain.errors import Refused
from triage.store import users
from triage.store.fhir import Wanted
from triage.web.context import PUBLIC, Call, Route
from triage.web.models.base import Request
from triage.workflow import fhir
from triage.workflow.read.row import NotFound

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
    search: str = Field("", alias="_search", max_length=40, description="of a link to a further page")


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
    return _page(call, kind, request.args, request.url)


def search_by_form(call: Call, *, kind: str) -> Response:
    """The same by a form: identifiers stand in no address then, and in none of the links to further pages."""
    given: MultiDict[str, str] = MultiDict([*request.args.items(multi=True), *request.form.items(multi=True)])
    return _page(call, kind, given, f"{_base()}/{kind}/_search")


def _page(call: Call, kind: str, given: MultiDict[str, str], own: str) -> Response:
    key = given.get("_search", "")
    asked = MultiDict([*_kept(call, key), *((n, v) for n, v in given.items(multi=True) if n != "_search")])
    query = SearchQuery.model_validate(asked.to_dict())
    unknown = {n for n in asked if n not in ("_count", "_after", "_format")} - set(fhir.KINDS[kind])
    if unknown:
        raise Refused(
            f"{kind} is not searched by {', '.join(sorted(unknown))}; by {', '.join(fhir.KINDS[kind])}"
        )
    count = min(query.count, COUNT_MAX)
    found = fhir.find(call.tx, kind, _wanted(query, kind, asked.getlist("date"), count)) if count else []
    following = ""
    if count and len(found) == count:
        following = _following(call, kind, key, asked, found[-1]["id"])
    return said(fhir.searchset(found, _base(), own, following))


def _wanted(query: SearchQuery, kind: str, dates: list[str], count: int) -> Wanted:
    since = before = None
    for value in dates:
        begin, end = fhir.span(value)
        since, before = begin or since, end or before
    return Wanted(
        id=fhir.row_id(query.id, kind) if query.id else None,
        patient=fhir.row_id(query.patient, "Patient") if query.patient else None,
        patient_identifier=fhir.token_value(query.patient_identifier),
        identifier=fhir.token_value(query.identifier),
        since=since, before=before, after_id=query.after, limit=count,
    )  # fmt: skip


def _following(call: Call, kind: str, key: str, asked: MultiDict[str, str], last: str) -> str:
    """Address of the next page; what came in a form stays here, under a key (kept for a day)."""
    pairs = [(n, v) for n, v in asked.items(multi=True) if n != "_after"]
    if request.method == "POST":
        key = secrets.token_urlsafe(12)
        name = _name(call, key)
        users.reserve_answer(call.tx, name, "", call.now)
        users.keep_answer(call.tx, name, 200, json.dumps(pairs))
    if key:
        pairs = [("_search", key)]
    return f"{_base()}/{kind}?{urlencode([*pairs, ('_after', last)])}"


def _kept(call: Call, key: str) -> list[tuple[str, str]]:
    """What was searched by under this key, by this same caller. raises Refused when it is gone"""
    if not key:
        return []
    kept = users.find_answer(call.tx, _name(call, key))
    if kept is None:
        raise Refused("this search is no longer kept; search again")
    return [(n, v) for n, v in json.loads(kept["body"])]


def _name(call: Call, key: str) -> str:
    return hashlib.sha256(f"fhir:{call.who.name}\n{key}".encode()).hexdigest()


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


def _form_searcher(kind: str) -> Any:
    def search_kind_by_form(call: Call) -> Response:
        """The same search by a form (application/x-www-form-urlencoded): no identifier stands in an address."""
        return search_by_form(call, kind=kind)

    return search_kind_by_form


ROUTES = (
    Route(path="/fhir/metadata", view=metadata, scopes=PUBLIC, needs_tx=False),
    *(Route(path=f"/fhir/{k}", view=_searcher(k), scopes=_SCOPES[k], query=SearchQuery) for k in fhir.KINDS),
    *(
        Route(path=f"/fhir/{k}/_search", view=_form_searcher(k), method="POST", scopes=_SCOPES[k])
        for k in fhir.KINDS
    ),
    *(Route(path=f"/fhir/{k}/<id:number>", view=_reader(k), scopes=_SCOPES[k]) for k in fhir.KINDS),
)
