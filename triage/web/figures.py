"""What the list says about itself: bars when something is down, the status line, words for an empty list (ux 5.10)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from triage.store import listing, oncall, reading, run_queue
from triage.store.narrowing import Filters
from triage.web import columns, wording
from triage.web.context import Call
from triage.web.language import _, ngettext
from triage.web.times import clock
from triage.web.told import told
from triage.workflow.health import LATE_RUN

if TYPE_CHECKING:
    from triage.web.drawn import ListQuery

_COUNTED_EVERY = timedelta(minutes=1)
_DAY = timedelta(days=1)


def bars(call: Call, degraded: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """[{"kind", "text"}]: kind `stale` amber, `bad` red; each says since when and what it means for the order."""
    said = [
        {"kind": "bad" if d["part"] in ("deliveries", "database") else "stale", "text": _words(d)}
        for d in degraded
        if d["part"] != "queue"
    ]
    if any(d["part"] == "database" for d in degraded):
        said[0]["text"] += " " + _on_call(call)
    if any(d["part"] == "queue" for d in degraded):
        said += _models_down(call)
    hub = call.web.hub
    if hub is not None and hub.away_since is not None:
        text = _(
            "The FHIRcast hub does not answer since %(at)s: viewer and dictation may still show another study. Look at "
            "the patient's name there.",
            at=clock(hub.away_since),
        )
        said.append({"kind": "stale", "text": text})
    return said


def _words(d: dict[str, Any]) -> str:
    part, at = d["part"], clock(d["since"])
    if part == "database":
        return _(
            "The database takes no writes since %(at)s. The list can be read; nothing can be claimed or acknowledged, "
            "no new study comes in and no alert leaves.",
            at=at,
        )
    if part == "deliveries":
        return _("Alert messages are not leaving since %(at)s. Call the on-call by phone.", at=at)
    if part.startswith("receiver"):
        return _("No images come in: the receiver is silent since %(at)s.", at=at)
    if part.startswith("worker"):
        return _("AI: %(part)s is down since %(at)s. What waits is shown as not analysed.", part=part, at=at)
    if part == "constancy":
        return _(
            "The self-check failed (%(why)s). Do not rely on flags until it passes.", why=told(d["text"])
        )
    if part == "disk":
        return _("Disk: %(why)s. New images may be refused.", why=told(d["text"]))
    return f"{part}: {told(d['text'])}"


def _on_call(call: Call) -> str:
    """Whom to call while no alert can leave or be acknowledged."""
    named = [oncall.who(call.tx, call.web.settings.site, place, call.now) for place in (1, 2)]
    people = [" ".join(p for p in (d["person"], d["contact"]) if p) for d in named if d]
    if not people:
        return _("Nobody stands in the on-call calendar: use the phone list of the department.")
    return _("Call: %(people)s.", people=", ".join(people))


def _models_down(call: Call) -> list[dict[str, str]]:
    """Which detector, since when, how many wait, and what the order then rests on (T23)."""
    found = []
    for detector, count, oldest in run_queue.waiting_by_detector(call.tx):
        if call.now - oldest > LATE_RUN:
            waits = ngettext("%(n)s study waits.", "%(n)s studies wait.", count)
            text = _("%(model)s: no answer since %(at)s.", model=wording.release(detector), at=clock(oldest))
            order = _("Order: ordered priority, waiting time and what was analysed before.")
            found.append({"kind": "stale", "text": f"{text} {waits} {order}"})
    return found


def status_line(call: Call) -> str:
    """`AI answers within 38 s (19 of 20) · disk for 61 days`; counted every minute for all pages."""
    kept = call.web.kept.get("figures")
    if kept is None or not timedelta(0) <= call.now - kept[0] < _COUNTED_EVERY:
        kept = call.web.kept["figures"] = (call.now, _count(call))
    seconds, days = kept[1]
    said = []
    if seconds is not None:
        said.append(_("AI answers within %(s)s s (19 of 20)", s=f"{seconds:.0f}"))
    if days is not None:
        said.append(_("disk space for %(n)s days", n="999+" if days > 999 else int(days)))
    return " · ".join(said)


def _count(call: Call) -> tuple[float | None, float | None]:
    times = reading.analysis_seconds(call.tx, call.now - _DAY)
    inflow = reading.bytes_a_day(call.tx, call.now - 7 * _DAY, call.now)
    home = call.web.settings.home
    free = shutil.disk_usage(home).free if home.exists() else 0
    return (sorted(times)[int(0.95 * (len(times) - 1))] if times else None), (
        free / inflow if inflow > 0 else None
    )


def empty_words(call: Call, filters: Filters, query: ListQuery) -> str:
    """Why nothing is shown: the filters hide it, nothing waits, or nothing came (with the last image)."""
    narrowed = [p for p in (*columns.PARAMETERS, "search") if getattr(query, p)]
    if narrowed:
        hidden = listing.total(call.tx, Filters(states=filters.states), call.now)
        first = query.model_dump()[narrowed[0]] if narrowed[0] != "search" else _("a search")
        words = _("No study matches. %(n)s hidden by: %(filter)s.", n=hidden, filter=first)
        return f"{words} {_('Clear: Shift+Esc.')}"
    last = reading.last_image(call.tx)
    if last is None:
        return _("Nothing was received yet.")
    at, sender = last
    if at.astimezone(call.web.zone).date() != call.now.astimezone(call.web.zone).date():
        return _("Nothing received today. Last image: %(at)s from %(sender)s.", at=clock(at), sender=sender)
    return _("Nothing here at the moment. Last image: %(at)s from %(sender)s.", at=clock(at), sender=sender)
