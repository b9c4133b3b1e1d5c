"""What the coded filters of the list offer: {parameter: [(value, words)]}."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from triage.store import reading, users
from triage.web.columns import Column
from triage.web.context import Call
from triage.web.language import N_, _
from triage.web.wording import REPORTS, WORDS

_KEPT_FOR = timedelta(seconds=10)
Choices = list[tuple[str, str]]
_AI = (
    ("completed", N_("analysed")), ("not_analysed", N_("not analysed")), ("requested", N_("queued")),
    ("running", N_("running")), ("failed", N_("failed")),
)  # fmt: skip
_WAITED = (15, 30, 60, 120, 240, 480)
_RECEIVED = (
    ("today", N_("today")),
    ("4h", N_("last 4 h")),
    ("24h", N_("last 24 h")),
    ("7d", N_("last 7 days")),
)


def of_columns(call: Call, shown: Sequence[Column]) -> dict[str, Choices]:
    return {c.parameter: _of(call, c.parameter) for c in shown if c.filter in ("choice", "range")}


def _of(call: Call, parameter: str) -> Choices:
    if parameter == "priority_class":
        return [(value, _(words)) for value, words in WORDS.items()]
    if parameter == "ordered_priority":
        return [(value, value) for value in ("STAT", "URGENT", "ROUTINE")]
    if parameter == "ai_status":
        return [(value, _(words)) for value, words in _AI]
    if parameter == "report_state":
        return [(value, _(words)) for value, words in REPORTS.items() if value]
    if parameter == "alerts_open":
        return [("true", _("open"))]
    if parameter == "waited_minutes":
        return [(str(n), _("over %(n)s min", n=n)) for n in _WAITED]
    if parameter == "received":
        return [(value, _(words)) for value, words in _RECEIVED]
    if parameter == "reader":
        return [("-", _("free")), ("me", _("you")), *_readers(call)]
    return [(value, value) for value in names(call, parameter)]


def names(call: Call, what: str) -> list[str]:
    """Values that occur; asked at most every ten seconds for all pages."""
    kept = call.web.kept.get(f"names {what}")
    if kept is None or not timedelta(0) <= call.now - kept[0] < _KEPT_FOR:
        kept = call.web.kept[f"names {what}"] = (call.now, reading.names(call.tx, what))
    found: list[str] = kept[1]
    return found


def _readers(call: Call) -> Choices:
    people: list[dict[str, Any]] = users.listing(call.tx)
    fit = [
        u
        for u in people
        if u["role"] in ("reader", "lead") and not u["disabled"] and u["name"] != call.who.name
    ]
    return [(u["name"], u["display_name"] or u["name"]) for u in fit]
