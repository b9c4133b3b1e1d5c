"""`/api/v1/messages`: what came from other systems and what went to them; replay, park, the raw view (admin)."""

from __future__ import annotations

from typing import Any

from triage.domain.errors import Refused
from triage.store import alerts, messages
from triage.web import models
from triage.web.context import Call, Route, stamp
from triage.workflow import messages as work
from triage.workflow.inbox import Inbox
from triage.workflow.site import new_id, site_of

STATES = {
    "in": ("received", "applied", "ignored", "refused", "parked"),
    "out": ("waiting", "delivered", "parked", "cancelled"),
}


def get_messages(call: Call) -> dict[str, Any]:
    """Messages of one direction, newest first; `before` is the last id of the page before."""
    query: models.MessagesQuery = call.query
    return _listed(call, query.direction, query.state, "", query.before, query.limit)


def search(call: Call) -> dict[str, Any]:
    """Both directions by accession number: in a body, so that no number stands in an address."""
    body: models.MessageSearchBody = call.body
    found = [_listed(call, way, "", body.accession_number, None, 100)["messages"] for way in ("in", "out")]
    rows = sorted(found[0] + found[1], key=lambda m: str(m["at"]), reverse=True)
    return {"messages": rows, "next": None, "as_of": stamp(call.now)}


def raw_in(call: Call, message_id: int) -> dict[str, Any]:
    """A message as it came: patient data, so the look at it is audited."""
    row = work.incoming(call.tx, message_id)
    work.note_viewed(call.tx, "in", message_id, call.who.name, call.now)
    return {**_in(row), "raw": work.raw_text(row["raw"]), "attempts_made": []}


def raw_out(call: Call, message_id: int) -> dict[str, Any]:
    """A message as it was sent, and each attempt."""
    row = work.outgoing(call.tx, message_id)
    work.note_viewed(call.tx, "out", message_id, call.who.name, call.now)
    tries = [
        {"at": stamp(a["at"]), "outcome": a["outcome"], "detail": a["detail"]}
        for a in alerts.attempts_of(call.tx, message_id)
    ]
    return {**_out(row), "raw": work.raw_text(row["payload"]), "attempts_made": tries}


def replay_in(call: Call, message_id: int) -> dict[str, Any]:
    """Work through it once more."""
    inbox = Inbox(call.web.database, site_of(call.web.settings), call.web.clock)
    inbox.work_in(call.tx, message_id, call.who.name)
    return _in(work.incoming(call.tx, message_id))


def replay_out(call: Call, message_id: int) -> dict[str, Any]:
    """Send it once more, under a new control id."""
    new = work.send_again(call.tx, message_id, call.who.name, new_id, call.now)
    return _out(work.outgoing(call.tx, new))


def park_in(call: Call, message_id: int) -> dict[str, Any]:
    """Set aside: nobody needs to look at it any more."""
    work.park_message(call.tx, message_id, call.who.name, call.body.reason, call.now)
    return _in(work.incoming(call.tx, message_id))


def park_out(call: Call, message_id: int) -> dict[str, Any]:
    """Take a waiting message out of the queue."""
    work.park_delivery(call.tx, message_id, call.who.name, call.body.reason, call.now)
    return _out(work.outgoing(call.tx, message_id))


def _listed(
    call: Call, direction: str, state: str, accession: str, before: int | None, limit: int
) -> dict[str, Any]:
    states = tuple(w for w in (p.strip() for p in state.split(",")) if w)
    if any(w not in STATES[direction] for w in states):
        raise Refused(f"state of a message {direction} is one or more of {', '.join(STATES[direction])}")
    if direction == "in":
        rows = messages.listing(
            call.tx, states=states, accession_number=accession, before_id=before, limit=limit
        )
    else:
        rows = alerts.delivery_listing(
            call.tx, states=states, accession_number=accession, before_id=before, limit=limit
        )
    shape = _in if direction == "in" else _out
    more = len(rows) == limit
    return {
        "messages": [shape(r) for r in rows],
        "next": rows[-1]["id"] if more else None,
        "as_of": stamp(call.now),
    }


def _in(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "direction": "in",
        "channel": "mllp",
        "peer": row["sender"] or row["address"],
        "kind": row["kind"],
        "control_id": row["control_id"],
        "state": row["state"],
        "answer": row["code"],
        "reason": row["reason"],
        "accession_number": row["accession_number"],
        "study_uid": row["study_instance_uid"],
        "at": stamp(row["received_at"]),
        "ended_at": stamp(row["ended_at"]),
        "attempts": row["attempts"],
        "next_attempt_at": None,
        "alert_id": None,
        "drill": False,
    }


def _out(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "direction": "out",
        "channel": row["channel"],
        "peer": row["route"],
        "kind": row["kind"],
        "control_id": row["control_id"],
        "state": row["state"],
        "answer": "",
        "reason": row["detail"],
        "accession_number": row["accession_number"],
        "study_uid": row["study_instance_uid"],
        "at": stamp(row["created_at"]),
        "ended_at": stamp(row["delivered_at"]),
        "attempts": row["attempts"],
        "next_attempt_at": stamp(row["next_attempt_at"]) if row["state"] == "waiting" else None,
        "alert_id": row["alert_id"],
        "drill": bool(row["drill"]),
    }


_BASE = "/api/v1/messages"


def _act(path: str, view: Any, body: Any = models.Nothing, answer: Any = models.MessageAnswer) -> Route:
    return Route(
        path=f"{_BASE}/{path}", view=view, method="POST", scopes=("admin",), body=body, answer=answer
    )


ROUTES = (
    Route(
        path=_BASE, view=get_messages, scopes=("admin",), query=models.MessagesQuery, answer=models.Messages
    ),
    _act("search", search, models.MessageSearchBody, models.Messages),
    _act("in/<id:message_id>/raw", raw_in, answer=models.RawMessage),
    _act("out/<id:message_id>/raw", raw_out, answer=models.RawMessage),
    _act("in/<id:message_id>/replay", replay_in),
    _act("out/<id:message_id>/replay", replay_out),
    _act("in/<id:message_id>/park", park_in, models.ParkBody),
    _act("out/<id:message_id>/park", park_out, models.ParkBody),
)
