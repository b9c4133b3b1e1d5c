"""The reading worklist as a page: true before any script has run, live with it (ux 5 to 7)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Response, redirect, render_template, request
from pydantic import Field

from triage.domain.finding import Mode
from triage.store import alerts, reading, users, worklist
from triage.store.worklist import OPEN_STATES, Filters
from triage.web import api_studies, auth, export, models, present, shapes
from triage.web.api_worklist import EVERY_STATE, filters_of, page_of_list
from triage.web.context import PUBLIC, SIGNED_IN, Call, Route, stamp
from triage.workflow.read import CHIPS

FIRST_ROWS = 60  # in the page as it comes; scripts keep a window of so many (ux 13)
TABS: tuple[tuple[str, str], ...] = (
    ("to_read", "To read"),
    ("mine", "Mine"),
    ("not_ready", "Not ready"),
    ("not_analysed", "Not analysed"),
    ("alerts", "Alerts open"),
    ("read", "Read"),
    ("all", "All"),
)
CHIP_WORDS = (
    "artefact",
    "known or old",
    "post-operative",
    "other pathology",
    "position or quality",
    "not clinically relevant",
    "other",
)
TAKE_OVER_WORDS = ("patient is unstable", "reader is away", "agreed by phone")


class ListQuery(models.Request):
    """What the URL of the list holds: a tab and filters, never a name."""

    tab: Literal["to_read", "mine", "not_ready", "not_analysed", "alerts", "read", "all"] = "to_read"
    modality: Annotated[str, Field(max_length=200)] = ""
    priority_class: Annotated[str, Field(max_length=60)] = ""
    location: Annotated[str, Field(max_length=1000)] = ""
    site: Annotated[str, Field(max_length=1000)] = ""
    search: Annotated[str, Field(max_length=64)] = ""
    limit: Annotated[int, Field(ge=1, le=500)] = 100
    cursor: Annotated[str, Field(max_length=200)] = ""


def home(call: Call) -> Response:
    """To the first page that this person may see."""
    where = "/worklist" if call.who.may("worklist:read") else "/audit"
    return redirect(where)  # type: ignore[return-value]


def worklist_page(call: Call, uid: str = "") -> str:
    """The list; with a study's UID in the path the same page with its panel open."""
    query: ListQuery = call.query
    found = listed(call, query.model_copy(update={"limit": FIRST_ROWS}))
    panel = _panel(call, uid) if uid else None
    return render_template(
        "worklist.html", page="worklist", who=call.who, site=call.web.settings.site, tabs=TABS, query=query,
        said=found, panel=panel, open_uid=uid, filters=_choices(call), colleagues=colleagues(call),
        chips=list(zip(CHIPS, CHIP_WORDS, strict=True)), take_over_words=TAKE_OVER_WORDS, theme=theme(call),
        flaggable=present.flaggable(), overlay=_may_overlay(call), now=stamp(call.now),
    )  # fmt: skip


def worklist_rows(call: Call) -> dict[str, Any]:
    """The list as the page draws it; asked again after every change."""
    return listed(call, call.query)


def panel(call: Call, uid: str) -> str:
    """The side panel of one study as a piece of page."""
    return render_template("panel.html", panel=_panel(call, uid), who=call.who, overlay=_may_overlay(call))


def listed(call: Call, query: ListQuery) -> dict[str, Any]:
    found = page_of_list(call, tab_filters(call, query), query.limit, query.cursor)
    names = display_names(call)
    return {
        **{k: v for k, v in found.items() if k != "items"},  # the page draws rows
        "rows": [present.row(i, call.who.name, names, call.now) for i in found["items"]],
        "tabs": reading.tab_counts(call.tx, call.who.name, call.now),
        "banner": banner(call),
        "oldest": _oldest(call),
        "as_of": stamp(call.now),
    }


