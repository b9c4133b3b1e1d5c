"""`/api/openapi.json` from the routes and their models, and a plain page that explains it."""

from __future__ import annotations

import inspect
import re
from typing import Any

from flask import Response, current_app, jsonify, render_template
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from triage import __version__
from triage.web.context import PUBLIC, Call, Route
from triage.web.problems import KINDS

_REF = "#/components/schemas/{model}"
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "reference"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "reference": {"type": "string"},
        "holder": {"type": "string"},
        "until": {"type": ["string", "null"]},
        "version": {"type": "integer"},
        "part": {"type": "string"},
    },
}
DOCUMENTED = ("/api/", "/health", "/ready", "/metrics")  # pages are not part of the contract
_IN_PATH = re.compile(r"<(\w+)(\([^)]*\))?:(\w+)>")
_FILES = {  # beside JSON, where `format` asks for them
    "/api/v1/reports/qa": ("text/csv", "application/pdf"),
    "/api/v1/reports/qa/charts/<id:number>": ("text/csv",),
}
_OTHER_TYPES = {
    "/api/v1/studies/<uid:uid>/preview": "image/jpeg",
    "/api/v1/events": "text/event-stream",
    "/metrics": "text/plain",
    "/api/docs": "text/html",
}


def get_openapi(_: Call) -> Response:
    """This document."""
    return jsonify(document(_api_routes()))


def get_docs(_: Call) -> str:
    """The contract as a page."""
    return render_template("docs.html", routes=[_line(r) for r in _api_routes()], kinds=KINDS, public=True)


def _api_routes() -> list[Route]:
    every: dict[str, Route] = current_app.extensions["triage.routes"]
    return [r for r in every.values() if r.path.startswith(DOCUMENTED)]


def document(routes: list[Route]) -> dict[str, Any]:
    """OpenAPI 3.1 of these routes."""
    models = {m for r in routes for m in (r.body, r.answer) if m is not None}
    inputs = [(m, "validation") for m in sorted(models, key=lambda m: m.__name__)]
    _, schemas = models_json_schema(inputs, ref_template=_REF)  # type: ignore[arg-type]
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(path_of(route), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "triage",
            "version": __version__,
            "description": "Research and demonstration software. Not a medical device. Not for clinical use.",
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Problem": _PROBLEM},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "triage_session"},
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.view.__name__,
        "summary": _summary(route),
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.scopes == PUBLIC:
        operation["security"] = []
    else:
        operation["security"] = [{"bearer": list(route.scopes)}, {"session": []}]
        operation["description"] = f"Scope: {' or '.join(route.scopes) or 'any'}."
    if route.body is not None:
        operation["requestBody"] = {
            "required": bool(route.body.model_json_schema().get("required")),
            "content": {"application/json": {"schema": {"$ref": _REF.format(model=route.body.__name__)}}},
        }
    return operation


def _responses(route: Route) -> dict[str, Any]:
    kind = _OTHER_TYPES.get(route.path, "application/json")
    schema = {"$ref": _REF.format(model=route.answer.__name__)} if route.answer else {}
    content = {kind: {"schema": schema}} | {file: {} for file in _FILES.get(route.path, ())}
    responses: dict[str, Any] = {"200": {"description": "done", "content": content}}
    if route.view.__name__ == "next_study":
        responses["204"] = {"description": "no study is free"}
    if route.view.__name__ == "get_health":
        responses["503"] = {"description": "something does not work", "content": {kind: {"schema": schema}}}
    statuses = {"4XX": "refused; `type` says why"} | (
        {} if "503" in responses else {"503": "not available now"}
    )
    for status, words in statuses.items():
        problem = {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}
        responses[status] = {"description": words, "content": problem}
    if not route.acts and route.answer is not None and route.needs_tx:
        responses["304"] = {"description": "nothing changed since this ETag"}
    return responses


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for converter, limits, name in _IN_PATH.findall(route.path):
        found.append(
            {"name": name, "in": "path", "required": True, "schema": _path_schema(converter, limits)}
        )
    if route.query is not None:
        found += [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in _properties(route.query).items()
        ]
    if route.method == "POST" and route.needs_tx:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "maxLength": 200},
            }
        )
    if route.acts and "<" in route.path:
        found.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "pattern": '^(W/)?"?[0-9]{1,12}"?$'},
            }
        )
    return found


def _path_schema(converter: str, limits: str) -> dict[str, Any]:
    """What Werkzeug's converter of a path takes."""
    if converter == "id":
        return {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
    if converter == "uid":
        return {"type": "string", "pattern": "^[0-9][0-9.]{0,63}$"}
    longest = re.fullmatch(r"\(maxlength=(\d+)\)", limits)
    length = {"maxLength": int(longest[1])} if longest else {}
    return {"type": "string", "minLength": 1, "pattern": "^[^/]+$", **length}


def _properties(model: type[BaseModel]) -> dict[str, Any]:
    properties: dict[str, Any] = model.model_json_schema().get("properties", {})
    return properties


def path_of(route: Route) -> str:
    return _IN_PATH.sub(r"{\3}", route.path)


def _summary(route: Route) -> str:
    return (inspect.getdoc(route.view) or "").split("\n")[0]


def _line(route: Route) -> dict[str, str]:
    scope = "public" if route.scopes == PUBLIC else " or ".join(route.scopes) or "signed in"
    return {"method": route.method, "path": path_of(route), "scope": scope, "summary": _summary(route)}


ROUTES = (
    Route(path="/api/openapi.json", view=get_openapi, scopes=PUBLIC, needs_tx=False),
    Route(path="/api/docs", view=get_docs, scopes=PUBLIC, needs_tx=False),
)
