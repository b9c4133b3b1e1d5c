"""The list as a page draws it: one drawing for all who ask the same, each person's own claims put in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from flask import Response, current_app
from pydantic import Field

from triage.store import alerts, reading, users
from triage.store.events import last_event_id
from triage.store.narrowing import Filters, Sort
from triage.store.worklist import OPEN_STATES
from triage.web import answers, columns, figures, language, present, shapes, wording
from triage.web.api_worklist import EVERY_STATE, filters_of, page_of_list, search_texts, to_the_minute
from triage.web.context import Call, stamp
from triage.web.language import _
from triage.web.models.worklist import WorklistQuery
from triage.web.times import clock, milliseconds

NEWEST = {"read": Sort("read", descending=True), "all": Sort("arrived", descending=True)}


class ListQuery(WorklistQuery):
    """What the URL of the list holds: a tab, filters, a sort; never a name."""

    tab: Literal["to_read", "mine", "not_ready", "not_analysed", "alerts", "read", "all"] = "to_read"
    limit: Annotated[int, Field(ge=1, le=500)] = 100


@dataclass(frozen=True)
class Drawn:
    """What is the same for everybody who asks the same in one language.

    items   as the API says them
    rows    the same as somebody sees them who holds none; `texts` the same as JSON
    around  all else that the page draws, but for the count of one's own
    claims  {reader: how many open studies he holds}
    """

    items: Sequence[Mapping[str, Any]]
    rows: Sequence[dict[str, Any]]
    texts: Sequence[str]
    names: Mapping[str, str]
    around: Mapping[str, Any]
    claims: Mapping[str, int]


def worklist_rows(call: Call) -> Response:
    """The list as the page draws it; asked again after every change."""
    drawn = _drawn(call, call.query)
    texts = list(drawn.texts)
    for place, row in _own(call, drawn):
        texts[place] = _json(row)
    around = _json(_around(call, drawn))
    return answers.of_text(f'{around[:-1]},"rows":[{",".join(texts)}]}}', stamp(call.now))


def listed(call: Call, query: ListQuery) -> dict[str, Any]:
    """The same for a page that is drawn here."""
    drawn = _drawn(call, query)
    rows = list(drawn.rows)
    for place, row in _own(call, drawn):
        rows[place] = row
    return {**_around(call, drawn), "rows": rows, "as_of": stamp(call.now)}


def _json(said: Mapping[str, Any]) -> str:
    return current_app.json.dumps(said, separators=(",", ":"))


def _own(call: Call, drawn: Drawn) -> Iterator[tuple[int, dict[str, Any]]]:
    """(place, row) of what this person has claimed."""
    for place, item in enumerate(drawn.items):
        if item["claimed_by"] == call.who.name:
            yield place, present.row(item, call.who.name, drawn.names, call.now)


def _around(call: Call, drawn: Drawn) -> dict[str, Any]:
    mine = drawn.claims.get(call.who.name, 0)
    return {**drawn.around, "tabs": {**drawn.around["tabs"], "mine": mine}}


def _drawn(call: Call, query: ListQuery) -> Drawn:
    """Shared by filters as they came to be (`me` is a name by then, a search its texts), query and language."""
    filters = tab_filters(call, query)
    key = (
        "drawn",
        language.current(),
        filters,
        query.model_dump_json(),
        call.web.database.read_only_since,
    )
    newest = last_event_id(call.tx)
    return call.web.shared.get(key, newest, call.now, lambda: _draw(call, query, filters))


def _draw(call: Call, query: ListQuery, filters: Filters) -> Drawn:
    found = page_of_list(call, filters, query.limit, query.cursor, sort_of(query))
    names = display_names(call)
    rows = [present.row(i, "", names, call.now) for i in found["items"]]
    around = {
        **{k: v for k, v in found.items() if k not in ("items", "degraded")},  # the page draws rows and bars
        "tabs": reading.tab_counts(call.tx, call.now),
        "banner": banner(call),
        "withdrawn": _withdrawn(call),
        "bars": figures.bars(call, found["degraded"]),
        "figures": figures.status_line(call),
        "empty": figures.empty_words(call, filters, query) if found["total"] == 0 else "",
        "order": _order_words(query),
        "texts": search_texts(call, query.search) if query.search else {},
        "oldest": milliseconds(stamp(reading.oldest_waiting(call.tx))),
    }
    claims = reading.open_claims(call.tx, call.now)
    return Drawn(found["items"], rows, [_json(r) for r in rows], names, around, claims)


def sort_of(query: ListQuery) -> Sort:
    """`age` sorts by the wait: the longest is the oldest time. What need not be read any more has no reading order."""
    if query.sort == "order" and query.tab in NEWEST:
        return NEWEST[query.tab]
    return Sort(query.sort, query.descending != (query.sort == "age"))


def _order_words(query: ListQuery) -> str:
    if sort_of(query) in NEWEST.values():
        return _("Newest first. Not reading order.")
    if query.sort == "order":
        return ""
    return _(
        "Sorted by %(column)s. Not reading order.",
        column=_(columns.BY_ID[query.sort].header),
    )


def tab_filters(call: Call, query: ListQuery) -> Filters:
    states = _states(query.tab)
    asked = query.model_copy(update={"state": ",".join(states)})
    if query.tab == "not_analysed":
        asked.ai_status = "not_analysed"
    if query.tab == "mine":
        asked.reader = "me"
    if query.tab == "alerts":
        asked.alerts_open = True
    found = filters_of(call, asked)
    if query.tab == "read" and not query.search:
        return replace(found, read_since=to_the_minute(call.now) - reading.READ_TAB)
    return found


def _states(tab: str) -> tuple[str, ...]:
    if tab == "not_ready":
        return ("arriving",)
    if tab == "read":
        return ("read",)
    return EVERY_STATE if tab in ("all", "alerts") else OPEN_STATES


def banner(call: Call, *, put_off: bool = False) -> list[dict[str, Any]]:
    """Alerts that nobody has answered, newest first; those put off are left out while they are (ux 9)."""
    said = []
    for row in alerts.listing(call.tx, states=alerts.UNANSWERED, limit=100):
        if not put_off and row["later_until"] is not None and row["later_until"] > call.now:
            continue
        said.append(_banner(row))
    return said


def _banner(row: dict[str, Any]) -> dict[str, Any]:
    alert = shapes.alert(row)
    finding = _("suspected %(finding)s", finding=wording.finding(alert["finding"]))
    name = f"{wording.person(row['patient_name'])}  {wording.sex_age(alert['patient'])}"
    return {
        "id": alert["id"],
        "uid": alert["study_uid"],
        "drill": alert["drill"],
        "finding": _("DRILL: %(finding)s", finding=finding) if alert["drill"] else finding,
        "name": _("no patient") if alert["drill"] else name,
        "location": alert["location"],
        "acquired": clock(alert["acquired_at"]),
        "since": milliseconds(alert["acquired_at"] or alert["arrived_at"] or alert["raised_at"]),
        "step": alert["step"],
        "exhausted": alert["state"] == "exhausted",
        "assigned": alert["assigned_to"],
        "may_later": row["later_until"] is None and alert["state"] == "open",
    }


def _withdrawn(call: Call) -> list[str]:
    """Alerts that a newer analysis took back in the last minute: said for so long (ux 9)."""
    rows = alerts.listing(call.tx, states=("withdrawn",), limit=5)
    fresh = [r for r in rows if r["ended_at"] is not None and (call.now - r["ended_at"]).total_seconds() < 60]
    return [
        _("Withdrawn: %(finding)s, %(name)s. A newer analysis took the flag back.", finding=_banner(r)["finding"],
          name=_banner(r)["name"])
        for r in fresh
    ]  # fmt: skip


def display_names(call: Call) -> dict[str, str]:
    return {u["name"]: u["display_name"] or u["name"] for u in users.listing(call.tx)}