def tab_filters(call: Call, query: ListQuery) -> Filters:
    asked = models.WorklistQuery(
        state=",".join(_states(query.tab)),
        modality=query.modality,
        priority_class=query.priority_class,
        ai_status="not_analysed" if query.tab == "not_analysed" else "",
        location=query.location,
        site=query.site,
        reader="me" if query.tab == "mine" else "",
        alerts_open=query.tab == "alerts",
        search=query.search,
    )
    return filters_of(call, asked)


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
        alert = shapes.alert(row)
        said.append(
            {
                "id": alert["id"],
                "uid": alert["study_uid"],
                "finding": f"suspected {alert['display']}",
                "name": f"{present.person(row['patient_name'])}  {present.sex_age(alert['patient'])}",
                "location": alert["location"],
                "acquired": present.clock(alert["acquired_at"]),
                "since": present.milliseconds(alert["acquired_at"] or alert["arrived_at"]),
                "step": alert["step"],
                "exhausted": alert["state"] == "exhausted",
                "assigned": alert["assigned_to"],
                "may_later": row["later_until"] is None and alert["state"] == "open",
            }
        )
    return said


def _panel(call: Call, uid: str) -> dict[str, Any]:
    study = api_studies.get_study(call, uid)
    names = display_names(call)
    bound = study["item"]["bound_at"]
    return study | {
        "uid": uid,
        "row": present.row(study["item"], call.who.name, names, call.now),
        "names": names,
        "terms": [r | {"words": present.reason_words(r)} for r in study["item"]["reasons"]],
        "bound": bound,
        "open_alerts": [a for a in study["alerts"] if a["state"] in alerts.UNANSWERED],
        "flags": [f for f in study["findings"] if f["actionable"]],
    }


def _may_overlay(call: Call) -> bool:
    return Mode(call.web.settings.mode) is Mode.OVERLAY or call.who.may_see_inside


def _choices(call: Call) -> dict[str, list[str]]:
    return {name: reading.names(call.tx, name) for name in ("modality", "location", "site")}


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


def _oldest(call: Call) -> int | None:
    return present.milliseconds(stamp(reading.oldest_waiting(call.tx)))


def theme(call: Call) -> str:
    """`dark`, `light`, or `` to follow the system."""
    found = users.find_user(call.tx, call.who.name)
    return str(found["preferences"].get("theme", "")) if found else ""


def set_theme(call: Call) -> Response:
    """Kept per user on the server, never in the browser."""
    wanted = request.form.get("theme", "")
    found = users.find_user(call.tx, call.who.name)
    if found is not None and wanted in ("", "dark", "light"):
        users.change_user(call.tx, call.who.name, preferences={**found["preferences"], "theme": wanted})
    return redirect(auth.own_path(request.form.get("next", "")) or "/")  # type: ignore[return-value]


def covered(_: Call) -> str:
    """After ten minutes without a hand on the keyboard: nothing of a patient on the screen."""
    return render_template("covered.html", next=auth.own_path(request.args.get("next", "")) or "/")


def export_list(call: Call) -> Response:
    """The list as CSV or as a table to print; audited, since it leaves the screen."""
    query = ListQuery.model_validate(request.args.to_dict())
    chosen = [u for u in request.form.get("uids", "").split(",") if u]
    kind = "csv" if request.form.get("kind") == "csv" else "print"
    rows = worklist.listing(call.tx, tab_filters(call, query), call.now, limit=export.ROWS_MAX[kind])
    items = shapes.worklist_items(call.tx, rows, call.now, ai_down=False)
    kept = [i for i in items if not chosen or i["study_uid"] in chosen]
    return export.answer(call, kind, kept, query.model_dump(exclude_defaults=True), display_names(call))


def keys_page(call: Call) -> str:
    """Every key of the list."""
    return render_template(
        "keys.html", page="help", who=call.who, site=call.web.settings.site, theme=theme(call)
    )


READ = ("worklist:read",)
ROUTES = (
    Route(path="/", view=home, scopes=SIGNED_IN, html=True, needs_tx=False),
    Route(path="/worklist", view=worklist_page, scopes=READ, query=ListQuery, html=True),
    Route(path="/worklist/<uid:uid>", view=worklist_page, scopes=READ, query=ListQuery, html=True),
    Route(path="/worklist/<uid:uid>/panel", view=panel, scopes=READ, html=True),
    Route(path="/worklist/rows", view=worklist_rows, scopes=READ, query=ListQuery),
    Route(path="/worklist/export", view=export_list, method="POST", scopes=READ, html=True),
    Route(path="/preferences/theme", view=set_theme, method="POST", scopes=SIGNED_IN, html=True),
    Route(path="/covered", view=covered, scopes=PUBLIC, html=True, needs_tx=False),
    Route(path="/help/keys", view=keys_page, scopes=SIGNED_IN, html=True),
)
