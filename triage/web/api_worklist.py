"""`/api/v1/worklist`: the list in true order, `next`, and search texts kept out of URLs."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from flask import Response

from triage.domain.errors import Refused
from triage.domain.finding import PriorityClass
from triage.store import users, worklist
from triage.store.events import last_event_id
from triage.store.worklist import OPEN_STATES, Filters
from triage.web import models, shapes
from triage.web.context import Call, Route, stamp
from triage.workflow import health, read

EVERY_STATE = ("arriving", "to_read", "claimed", "read", "withdrawn")
AI_STATES = ("requested", "running", "completed", "not_analysed", "failed", "superseded")
_SEARCH_PREFIX = "search:"
_SHARED_FOR = timedelta(seconds=1)
_SHARED_MAX = 100


def get_worklist(call: Call) -> dict[str, Any]:
    """The reading list in true order: class, due time, id."""
    query: models.WorklistQuery = call.query
    found = page_of_list(call, filters_of(call, query), query.limit, query.cursor)
    return {**found, "ordered_by": "priority", "as_of": stamp(call.now)}


def page_of_list(call: Call, filters: Filters, limit: int, cursor: str) -> dict[str, Any]:
    """One page in the shape of the contract: items, next, total, hidden_critical, degraded.

    Fifty open pages ask for the same rows after every change, so an answer is shared for a second while no event came.
    """
    newest = last_event_id(call.tx)
    key = (repr(filters), limit, cursor)
    kept = call.web.lists.get(key)
    if kept is not None and kept[0] == newest and abs(call.now - kept[1]) < _SHARED_FOR:
        return kept[2]
    rows = worklist.listing(call.tx, filters, call.now, limit=limit + 1, after=shapes.after_cursor(cursor))
    shown = rows[:limit]
    degraded = health.degraded(call.tx, call.web.settings, call.now)
    found = {
        "items": shapes.worklist_items(call.tx, shown, call.now, ai_down=shapes.ai_is_down(degraded)),
        "next": shapes.cursor_of(shown[-1]) if len(rows) > limit else None,
        "total": worklist.total(call.tx, filters, call.now),
        "hidden_critical": worklist.hidden_critical(call.tx, filters, call.now),
        "degraded": degraded,
    }
    if len(call.web.lists) >= _SHARED_MAX:
        call.web.lists.clear()
    call.web.lists[key] = (newest, call.now, found)
    return found


def next_study(call: Call) -> Any:
    """Claim and open the best free study; 204 when none is free."""
    uid = read.next_study(call.tx, call.who.name, call.now)
    return one_item(call, uid) if uid else Response(status=204)


def keep_search(call: Call) -> dict[str, str]:
    """Keep a search text here under a key: what names a patient stands in no URL and no access log (ux 5.5)."""
    body: models.SearchBody = call.body
    key = secrets.token_urlsafe(12)
    users.reserve_answer(call.tx, _SEARCH_PREFIX + key, users.digest(call.who.name), call.now)
    users.keep_answer(call.tx, _SEARCH_PREFIX + key, 200, body.text.strip())
    return {"search": key}


def search_text(call: Call, key: str) -> str:
    """The text behind a key of this same person; raises Refused when it is not there (kept for a day)."""
    kept = users.find_answer(call.tx, _SEARCH_PREFIX + key)
    if kept is None or kept["request_digest"] != users.digest(call.who.name):
        raise Refused("this search is no longer kept; search again")
    return str(kept["body"])


def filters_of(call: Call, query: models.WorklistQuery) -> Filters:
    """The filters of a query; every word is checked against its list, every value is bound (T14)."""
    text = search_text(call, query.search) if query.search else ""
    classes = _words(query.priority_class, tuple(c.word for c in PriorityClass), "priority_class")
    states = _words(query.state, EVERY_STATE, "state")
    if text:
        states = EVERY_STATE  # an accession number finds its study in any state (ux 5.5)
    elif not states:
        states = OPEN_STATES
    elif "to_read" in states and "claimed" not in states:
        states = (*states, "claimed")  # a claim that ran out reads `to_read`; a live one is still to be read
    return Filters(
        states=states,
        modalities=_texts(query.modality),
        priority_classes=[PriorityClass.from_word(w) for w in classes],
        ai_statuses=_words(query.ai_status, AI_STATES, "ai_status"),
        locations=_texts(query.location),
        sites=_texts(query.site),
        reader=call.who.name if query.reader == "me" else query.reader,
        alerts_open=query.alerts_open,
        text=text,
    )


def one_item(call: Call, study_uid: str) -> dict[str, Any]:
    """The worklist item of one study as the list says it; raises NotFound."""
    rows = worklist.listing(call.tx, Filters(states=EVERY_STATE, study_uid=study_uid), call.now, limit=1)
    if not rows:
        raise read.NotFound("no such study")
    down = shapes.ai_is_down(health.degraded(call.tx, call.web.settings, call.now))
    return shapes.worklist_items(call.tx, rows, call.now, ai_down=down)[0]


def _texts(text: str) -> list[str]:
    return [part for part in (p.strip() for p in text.split(",")) if part]


def _words(text: str, known: tuple[str, ...], name: str) -> tuple[str, ...]:
    words = tuple(_texts(text))
    unknown = [w for w in words if w not in known]
    if unknown:
        raise Refused(f"{name} is one or more of {', '.join(known)}")
    return words


READ, ACT = ("worklist:read",), ("worklist:act",)
ROUTES = (
    Route(
        path="/api/v1/worklist", view=get_worklist, scopes=READ, query=models.WorklistQuery, answer=models.Worklist
    ),
    Route(
        path="/api/v1/worklist/next", view=next_study, method="POST", scopes=ACT, body=models.Nothing,
        answer=models.WorklistItem,
    ),
    Route(
        path="/api/v1/worklist/searches", view=keep_search, method="POST", scopes=READ, body=models.SearchBody,
        answer=models.SearchKey,
    ),
)  # fmt: skip
