"""What a person keeps of the list: saved views, columns, widths, density, keys, language; on the server alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from flask import Response, redirect, request
from pydantic import Field

from triage.domain.errors import Refused
from triage.store import audit, users, views
from triage.web import auth, columns
from triage.web.context import SIGNED_IN, Call, Route, stamp
from triage.web.language import LANGUAGES, script_words
from triage.web.models.base import Nothing, Part, Request

READ = ("worklist:read",)
ColumnId = Annotated[str, Field(pattern=f"^({'|'.join(columns.BY_ID)})$")]
VIEWS_MAX = 50
_FILTERS = {*columns.PARAMETERS, "tab", "sort", "descending", "flagged"}


class Preferences(Request):
    """Only what is named changes."""

    columns: list[ColumnId] | None = None
    widths: dict[ColumnId, int] | None = None
    density: Literal["compact", "comfortable"] | None = None
    panel_width: int | None = None
    keys: dict[str, str] | None = None
    single_keys: bool | None = None


class ViewBody(Request):
    name: Annotated[str, Field(min_length=1, max_length=60)]
    filters: dict[str, Part] = Field(default_factory=dict)
    columns: list[ColumnId] = Field(default_factory=list)
    density: Literal["", "compact", "comfortable"] = ""
    shared: bool = False
    default_for: Literal["", "reader", "lead", "qa", "admin"] = ""


def get_views(call: Call) -> dict[str, Any]:
    """One's own saved views and the shared ones."""
    return {"views": [_view(v, call.who.name) for v in views.seen_by(call.tx, call.who.name)]}


def put_view(call: Call) -> dict[str, Any]:
    """Save a view under a name; again: replace it. What can name a patient is not kept in a view."""
    body: ViewBody = call.body
    unknown = set(body.filters) - _FILTERS
    if unknown:
        raise Refused(f"a view keeps {', '.join(sorted(_FILTERS))}; what can name a patient is not saved")
    if (body.shared or body.default_for) and call.who.role not in ("lead", "admin"):
        raise Refused("a lead or an administrator shares views")
    mine = [v for v in views.seen_by(call.tx, call.who.name) if v["owner"] == call.who.name]
    if len(mine) >= VIEWS_MAX and body.name not in [v["name"] for v in mine]:
        raise Refused(f"{VIEWS_MAX} views are kept for a person; remove one first")
    content = {"filters": body.filters, "columns": body.columns, "density": body.density}
    views.save(
        call.tx, call.who.name, body.name, content, call.now, shared=body.shared or bool(body.default_for),
        default_for=body.default_for,
    )  # fmt: skip
    if body.shared:
        audit.append(call.tx, call.now, call.who.name, "view.shared", "view", body.name)
    return get_views(call)


def remove_view(call: Call, name: str) -> dict[str, Any]:
    """Remove a view of one's own."""
    if not views.remove(call.tx, call.who.name, name):
        raise Refused("you have no view of this name")
    return get_views(call)


def _view(v: dict[str, Any], person: str) -> dict[str, Any]:
    return {
        "name": v["name"],
        "owner": v["owner"],
        "mine": v["owner"] == person,
        "shared": v["shared"],
        "default_for": v["default_for"],
        **v["content"],
        "path": path_of(v),
        "saved_at": stamp(v["saved_at"]),
    }


def path_of(view: dict[str, Any]) -> str:
    filters = {k: v for k, v in view["content"]["filters"].items() if v}
    return f"/worklist?{urlencode(filters)}" if filters else "/worklist"


def put_preferences(call: Call) -> dict[str, Any]:
    """Columns, widths, density, keys: kept with the person."""
    body: Preferences = call.body
    changed = body.model_dump(exclude_none=True)
    for name, width in (body.widths or {}).items():
        if not columns.WIDTH_MIN <= width <= columns.WIDTH_MAX:
            raise Refused(f"{name}: a column has {columns.WIDTH_MIN} to {columns.WIDTH_MAX} px")
    if body.panel_width is not None and not 280 <= body.panel_width <= 1200:
        raise Refused("the panel has 280 to 1200 px")
    if body.keys is not None and (
        len(body.keys) > 60 or any(len(k) > 20 or len(v) != 1 for k, v in body.keys.items())
    ):
        raise Refused("a key is one character")
    return change(call, changed)


def change(call: Call, changed: dict[str, Any]) -> dict[str, Any]:
    found = users.find_user(call.tx, call.who.name)
    if found is None:
        raise Refused("a token keeps no preferences; sign in")
    kept = {**found["preferences"], **changed}
    users.change_user(call.tx, call.who.name, preferences=kept)
    return kept


def set_appearance(call: Call) -> Response:
    """Colours and language, from the form in the top bar."""
    theme, language = request.form.get("theme", ""), request.form.get("language", "")
    change(call, {
        **({"theme": theme} if theme in ("", "dark", "light") else {}),
        **({"language": language} if language in ("", *LANGUAGES) else {}),
    })  # fmt: skip
    return redirect(auth.own_path(request.form.get("next", "")) or "/")  # type: ignore[return-value]


def get_words(_: Call, name: str) -> dict[str, Any]:
    """What the browser's modules say, in this language."""
    return {"words": script_words(name)}


ROUTES = (
    Route(path="/api/v1/views", view=get_views, scopes=READ),
    Route(path="/api/v1/views", view=put_view, method="PUT", scopes=READ, body=ViewBody),
    Route(
        path="/api/v1/views/<string(maxlength=60):name>",
        view=remove_view,
        method="DELETE",
        scopes=READ,
        body=Nothing,
    ),
    Route(path="/api/v1/preferences", view=put_preferences, method="PUT", scopes=SIGNED_IN, body=Preferences),
    Route(path="/preferences/appearance", view=set_appearance, method="POST", scopes=SIGNED_IN, html=True),
    Route(path="/words/<string(length=2):name>", view=get_words, scopes=SIGNED_IN),
)
