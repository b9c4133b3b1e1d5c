"""The reading worklist as a page: true before any script has run, live with it (ux 5 to 7)."""

from __future__ import annotations

from typing import Any

from flask import Response, redirect, render_template, request

from triage.domain.finding import Mode
from triage.store import alerts, listing, users, views
from triage.web import (
    api_studies,
    api_views,
    auth,
    choices,
    columns,
    drawn,
    export,
    present,
    shapes,
    wording,
)
from triage.web.context import PUBLIC, SIGNED_IN, Call, Route, stamp
from triage.web.keys import hints, table_for
from triage.web.language import N_, _
from triage.workflow.read.verdicts import CHIPS

FIRST_ROWS = 60  # in the page as it comes; scripts keep a window of so many (ux 13)
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


def home(call: Call) -> Response:
    """To the first page that this person may see; the list in the view that is default for the role."""
    where = "/worklist" if call.who.may("worklist:read") else "/audit"
    view = views.default_of(call.tx, call.who.role) if where == "/worklist" else None
    return redirect(api_views.path_of(view) if view else where)  # type: ignore[return-value]


def worklist_page(call: Call, uid: str = "") -> str:
    """The list; with a study's UID in the path the same page with its panel open."""
    query: drawn.ListQuery = call.query
    shown = columns.shown(call.who.preferences)
    found = drawn.listed(call, query.model_copy(update={"limit": FIRST_ROWS}))
    return render_template(
        "worklist.html", page="worklist", who=call.who, site=call.web.settings.site, tabs=TABS, query=query, said=found,
        panel=_panel(call, uid) if uid else None, open_uid=uid, columns=shown, widths=columns.widths(call.who.preferences),
        choices=choices.of_columns(call, shown), asked=query.model_dump(), texts=found["texts"],
        one_site=len(choices.names(call, "site")) < 2, density=call.who.preferences.get("density", "compact"),
        overlay=_may_overlay(call), now=stamp(call.now), known=_known(call), cells=present.cells_of,
        hints=hints(call.who.preferences),
    )  # fmt: skip


def _known(call: Call) -> dict[str, Any]:
    """What the scripts must know and no answer repeats."""
    return {
        "me": call.who.name,
        "mayAct": call.who.may("worklist:act"),
        "mayAlert": call.who.may("alerts:act"),
        "mayShare": call.who.role in ("lead", "admin"),
        "chips": [[c, _(wording.CHIP_WORDS[c])] for c in CHIPS],
        "missed": wording.flaggable(),
        "colleagues": colleagues(call),
        "names": drawn.display_names(call),
        "takeOver": [_(w) for w in TAKE_OVER_WORDS],
        "keys": table_for(call.who.preferences),
        "hints": hints(call.who.preferences),
        "singleKeys": call.who.preferences.get("single_keys", True),
        "panelWidth": call.who.preferences.get("panel_width"),
        "density": call.who.preferences.get("density", "compact"),
        "columns": [[c.id, _(c.label), c.id in columns.FIXED] for c in columns.ALL if c.id != "sel"],
        "zone": str(call.web.zone),
    }


def panel(call: Call, uid: str) -> str:
    """The side panel of one study as a piece of page."""
    return render_template(
        "panel.html", panel=_panel(call, uid), who=call.who, overlay=_may_overlay(call),
        hints=hints(call.who.preferences),
    )  # fmt: skip


def _panel(call: Call, uid: str) -> dict[str, Any]:
    study = api_studies.get_study(call, uid)
    names = drawn.display_names(call)
    return study | {
        "uid": uid,
        "row": present.row(study["item"], call.who.name, names, call.now),
        "names": names,
        "terms": [r | {"words": wording.reason_words(r)} for r in study["item"]["reasons"]],
        "bound": study["item"]["bound_at"],
        "open_alerts": [a for a in study["alerts"] if a["state"] in alerts.UNANSWERED],
        "flags": [f | {"words": wording.finding(f["name"])} for f in study["findings"] if f["actionable"]],
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


def covered(_call: Call) -> str:
    """After ten minutes without a hand on the keyboard: nothing of a patient on the screen."""
    return render_template("covered.html", next=auth.own_path(request.args.get("next", "")) or "/")


def export_list(call: Call) -> Response:
    """The list as CSV or as a table to print; audited, since it leaves the screen."""
    query = drawn.ListQuery.model_validate(request.args.to_dict())
    chosen = [u for u in request.form.get("uids", "").split(",") if u]
    kind = "csv" if request.form.get("kind") == "csv" else "print"
    rows = listing.rows(
        call.tx,
        drawn.tab_filters(call, query),
        call.now,
        limit=export.ROWS_MAX[kind],
        sort=drawn.sort_of(query),
    )
    items = shapes.worklist_items(call.tx, rows, call.now, ai_down=False)
    kept = [i for i in items if not chosen or i["study_uid"] in chosen]
    return export.answer(call, kind, kept, query.model_dump(exclude_defaults=True), drawn.display_names(call))


READ = ("worklist:read",)
ROUTES = (
    Route(path="/", view=home, scopes=SIGNED_IN, html=True),
    Route(path="/worklist", view=worklist_page, scopes=READ, query=drawn.ListQuery, html=True),
    Route(path="/worklist/<uid:uid>", view=worklist_page, scopes=READ, query=drawn.ListQuery, html=True),
    Route(path="/worklist/<uid:uid>/panel", view=panel, scopes=READ, html=True),
    Route(path="/worklist/rows", view=drawn.worklist_rows, scopes=READ, query=drawn.ListQuery),
    Route(path="/worklist/export", view=export_list, method="POST", scopes=READ, html=True),
    Route(path="/covered", view=covered, scopes=PUBLIC, html=True, needs_tx=False),
)
