"""`/api/v1/worklist`: the list, `next`, acts on many studies, and search texts kept out of URLs."""

from __future__ import annotations

import json
import secrets
from datetime import datetime, timedelta
from typing import Any

from flask import Response, after_this_request

from triage.domain.errors import Refused
from triage.domain.finding import PriorityClass
from triage.hl7.fhir.cast import Kind
from triage.store import listing, studies, users
from triage.store.events import last_event_id
from triage.store.narrowing import NAMING, READING_ORDER, Filters, Sort
from triage.store.worklist import OPEN_STATES
from triage.web import shapes
from triage.web.context import Call, Route, stamp
from triage.web.models.base import Nothing
from triage.web.models.worklist import (
    BulkAnswer,
    BulkBody,
    SearchBody,
    SearchKey,
    Worklist,
    WorklistItem,
    WorklistQuery,
)
from triage.workflow import bulk, fhircast, health
from triage.workflow.read import claims
from triage.workflow.read.row import NotFound
from triage.workflow.site import new_id

EVERY_STATE = ("arriving", "to_read", "claimed", "read", "withdrawn")
AI_STATES = ("requested", "running", "completed", "not_analysed", "failed", "superseded")
_SEARCH_PREFIX = "search:"


def get_worklist(call: Call) -> dict[str, Any]:
    """The reading list in true order (class, due time, id), or sorted by another column; `rank` is the true place."""
    query: WorklistQuery = call.query
    sort = Sort(query.sort, query.descending)
    found = page_of_list(call, filters_of(call, query), query.limit, query.cursor, sort)
    return {
        **found,
        "ordered_by": "priority" if query.sort == "order" else query.sort,
        "as_of": stamp(call.now),
    }


def page_of_list(
    call: Call, filters: Filters, limit: int, cursor: str, sort: Sort = READING_ORDER
) -> dict[str, Any]:
    """One page in the shape of the contract: items, next, total, hidden_critical, degraded."""
    read_only_since = call.web.database.read_only_since
    key = ("page", filters, sort, limit, cursor, read_only_since)  # a refused act asks again at once
    return call.web.shared.get(
        key, last_event_id(call.tx), call.now, lambda: _page(call, filters, limit, cursor, sort)
    )


def _page(call: Call, filters: Filters, limit: int, cursor: str, sort: Sort) -> dict[str, Any]:
    after = shapes.after_cursor(cursor, sort)
    rows = listing.rows(call.tx, filters, call.now, limit=limit + 1, after=after, sort=sort)
    shown = rows[:limit]
    degraded = health.degraded(call.tx, call.web.settings, call.now, call.web.database.read_only_since)
    return {
        "items": shapes.worklist_items(call.tx, shown, call.now, ai_down=shapes.ai_is_down(degraded)),
        "next": shapes.cursor_of(shown[-1], sort) if len(rows) > limit else None,
        "total": listing.total(call.tx, filters, call.now),
        "hidden_critical": listing.hidden_critical(call.tx, filters, call.now),
        "degraded": degraded,
    }


def next_study(call: Call) -> Any:
    """Claim and open the best free study; 204 when none is free."""
    uid = claims.next_study(call.tx, call.who.name, call.now)
    if not uid:
        return Response(status=204)
    tell_hub(call, "imagingstudy-open", studies.find_study(call.tx, uid) or 0)
    return one_item(call, uid)


def tell_hub(call: Call, kind: Kind, study_id: int) -> None:
    """Opened in the viewer, or left: a FHIRcast hub hears of it when the act has been committed."""
    hub = call.web.hub
    if hub is None:
        return
    event = fhircast.context(call.tx, kind, study_id, call.who.name, hub.settings, new_id, call.now)

    @after_this_request
    def publish(response: Response) -> Response:
        if event is not None and response.status_code < 300:
            hub.publish(event)
        return response


