"""Every key of the list, what it does, and each person's own choice of keys (ux 7, WCAG 2.1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, redirect, render_template, request

from triage.web import api_views
from triage.web.context import SIGNED_IN, Call, Route
from triage.web.language import N_

# (group, [(act, key, words)]): acts whose key is one character may have another one.
GROUPS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (N_("Move"), (
        ("down", "j", N_("next row (also ↓)")), ("up", "k", N_("previous row (also ↑)")),
        ("", "Home End", N_("first, last row")), ("", "PgUp PgDn", N_("one page")), ("", "Space", N_("select the row")),
        ("", "Shift+J/K", N_("extend the selection")), ("order", "0", N_("back to the true reading order")),
        ("", "1-7", N_("tabs; presets while the preview is open")),
    )),
    (N_("Read"), (
        ("", "Enter", N_("open and claim")), ("next", "n", N_("next in reading order: claim and open")),
        ("claim", "c", N_("claim without opening")), ("release", "r", N_("release my claim")),
        ("keep", "y", N_("keep my claim when asked")),
    )),
    (N_("Look"), (
        ("why", "w", N_("why it is here")), ("preview", "p", N_("preview")), ("line", "t", N_("time line")),
        ("history", "h", N_("history")), ("invert", "i", N_("invert the preview")), ("", "[ ]", N_("window width")),
        ("", "; '", N_("window level")), ("overlay", "o", N_("overlay, where allowed")),
    )),
    (N_("Judge"), (
        ("agree", "a", N_("agree")), ("disagree", "d", N_("disagree, then a digit for the reason")),
        ("missed", "m", N_("missed finding, then a digit")), ("undo", "z", N_("undo, for 10 seconds")),
    )),
    (N_("Alerts"), (
        ("acknowledge", "x", N_("acknowledge the alert of the row or the banner")), ("handover", "e", N_("hand over")),
        ("alerts", "l", N_("list of open alerts")),
    )),
    (N_("List"), (
        ("search", "/", N_("search")), ("", "Esc", N_("close, then clear the last filter")),
        ("", "Shift+Esc", N_("clear all filters")),
        ("freeze", "f", N_("freeze the order")), ("apply", "u", N_("apply waiting changes")),
        ("hidden", "v", N_("show critical studies outside the filter")), ("bulk", "b", N_("act on the selected rows")),
        ("columns", "s", N_("columns and saved views")), ("", "Ctrl+P", N_("print")),
        ("", "G Q, G L, G A", N_("go to QA, list, admin")),
        ("help", "?", N_("this page")),
    )),
)  # fmt: skip
DEFAULTS: Mapping[str, str] = {act: key for _, keys in GROUPS for act, key, _ in keys if act}


def table_for(preferences: Mapping[str, Any]) -> dict[str, str]:
    """{act: key} with this person's own keys."""
    own = preferences.get("keys")
    return {**DEFAULTS, **({a: k for a, k in own.items() if a in DEFAULTS} if isinstance(own, dict) else {})}


def hints(preferences: Mapping[str, Any]) -> dict[str, str]:
    """{act: key as it is written beside a word}; empty for whom single keys are off: a hint names what acts."""
    return (
        {a: k.upper() for a, k in table_for(preferences).items()}
        if preferences.get("single_keys", True)
        else {}
    )


def keys_page(call: Call) -> str:
    """Every key of the list, and a form to change or switch them off."""
    return render_template(
        "keys.html", page="help", who=call.who, site=call.web.settings.site, groups=GROUPS,
        keys=table_for(call.who.preferences),
        single=call.who.preferences.get("single_keys", True), error=request.args.get("twice", ""),
    )  # fmt: skip


def set_keys(call: Call) -> Response:
    """The form of the page; two acts on one key are refused."""
    if request.form.get("act") == "reset":
        api_views.change(call, {"keys": {}, "single_keys": True})
        return redirect("/help/keys")  # type: ignore[return-value]
    wanted = {
        act: request.form.get(f"key-{act}", "").strip().lower()[:1] or key for act, key in DEFAULTS.items()
    }
    twice = sorted({k for k in wanted.values() if list(wanted.values()).count(k) > 1})
    digits = [k for k in wanted.values() if k in "1234567[];'g"]
    if twice or digits:
        return redirect(f"/help/keys?twice={(twice or digits)[0]}")  # type: ignore[return-value]
    changed = {act: key for act, key in wanted.items() if key != DEFAULTS[act]}
    api_views.change(call, {"keys": changed, "single_keys": "single" in request.form})
    return redirect("/help/keys")  # type: ignore[return-value]


ROUTES = (
    Route(path="/help/keys", view=keys_page, scopes=SIGNED_IN, html=True),
    Route(path="/help/keys", view=set_keys, method="POST", scopes=SIGNED_IN, html=True),
)
