"""QIDO-RS over the spool (PS3.18 10.6): studies, series, instances, by the keys that PS3.4 requires and a few more."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask import Response, request

from triage.dicom import qido
from triage.domain.errors import Refused
from triage.store import holdings
from triage.store.holdings import Level, Match
from triage.web.context import Call, Route
from triage.web.problems import problem

LIMIT_MAX = 1_000
_OWN = frozenset(
    {"limit", "offset", "includefield", "fuzzymatching", "emptyvaluematching", "multiplevaluematching"}
)
_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."


def _search(level: Level) -> Callable[..., Response]:
    def search(call: Call, **path: str) -> Response:
        """Search Transaction: DICOM JSON of what matches; 204 when nothing does."""
        offered = ["application/dicom+json", "application/json"]
        if request.accept_mimetypes and request.accept_mimetypes.best_match(offered) is None:
            return problem(406, "bad-request", "Accept application/dicom+json")
        try:
            limit, offset = _number("limit", LIMIT_MAX), _number("offset", 0)
            matches, warnings = _matches(level, path)
        except Refused as error:
            return problem(400, "bad-request", str(error))
        limit = min(limit, LIMIT_MAX)
        rows = holdings.search(call.tx, level, matches, limit + 1, offset)
        if len(rows) > limit:
            warnings.append("There are additional results that can be requested")
            rows = rows[:limit]
        if not rows:
            response = Response(status=204)
        else:
            more = holdings.of_studies(call.tx, sorted({r["id"] for r in rows}))
            base = request.url_root.rstrip("/") + "/dicom-web/studies"
            body = [_data_set(level, row, more.get(row["id"], {}), base) for row in rows]
            response = Response(json.dumps(body, ensure_ascii=False), content_type="application/dicom+json")
        for text in warnings:
            response.headers.add("Warning", f'299 triage "{text}"')
        return response

    search.__name__ = f"search_{level}"
    return search


def _number(name: str, default: int) -> int:
    text = request.args.get(name, "")
    if text and not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Refused(f"{name} is a number from 0")
    return int(text) if text else default


def _matches(level: Level, path: dict[str, str]) -> tuple[list[Match], list[str]]:
    """Conditions of the address and of the parameters; what cannot be matched is said in a warning (PS3.18 8.3.4)."""
    found = [Match(_PATH[name], "uid", (uid,)) for name, uid in path.items()]
    warnings = []
    levels: tuple[Level, ...] = ("study", "series", "instance")
    known = frozenset().union(*(holdings.KEYS[one] for one in levels[: levels.index(level) + 1]))
    for name, value in request.args.items(multi=True):
        if name in _OWN:
            continue
        keyword = qido.keyword_of(name)
        if keyword not in known:
            warnings.append(f"{keyword} is not matched here")
            continue
        said = qido.wanted(keyword, value)
        if said is not None:
            found.append(Match(keyword, *said))
    if request.args.get("fuzzymatching", "").lower() == "true":
        warnings.append(_FUZZY)
    for field in ",".join(request.args.getlist("includefield")).split(","):
        if field and field != "all":
            qido.keyword_of(field)  # all that we know of a level is always there
    return found, warnings


def _data_set(level: Level, row: dict[str, Any], more: dict[str, Any], base: str) -> dict[str, Any]:
    values = qido.row_of_study(row, more)
    url = f"{base}/{row['study_instance_uid']}"
    if level != "study":
        values |= qido.row_of_series(row)
        url += f"/series/{row['series_instance_uid']}"
    if level == "instance":
        values |= qido.row_of_instance(row["header"])
        url += f"/instances/{row['header']['sop_instance_uid']}"
    return qido.data_set({**values, "RetrieveURL": url})


_PATH = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID"}
_ROOT = "/dicom-web"
_PATHS: tuple[tuple[str, Level], ...] = (
    ("/studies", "study"),
    ("/series", "series"),
    ("/instances", "instance"),
    ("/studies/<uid:study>/series", "series"),
    ("/studies/<uid:study>/instances", "instance"),
    ("/studies/<uid:study>/series/<uid:series>/instances", "instance"),
)
ROUTES = tuple(
    Route(path=_ROOT + path, view=_search(level), scopes=("dicom:read",)) for path, level in _PATHS
)
