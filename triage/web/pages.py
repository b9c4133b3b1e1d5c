"""The reading worklist as a page: true before any script has run, live with it (ux 5 to 7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from flask import Response, redirect, render_template, request
from pydantic import Field

from triage.domain.finding import Mode
from triage.store import alerts, listing, reading, users, views
from triage.store.listing import Filters, Sort
from triage.store.worklist import OPEN_STATES
from triage.web import (
    api_studies,
    api_views,
    auth,
    choices,
    columns,
    export,
    figures,
    present,
    shapes,
)
from triage.web.api_worklist import EVERY_STATE, filters_of, page_of_list, search_texts, to_the_minute
from triage.web.context import PUBLIC, SIGNED_IN, Call, Route, stamp
from triage.web.keys import table_for
from triage.web.language import N_, _
from triage.web.models.worklist import WorklistQuery
from triage.web.times import clock, milliseconds
from triage.workflow.read.verdicts import CHIPS

FIRST_ROWS = 60  # in the page as it comes; scripts keep a window of so many (ux 13)
NEWEST = {"read": Sort("read", descending=True), "all": Sort("arrived", descending=True)}
TABS: tuple[tuple[str, str], ...] = (
    ("to_read", N_("To read")),
    ("mine", N_("Mine")),
    ("not_ready", N_("Not ready")),
    ("not_analysed", N_("Not analysed")),
    ("alerts", N_("Alerts open")),
    ("read", N_("Read (48 h)")),
    ("all", N_("All")),
)
TAKE_OVER_WORDS = (N_("patient is unstable"), N_("reader is away"), N_("agreed by phone"))


class ListQuery(WorklistQuery):
    """What the URL of the list holds: a tab, filters, a sort; never a name."""

    tab: Literal["to_read", "mine", "not_ready", "not_analysed", "alerts", "read", "all"] = "to_read"
    limit: Annotated[int, Field(ge=1, le=500)] = 100


def home(call: Call) -> Response:
    """To the first page that this person may see; the list in the view that is default for the role."""
    where = "/worklist" if call.who.may("worklist:read") else "/audit"
    view = views.default_of(call.tx, call.who.role) if where == "/worklist" else None
    return redirect(api_views.path_of(view) if view else where)  # type: ignore[return-value]


def worklist_page(call: Call, uid: str = "") -> str:
    """The list; with a study's UID in the path the same page with its panel open."""
    query: ListQuery = call.query
    shown = columns.shown(call.who.preferences)
    found = listed(call, query.model_copy(update={"limit": FIRST_ROWS}))
    return render_template(
        "worklist.html", page="worklist", who=call.who, site=call.web.settings.site, tabs=TABS, query=query, said=found,
        panel=_panel(call, uid) if uid else None, open_uid=uid, columns=shown, widths=columns.widths(call.who.preferences),
        choices=choices.of_columns(call, shown), asked=query.model_dump(), texts=found["texts"],
        one_site=len(choices.names(call, "site")) < 2, density=call.who.preferences.get("density", "compact"),
        overlay=_may_overlay(call), now=stamp(call.now), known=_known(call), cells=present.cells_of,
    )  # fmt: skip


def _known(call: Call) -> dict[str, Any]:
    """What the scripts must know and no answer repeats."""
    return {
        "me": call.who.name,
        "mayAct": call.who.may("worklist:act"),
        "mayAlert": call.who.may("alerts:act"),
        "mayShare": call.who.role in ("lead", "admin"),
        "chips": [[c, _(present.CHIP_WORDS[c])] for c in CHIPS],
        "missed": present.flaggable(),
        "colleagues": colleagues(call),
        "names": display_names(call),
        "takeOver": [_(w) for w in TAKE_OVER_WORDS],
        "keys": table_for(call.who.preferences),
        "singleKeys": call.who.preferences.get("single_keys", True),
        "panelWidth": call.who.preferences.get("panel_width"),
        "density": call.who.preferences.get("density", "compact"),
        "columns": [[c.id, _(c.label), c.id in columns.FIXED] for c in columns.ALL if c.id != "sel"],
        "zone": str(call.web.zone),
    }


def worklist_rows(call: Call) -> dict[str, Any]:
    """The list as the page draws it; asked again after every change."""
    return listed(call, call.query)


