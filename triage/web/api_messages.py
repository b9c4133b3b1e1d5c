"""`/api/v1/messages`: what came from other systems and what went to them; replay, park, the raw view (admin)."""

from __future__ import annotations

from typing import Any

from triage.domain.errors import Refused
from triage.store import deliveries, messages
from triage.web.context import Call, Route, stamp
from triage.web.models.base import Nothing
from triage.web.models.messages import (
    MessageAnswer,
    Messages,
    MessageSearchBody,
    MessagesQuery,
    ParkBody,
    RawMessage,
)
from triage.workflow import messages as work
from triage.workflow.inbox import Inbox
from triage.workflow.site import new_id, site_of

STATES = {
    "in": ("received", "applied", "ignored", "refused", "parked"),
    "out": ("waiting", "delivered", "parked", "cancelled"),
}


def get_messages(call: Call) -> dict[str, Any]:
    """Messages of one direction, newest first; `before` is the last id of the page before."""
    query: MessagesQuery = call.query
    return listed(call, query.direction, query.state, query.before, query.limit, peer=query.peer)


def search(call: Call) -> dict[str, Any]:
    """Both directions by accession number: in a body, so that no number stands in an address."""
    body: MessageSearchBody = call.body
    return {"messages": found_by(call, body.accession_number), "next": None, "as_of": stamp(call.now)}


def found_by(call: Call, accession: str) -> list[dict[str, Any]]:
    """Both directions, newest first."""
    ways = [listed(call, way, "", None, 100, accession=accession)["messages"] for way in ("in", "out")]
    return sorted(ways[0] + ways[1], key=lambda m: str(m["at"]), reverse=True)


def raw_in(call: Call, message_id: int) -> dict[str, Any]:
    """A message as it came: patient data, so the look at it is audited."""
    row = work.incoming(call.tx, message_id)
    work.note_viewed(call.tx, "in", message_id, call.who.name, call.now)
    return {**brief_in(row), "raw": work.raw_text(row["raw"]), "attempts_made": []}


def raw_out(call: Call, message_id: int) -> dict[str, Any]:
    """A message as it was sent, and each attempt."""
    row = work.outgoing(call.tx, message_id)
    work.note_viewed(call.tx, "out", message_id, call.who.name, call.now)
    return {
        **brief_out(row),
        "raw": work.raw_text(row["payload"]),
        "attempts_made": tries(call, message_id),
    }


def tries(call: Call, message_id: int) -> list[dict[str, Any]]:
    made = deliveries.attempts_of(call.tx, message_id)
    return [{"at": stamp(a["at"]), "outcome": a["outcome"], "detail": a["detail"]} for a in made]


def replay_in(call: Call, message_id: int) -> dict[str, Any]:
    """Work through it once more."""
    inbox = Inbox(call.web.database, site_of(call.web.settings), call.web.clock)
    inbox.work_in(call.tx, message_id, call.who.name)
    return brief_in(work.incoming(call.tx, message_id))


def replay_out(call: Call, message_id: int) -> dict[str, Any]:
    """Send it once more, under a new control id."""
    new = work.send_again(call.tx, message_id, call.who.name, new_id, call.now)
    return brief_out(work.outgoing(call.tx, new))


def park_in(call: Call, message_id: int) -> dict[str, Any]:
    """Set aside: nobody needs to look at it any more."""
    work.park_message(call.tx, message_id, call.who.name, call.body.reason, call.now)
    return brief_in(work.incoming(call.tx, message_id))


def park_out(call: Call, message_id: int) -> dict[str, Any]:
    """Take a waiting message out of the queue."""
    work.park_delivery(call.tx, message_id, call.who.name, call.body.reason, call.now)
    return brief_out(work.outgoing(call.tx, message_id))


def listed(
    call: Call, direction: str, state: str, before: int | None, limit: int, *, accession: str = "", peer: str = "",
    stuck: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """One page of one direction. raises Refused for a state that no message has"""
    states = tuple(w for w in (p.strip() for p in state.split(",")) if w)
    if any(w not in STATES[direction] for w in states):
        raise Refused(f"state of a message {direction} is one or more of {', '.join(STATES[direction])}")
    if direction == "in":
        rows = messages.listing(
            call.tx, states=states, accession_number=accession, sender=peer, before_id=before, limit=limit,
            stuck=stuck,
        )  # fmt: skip
    else:
        rows = deliveries.listing(
            call.tx, states=states, accession_number=accession, route_name=peer, before_id=before, limit=limit,
            stuck=stuck,
        )  # fmt: skip
    shape = brief_in if direction == "in" else brief_out
    more = len(rows) == limit
    return {
        "messages": [shape(r) for r in rows],
        "next": rows[-1]["id"] if more else None,
        "as_of": stamp(call.now),
    }


def brief_in(row: dict[str, Any]) -> dict[str, Any]:
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


def brief_out(row: dict[str, Any]) -> dict[str, Any]:
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


def _act(path: str, view: Any, body: Any = Nothing, answer: Any = MessageAnswer) -> Route:
    return Route(
        path=f"{_BASE}/{path}", view=view, method="POST", scopes=("admin",), body=body, answer=answer
    )


ROUTES = (
    Route(path=_BASE, view=get_messages, scopes=("admin",), query=MessagesQuery, answer=Messages),
    _act("search", search, MessageSearchBody, Messages),
    _act("in/<id:message_id>/raw", raw_in, answer=RawMessage),
    _act("out/<id:message_id>/raw", raw_out, answer=RawMessage),
    _act("in/<id:message_id>/replay", replay_in),
    _act("out/<id:message_id>/replay", replay_out),
    _act("in/<id:message_id>/park", park_in, ParkBody),
    _act("out/<id:message_id>/park", park_out, ParkBody),
)