def keep_search(call: Call) -> dict[str, str]:
    """Keep a search text here under a key: what names a patient stands in no URL and no access log."""
    body: SearchBody = call.body
    key = secrets.token_urlsafe(12)
    users.reserve_answer(call.tx, _SEARCH_PREFIX + key, users.digest(call.who.name), call.now)
    unknown = set(body.columns) - NAMING
    if unknown or not (body.text.strip() or any(t.strip() for t in body.columns.values())):
        raise Refused(f"search for a text, or for parts of {', '.join(sorted(NAMING))}")
    texts = {name: text.strip() for name, text in {"": body.text, **body.columns}.items() if text.strip()}
    users.keep_answer(call.tx, _SEARCH_PREFIX + key, 200, json.dumps(texts))
    return {"search": key}


def search_texts(call: Call, key: str) -> dict[str, str]:
    """The texts behind a key of this same person, "" the search box; raises Refused when gone (kept for a day)."""
    kept = users.find_answer(call.tx, _SEARCH_PREFIX + key)
    if kept is None or kept["request_digest"] != users.digest(call.who.name):
        raise Refused("this search is no longer kept; search again")
    found: dict[str, str] = json.loads(kept["body"])
    return found


def filters_of(call: Call, query: WorklistQuery) -> Filters:
    """The filters of a query; every word is checked against its list, every value is bound (T14)."""
    texts = search_texts(call, query.search) if query.search else {}
    text = texts.pop("", "")
    texts |= {"desc": query.description, "body": query.body_part, "ref": query.referrer}
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
        ordered=_words(query.ordered_priority, ("STAT", "URGENT", "ROUTINE"), "ordered_priority"),
        reports=_texts(query.report_state),
        senders=_texts(query.sender),
        alerts_open=query.alerts_open,
        flagged=query.flagged,
        waited_since=None
        if query.waited_minutes is None
        else to_the_minute(call.now) - timedelta(minutes=query.waited_minutes),
        received_since=_since(call, query.received),
        text=text,
        texts={column: part for column, part in texts.items() if part},
    )


def to_the_minute(at: datetime) -> datetime:
    """Pages that ask in the same minute ask for the same rows."""
    return at.replace(second=0, microsecond=0)


def _since(call: Call, word: str) -> datetime | None:
    """`today` (of the site), `4h`, `7d`; relative, so that a saved view stays true (ux 5.5)."""
    if word == "":
        return None
    if word == "today":
        return call.now.astimezone(call.web.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    length = int(word[:-1])
    return to_the_minute(call.now) - (timedelta(hours=length) if word[-1] == "h" else timedelta(days=length))


def act_on_many(call: Call) -> dict[str, Any]:
    """Claim for somebody, release, raise or label up to 100 studies; each alone may be refused."""
    body: BulkBody = call.body
    done, refused = bulk.act(
        call.tx, body.act, body.studies, call.who.name, call.now, to=body.to, priority_class=body.priority_class,
        reason=body.reason, label=body.label,
    )  # fmt: skip
    return {"done": done, "refused": [{"study_uid": uid, "detail": why} for uid, why in refused]}


def one_item(call: Call, study_uid: str) -> dict[str, Any]:
    """The worklist item of one study as the list says it; raises NotFound."""
    rows = listing.rows(call.tx, Filters(states=EVERY_STATE, study_uid=study_uid), call.now, limit=1)
    if not rows:
        raise NotFound("no such study")
    down = shapes.ai_is_down(
        health.degraded(call.tx, call.web.settings, call.now, call.web.database.read_only_since)
    )
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
        path="/api/v1/worklist", view=get_worklist, scopes=READ, query=WorklistQuery, answer=Worklist
    ),
    Route(
        path="/api/v1/worklist/next", view=next_study, method="POST", scopes=ACT, body=Nothing,
        answer=WorklistItem,
    ),
    Route(
        path="/api/v1/worklist/acts", view=act_on_many, method="POST", scopes=ACT, body=BulkBody,
        answer=BulkAnswer,
    ),
    Route(
        path="/api/v1/worklist/searches", view=keep_search, method="POST", scopes=READ, body=SearchBody,
        answer=SearchKey,
    ),
)  # fmt: skip
