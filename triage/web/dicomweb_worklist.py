"""UPS-RS: the reading list as work items that other programs search, claim, report on and end (PS3.18 11)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask import Response, request
from sqlalchemy import Connection

from triage.dicom import workitem as dataset
from triage.dicom.uids import is_uid
from triage.domain.errors import Conflict, Refused
from triage.domain.workitem import StepState
from triage.store import workitems as store
from triage.web.context import Call, Route
from triage.web.problems import problem
from triage.workflow import workitems
from triage.workflow.read.row import NotFound

JSON_TYPE = "application/dicom+json"
BASE = "/dicom-web"
MOST, BODY_BYTES_MAX = 200, 128 * 1024
READ, ACT = ("worklist:read", "dicom:read"), ("worklist:act",)
# Matching keys (PS3.4 table CC.2.5-3, those that a reading list can answer): keyword and tag to our column.
_KEYS = {
    name: field
    for field, names in {
        "states": ("ProcedureStepState", "00741000"),
        "priorities": ("ScheduledProcedureStepPriority", "00741200"),
        "readiness": ("InputReadinessState", "00404041"),
        "study_instance_uid": ("StudyInstanceUID", "0020000D"),
        "patient_id": ("PatientID", "00100020"),
        "accession_number": (
            "AccessionNumber", "00080050", "ReferencedRequestSequence.AccessionNumber", "0040A370.00080050",
        ),
    }.items()
    for name in names
}  # fmt: skip
_LISTS = ("states", "priorities")
_CONTROL = ("limit", "offset", "includefield", "fuzzymatching", "emptyvaluematching", "multiplevaluematching")


def search(call: Call) -> Response:
    """200 with work items in the order of the reading list, 204 with none; 206 where there are more."""
    asked, limit, offset = _asked()
    with call.web.database.write() as tx:
        workitems.follow(tx, call.now)
    with call.web.database.read() as tx:
        since = call.now - workitems.ENDED_SHOWN
        rows = store.search(tx, since=since, limit=limit + 1, offset=offset, **asked)
        found = [_json(tx, row) for row in rows[:limit]]
    response = _answer(found, 206 if len(rows) > limit else 200) if found else Response(status=204)
    if request.args.get("fuzzymatching") == "true":
        words = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
        response.headers["Warning"] = f"299 triage: {words}"
    return response


def retrieve(call: Call, uid: str) -> Response:
    """One work item; never with the Transaction UID of its performer."""
    with call.web.database.write() as tx:
        workitems.follow(tx, call.now)
        return _answer([_json(tx, workitems.get(tx, uid))], 200)


def change_state(call: Call, uid: str) -> Response:
    """IN PROGRESS claims it, COMPLETED reports it, CANCELED gives the study back to the list."""
    state, transaction_uid = dataset.asked_state(_body())
    if state not in (StepState.IN_PROGRESS, StepState.COMPLETED, StepState.CANCELED):
        raise Refused("a work item becomes IN PROGRESS, COMPLETED or CANCELED (PS3.4 CC.1.1)")
    if not is_uid(transaction_uid):
        return problem(400, "bad-request", "the body needs a Transaction UID (0008,1195)")

    def act(tx: Connection) -> Response:
        if state == StepState.IN_PROGRESS:
            moved = workitems.start(tx, uid, transaction_uid, call.who.name, call.now)
        else:
            moved = workitems.finish(tx, uid, transaction_uid, StepState(state), call.now)
        response = Response(status=200)
        if not moved:
            response.headers["Warning"] = f"299 triage: The UPS is already in the requested state of {state}."
        return response

    return _acted(call, act)


def update(call: Call, uid: str) -> Response:
    """Progress, and what was performed. The Transaction UID: ?1.2.3, ?transaction=, ?transaction-uid= or in the body."""
    body = _body()
    in_body = dataset.transaction_of(body)
    said = dataset.performed(body)
    raw = request.query_string.decode("ascii", "replace")
    named = request.args.get("transaction-uid") or request.args.get("transaction") or in_body
    transaction_uid = named or ("" if "=" in raw else raw)

    def act(tx: Connection) -> Response:
        workitems.note(tx, uid, transaction_uid, said, call.now)
        return Response(status=200)

    return _acted(call, act)


def request_cancel(call: Call, uid: str) -> Response:
    """The performer is told; it may refuse (PS3.18 11.8)."""
    said = _body() if request.content_length else {}
    said = said[0] if isinstance(said, list) and said else said
    values = said.get("00741238", {}).get("Value") if isinstance(said, dict) else None
    reason = str(values[0])[:1024] if isinstance(values, list) and values else ""

    def act(tx: Connection) -> Response:
        workitems.ask_cancel(tx, uid, call.who.name, reason, call.now)
        return Response(status=202)

    return _acted(call, act)


def _acted(call: Call, act: Callable[[Connection], Response]) -> Response:
    """One unit of work; errors as PS3.18 11 numbers them."""
    try:
        with call.web.database.write() as tx:
            workitems.follow(tx, call.now)
            return act(tx)
    except NotFound:
        raise
    except workitems.NotThisTransaction as error:
        return problem(400, "bad-request", str(error))
    except (Conflict, Refused) as error:
        return problem(409, "conflict", str(error))


def _asked() -> tuple[dict[str, Any], int, int]:
    """(arguments of `store.search`, limit, offset). raises Refused for a key that is not matched here."""
    asked: dict[str, Any] = {}
    for name, value in request.args.items(multi=True):
        if name not in _CONTROL:
            add_key(asked, name, value)
    return asked, min(_count("limit", MOST), MOST), _count("offset", 0)


def add_key(asked: dict[str, Any], name: str, value: str) -> None:
    """One matching key into arguments of `store.search`. raises Refused for one that is not matched here."""
    field = _KEYS.get(name)
    if field is None:
        raise Refused(f"work items are not matched by {name[:64]}")
    if field in _LISTS:
        asked.setdefault(field, []).extend(value.replace("\\", ",").split(","))
    else:
        asked[field] = value


def _count(name: str, default: int) -> int:
    text = request.args.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise Refused(f"{name} is a number")
    return int(text)


def _body() -> Any:
    if request.mimetype not in (JSON_TYPE, "application/json"):
        raise Refused(f"send Content-Type: {JSON_TYPE}")
    raw = request.get_data(cache=False)
    if len(raw) > BODY_BYTES_MAX:
        raise Refused(f"a work item's body has at most {BODY_BYTES_MAX >> 10} KiB")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refused("the body is not valid JSON") from error


def _json(tx: Connection, row: dict[str, Any]) -> dict[str, Any]:
    here = request.host_url.rstrip("/") + BASE
    ds = dataset.as_dataset(row, store.series_of(tx, row["study_id"]), here)
    found: dict[str, Any] = ds.to_json_dict()
    return found


def _answer(found: list[dict[str, Any]], status: int) -> Response:
    return Response(json.dumps(found, ensure_ascii=False), status, content_type=JSON_TYPE)


_ONE = f"{BASE}/workitems/<uid:uid>"
ROUTES = (
    Route(path=f"{BASE}/workitems", view=search, scopes=READ, needs_tx=False),
    Route(path=_ONE, view=retrieve, scopes=READ, needs_tx=False),
    Route(path=_ONE, view=update, method="POST", scopes=ACT, needs_tx=False),
    Route(path=f"{_ONE}/state", view=change_state, method="PUT", scopes=ACT, needs_tx=False),
    Route(path=f"{_ONE}/cancelrequest", view=request_cancel, method="POST", scopes=ACT, needs_tx=False),
)