def panel(call: Call, uid: str) -> str:
    """The side panel of one study as a piece of page."""
    return render_template("panel.html", panel=_panel(call, uid), who=call.who, overlay=_may_overlay(call))


def listed(call: Call, query: ListQuery) -> dict[str, Any]:
    filters = tab_filters(call, query)
    found = page_of_list(call, filters, query.limit, query.cursor, sort_of(query))
    names = display_names(call)
    return {
        **{k: v for k, v in found.items() if k not in ("items", "degraded")},  # the page draws rows and bars
        "rows": [present.row(i, call.who.name, names, call.now) for i in found["items"]],
        "tabs": reading.tab_counts(call.tx, call.who.name, call.now),
        "banner": banner(call),
        "withdrawn": _withdrawn(call),
        "bars": figures.bars(call, found["degraded"]),
        "figures": figures.status_line(call),
        "empty": figures.empty_words(call, filters, query) if found["total"] == 0 else "",
        "order": _order_words(query),
        "texts": search_texts(call, query.search) if query.search else {},
        "oldest": milliseconds(stamp(reading.oldest_waiting(call.tx))),
        "as_of": stamp(call.now),
    }


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
        "Sorted by %(column)s. Not reading order. Press 0 to return.",
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
    finding = _("suspected %(finding)s", finding=present.finding(alert["finding"]))
    name = f"{present.person(row['patient_name'])}  {present.sex_age(alert['patient'])}"
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


def _panel(call: Call, uid: str) -> dict[str, Any]:
    study = api_studies.get_study(call, uid)
    names = display_names(call)
    return study | {
        "uid": uid,
        "row": present.row(study["item"], call.who.name, names, call.now),
        "names": names,
        "terms": [r | {"words": present.reason_words(r)} for r in study["item"]["reasons"]],
        "bound": study["item"]["bound_at"],
        "open_alerts": [a for a in study["alerts"] if a["state"] in alerts.UNANSWERED],
        "flags": [f | {"words": present.finding(f["name"])} for f in study["findings"] if f["actionable"]],
    }


def _may_overlay(call: Call) -> bool:
    return Mode(call.web.settings.mode) is Mode.OVERLAY or call.who.may_see_inside


def colleagues(call: Call) -> list[tuple[str, str]]:
    people = users.listing(call.tx)
    fit = [
        u
        for u in people
        if u["role"] in ("reader", "lead") and not u["disabled"] and u["name"] != call.who.name
    ]
    return [(u["name"], u["display_name"] or u["name"]) for u in fit]


def display_names(call: Call) -> dict[str, str]:
    return {u["name"]: u["display_name"] or u["name"] for u in users.listing(call.tx)}


def covered(_call: Call) -> str:
    """After ten minutes without a hand on the keyboard: nothing of a patient on the screen."""
    return render_template("covered.html", next=auth.own_path(request.args.get("next", "")) or "/")


def export_list(call: Call) -> Response:
    """The list as CSV or as a table to print; audited, since it leaves the screen."""
    query = ListQuery.model_validate(request.args.to_dict())
    chosen = [u for u in request.form.get("uids", "").split(",") if u]
    kind = "csv" if request.form.get("kind") == "csv" else "print"
    rows = listing.rows(
        call.tx, tab_filters(call, query), call.now, limit=export.ROWS_MAX[kind], sort=sort_of(query)
    )
    items = shapes.worklist_items(call.tx, rows, call.now, ai_down=False)
    kept = [i for i in items if not chosen or i["study_uid"] in chosen]
    return export.answer(call, kind, kept, query.model_dump(exclude_defaults=True), display_names(call))


READ = ("worklist:read",)
ROUTES = (
    Route(path="/", view=home, scopes=SIGNED_IN, html=True),
    Route(path="/worklist", view=worklist_page, scopes=READ, query=ListQuery, html=True),
    Route(path="/worklist/<uid:uid>", view=worklist_page, scopes=READ, query=ListQuery, html=True),
    Route(path="/worklist/<uid:uid>/panel", view=panel, scopes=READ, html=True),
    Route(path="/worklist/rows", view=worklist_rows, scopes=READ, query=ListQuery),
    Route(path="/worklist/export", view=export_list, method="POST", scopes=READ, html=True),
    Route(path="/covered", view=covered, scopes=PUBLIC, html=True, needs_tx=False),
)
