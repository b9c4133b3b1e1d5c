"""The messages page (ux 11): everything in and out, why it is stuck, its text by an act of its own, sent or worked anew.

Patient data stand in the page alone: a search comes in the body, a message is named by its row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from flask import Response, make_response, redirect, request
from pydantic import Field
from sqlalchemy import Connection

from triage.domain.errors import Conflict, Refused
from triage.store import messages, overview
from triage.web import admin, api_messages
from triage.web.context import Call, Route
from triage.web.language import N_
from triage.web.models.base import Request
from triage.workflow import messages as work
from triage.workflow.inbox import Inbox
from triage.workflow.read.row import NotFound
from triage.workflow.site import new_id, site_of

PAGE = 50
STUCK = "stuck"
CHANNELS = {"mllp": "HL7", "webhook": "webhook", "mail": "mail", "fhir": "FHIR"}
DONE = {"replayed": N_("A new message waits to be sent, under a control id of its own."),
        "worked": N_("Worked through."), "aside": N_("Set aside.")}  # fmt: skip


class MessagesQuery(Request):
    """What is shown; never a number of a patient or an order."""

    direction: Literal["in", "out"] = "out"
    state: Annotated[str, Field(pattern="^[a-z]{0,12}$")] = STUCK
    peer: Annotated[str, Field(max_length=160)] = ""
    before: Annotated[int, Field(ge=1, lt=2**53)] | None = None


class DoneQuery(Request):
    done: Literal["", "replayed", "worked", "aside"] = ""


def messages_page(call: Call, *, found: list[dict[str, Any]] | None = None, searched: str = "") -> str:
    """Ways in and out with what waits on each, then the messages of one direction."""
    query: MessagesQuery = call.query or MessagesQuery()
    stuck = query.state == STUCK
    shown: dict[str, Any] = {"messages": found, "next": None}
    if found is None:
        state = "" if stuck else query.state
        shown = api_messages.listed(
            call, query.direction, state, query.before, PAGE, peer=query.peer, stuck=stuck
        )
    routes = overview.deliveries_by_route(call.tx)
    kinds = {r.name: r.kind for r in call.web.settings.routes}
    return admin.page(
        call, "messages", query=query, searched=searched, rows=shown["messages"], routes=routes, kinds=kinds,
        channels=CHANNELS, counts=messages.counts(call.tx), states=api_messages.STATES, older=_older(query, shown["next"]),
        stuck=_stuck(call), notices=overview.notices(call.tx), senders=messages.senders(call.tx),
        names=sorted({*kinds, *routes}),
    )  # fmt: skip


def _stuck(call: Call) -> dict[str, str]:
    """How many of each direction wait for a person, counted up to a page."""
    found = {
        way: len(api_messages.listed(call, way, "", None, PAGE, stuck=True)["messages"])
        for way in ("in", "out")
    }
    return {way: f"{n}+" if n == PAGE else str(n) for way, n in found.items()}


def _older(query: MessagesQuery, before: int | None) -> str:
    if before is None:
        return ""
    return urlencode(query.model_dump(exclude_defaults=True) | {"before": before})


def search(call: Call) -> Response:
    """Both directions by accession number, which stands in no address."""
    accession = request.form.get("accession_number", "").strip()[:64]
    with call.web.database.read() as tx:
        inner = replace(call, tx=tx)
        found = api_messages.found_by(inner, accession) if accession else None
        return make_response(messages_page(inner, found=found, searched=accession))


# --- one message -----------------------------------------------------------------------------------------------


def message_page(call: Call, way: str, message_id: int, *, raw: str | None = None, **values: Any) -> str:
    """What became of it, each try, and what a person can do; its text only when it was asked for."""
    if way == "out":
        row = work.outgoing(call.tx, message_id)
        shown, tried = api_messages.brief_out(row), api_messages.tries(call, message_id)
    else:
        row = work.incoming(call.tx, message_id)
        shown, tried = api_messages.brief_in(row) | {"error": row["error"]}, []
    done = DONE.get(request.args.get("done", ""), "")
    return admin.page(
        call, "message", m=shown, tries=tried, raw=raw, said=done, channels=CHANNELS, **values
    )  # fmt: skip


def act_on_message(call: Call, way: str, message_id: int) -> Response:
    """Show its text; send it anew or work through it again; set it aside with a reason."""
    what, reason = request.form.get("act", ""), request.form.get("reason", "")
    try:
        with call.web.database.write() as tx:
            if what == "raw":
                inner = replace(call, tx=tx)
                work.note_viewed(tx, way, message_id, call.who.name, call.now)
                return make_response(message_page(inner, way, message_id, raw=_text(tx, way, message_id)))
            done, then = _done(call, tx, way, message_id, what, reason)
    except NotFound:
        raise
    except (Refused, Conflict) as error:
        with call.web.database.read() as tx:
            again = message_page(replace(call, tx=tx), way, message_id, error=str(error), form=request.form)
        return make_response(again, 422 if isinstance(error, Refused) else 409)
    return make_response(redirect(f"/admin/messages/{way}/{then}?done={done}"))


def _text(tx: Connection, way: str, message_id: int) -> str:
    if way == "out":
        return work.raw_text(work.outgoing(tx, message_id)["payload"])
    return work.raw_text(work.incoming(tx, message_id)["raw"])


def _done(call: Call, tx: Connection, way: str, message_id: int, what: str, reason: str) -> tuple[str, int]:
    """(which words, which message to show then)"""
    me, now = call.who.name, call.now
    if (way, what) == ("out", "replay"):
        return "replayed", work.send_again(tx, message_id, me, new_id, now)
    if (way, what) == ("in", "replay"):
        Inbox(call.web.database, site_of(call.web.settings), call.web.clock).work_in(tx, message_id, me)
        return "worked", message_id
    if what == "park":
        (work.park_delivery if way == "out" else work.park_message)(tx, message_id, me, reason, now)
        return "aside", message_id
    raise Refused("no such act")


_ONE = "/admin/messages/<any(in,out):way>/<id:message_id>"
ROUTES = (
    Route(path="/admin/messages", view=messages_page, scopes=admin.ADMIN, query=MessagesQuery, html=True),
    Route(path="/admin/messages", view=search, method="POST", scopes=admin.ADMIN, html=True, needs_tx=False),
    Route(path=_ONE, view=message_page, scopes=admin.ADMIN, query=DoneQuery, html=True),
    Route(path=_ONE, view=act_on_message, method="POST", scopes=admin.ADMIN, html=True, needs_tx=False),
)
