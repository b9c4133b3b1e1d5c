"""What a row says to a reader: words, glyphs and tokens for every cell of the list (ux 5.2, 5.3).

Templates and scripts only draw what is said here. A cell is a mapping with any of  g glyph, w word, t text, e its end
that is never cut, m more, c colour token, h title, k and at (a time that the page counts by itself).
The word for the absence of a flag is "no flag raised", never one that reassures (ux 2.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from triage.domain.run import MAX_ATTEMPTS
from triage.web import columns
from triage.web.language import N_, _
from triage.web.times import clock, hours, milliseconds, minute, moment
from triage.web.told import because
from triage.web.wording import GLYPHS, REPORTS, WORDS, finding, person, reason_text, reason_words, sex_age

Cell = dict[str, Any]
NO_FLAG = N_("The detectors of this site raised no flag. That does not rule out disease.")
# Characters that the column holds whole, and of a longer ID those that are always shown.
ID_WHOLE, ID_END = 8, 6


def row(item: Mapping[str, Any], me: str, names: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """One worklist item (as the API says it) as the page draws it."""
    cells = {
        "pos": {"t": "" if item["rank"] is None else str(item["rank"])},
        "why": why(item),
        "due": _due(item, now),
        "age": _age(item),
        "pat": _patient(item["patient"]),
        "mrn": _patient_id(item["patient"]),
        "mod": {"t": item["modality"]},
        "body": {"t": " ".join(w for w in (item["body_part"].capitalize(), item["view"]) if w) or "–"},
        "desc": {"t": item["description"] or "–", "h": item["description"], "m": item["label"]},
        "loc": {"t": item["location"] or "–", "h": item["location"]},
        "site": {"t": item["site"]},
        "ord": {"t": item["ordered_priority"]},
        "ai": ai(item),
        "img": _images(item),
        "claim": _claim(item, me, names),
        "alert": _alert(item, names),
        "acc": {"t": item["accession_number"] or "–"},
        "src": {"t": item["sender"] or "–"},
        "acq": {
            "t": minute(item["acquired_at"]) or "–",
            "m": "" if item["clock_ok"] else "~",
            "h": moment(item["acquired_at"]),
        },
        "recv": {"t": minute(item["received_at"]), "h": moment(item["received_at"])},
        "ref": {"t": person(item["referrer"]) or "–"},
        "rep": {"t": _(REPORTS.get(item["report_state"], ""))},
        "cmp": {"t": because(item["images"]["complete_because"])},
    }
    alert = item["alert"]
    return {
        "uid": item["study_uid"],
        "version": item["version"],
        "class": item["priority_class"],
        "state": item["state"],
        "mine": item["claimed_by"] == me and me != "",
        "holder": item["claimed_by"] or "",
        "until": milliseconds(item["claimed_until"]),
        "flags": [
            r["code"].removeprefix("AI_").lower() for r in item["reasons"] if r["code"].startswith("AI_")
        ],
        "alert": alert["id"] if alert and alert["state"] in ("open", "exhausted") else None,
        "name": f"{person(item['patient']['name'])}  {sex_age(item['patient'])}".strip(),
        "rank": item["rank"],
        "cells": cells,
    }


def why(item: Mapping[str, Any]) -> Cell:
    reasons = item["reasons"]
    # That nothing else was ordered is a reason only where there is no other; the class has said "routine" then.
    terms = [r for r in reasons if r["code"] != "ROUTINE"]
    texts = [reason_words(r) for r in terms] or [_("as ordered")]
    more = len(texts) - 1
    shown = item["priority_class"]
    if reasons and reasons[0]["code"] == "OVERDUE":
        shown = "high"  # past its bound an item stands among the high ones (architecture 4)
    return {
        "g": GLYPHS[shown],
        "w": _(WORDS[str(shown)]),
        "t": reason_words(terms[0], short=True) if terms else texts[0],
        "m": f"+{more}" if more else "",
        "c": shown,
        "h": "; ".join(texts),
    }


# --- the AI column ------------------------------------------------------------------------------------------


def ai(item: Mapping[str, Any]) -> Cell:
    status, reason = item["ai_status"], reason_text(item["ai_reason"], item["ai_detail"])
    if status in ("requested", "running") and item["ai_reason"] == "AI_DOWN":
        return _not_analysed(reason)
    if status == "requested" and item["state"] == "arriving":
        return {
            "g": "…",
            "w": _("waits for images"),
            "c": "pending",
            "h": _("asked for as soon as the images are whole"),
        }
    if status in ("requested", "running"):
        return _queued(status, item["queued"])
    if status == "failed":
        return {
            "g": "✕",
            "w": _("failed"),
            "t": reason,
            "c": "failed",
            "h": _("analysis failed: %(why)s", why=reason),
        }
    if status == "not_analysed":
        return _not_analysed(reason)
    if item["alert"] is not None and item["alert"]["state"] == "withdrawn":
        at = clock(item["alert"]["at"])
        return {
            "g": "↺",
            "w": _("withdrawn"),
            "t": at,
            "c": "not-analysed",
            "h": _("a newer analysis took the flag back"),
        }
    return _found(item)


def _not_analysed(reason: str) -> Cell:
    return {"g": "∅", "w": _("not analysed:"), "t": reason, "c": "not-analysed", "h": reason}


def _queued(status: str, queued: Mapping[str, Any] | None) -> Cell:
    """`queued, place 3`, `running`; `failed, try 2 of 3`, `late 4 min`."""
    said = queued or {"place": 0, "attempts": 0, "late_minutes": None}
    tries = said["attempts"] if status == "requested" else said["attempts"] - 1
    late = _("late %(n)s min", n=said["late_minutes"]) if said["late_minutes"] else ""
    if tries > 0:
        words = _("failed, try %(n)s of %(all)s", n=tries + 1, all=MAX_ATTEMPTS)
        return {"g": "✕", "w": words, "m": late, "c": "failed", "h": words}
    if status == "running":
        return {"g": "◔", "w": _("running"), "m": late, "c": "pending"}
    place = _("place %(n)s", n=said["place"]) if said["place"] else ""
    return {"g": "…", "w": _("queued"), "t": place, "m": late, "c": "pending", "h": _("waits for a detector")}


def _found(item: Mapping[str, Any]) -> Cell:
    flags = [r["code"].removeprefix("AI_").lower() for r in item["reasons"] if r["code"].startswith("AI_")]
    if not flags:
        return {"g": "○", "w": _("no flag raised"), "c": "muted", "h": _(NO_FLAG)}
    shown, whole = ", ".join(finding(f, short=True) for f in flags[:2]), ", ".join(finding(f) for f in flags)
    if item["state"] == "arriving":
        shown, whole = (_("%(flags)s, on part of the images", flags=said) for said in (shown, whole))
    return {
        "g": "◆",
        "w": _("flagged:"),
        "t": shown,
        "m": f"+{len(flags) - 2}" if len(flags) > 2 else "",
        "c": item["priority_class"],
        "h": f"{_('flagged:')} {whole}",
    }


# --- other columns ------------------------------------------------------------------------------------------


def _due(item: Mapping[str, Any], now: datetime) -> Cell:
    if item["state"] in ("read", "withdrawn"):
        return {"t": "–", "c": "muted"}
    at = milliseconds(item["due_at"])
    left = (at or 0) / 1000 - now.timestamp()
    late = left < 0
    return {
        "w": _("OVERDUE") if late else "",
        "t": hours(abs(left)),
        "c": "critical" if late else "",
        "k": "until",
        "at": at,
    }


def _age(item: Mapping[str, Any]) -> Cell:
    known = item["acquired_at"] is not None and item["clock_ok"]
    at = item["acquired_at"] if known else item["arrived_at"]
    title = (
        _("since the end of acquisition")
        if known
        else _("since receipt: the time of acquisition is not known or not possible")
    )
    return {"m": "" if known else "~", "k": "since", "at": milliseconds(at), "h": title}


def _patient(patient: Mapping[str, Any]) -> Cell:
    return {
        "t": person(patient["name"]) or _("(no name)"),
        "m": sex_age(patient),
        "h": f"{person(patient['name'])}  {sex_age(patient)}".strip(),
    }


def _patient_id(patient: Mapping[str, Any]) -> Cell:
    """IDs of one house begin alike: where there is no room, the middle is cut and the end stays."""
    text = patient["id"]
    issuer = _("issuer: %(who)s", who=patient["issuer"] or _("not given"))
    cut = len(text) - ID_END if len(text) > ID_WHOLE else len(text)
    return {"t": text[:cut], "e": text[cut:], "h": f"{text}, {issuer}"}


def _images(item: Mapping[str, Any]) -> Cell:
    received, expected = item["images"]["received"], item["images"]["expected"]
    arriving = item["state"] == "arriving" or (expected is not None and received < expected)
    text = f"{received}/{'?' if expected is None else expected}"
    late = received - expected if expected is not None and received > expected else 0
    return {"t": f"{text} …" if arriving else text, "c": "pending" if arriving else "",
            "m": _("late +%(n)s", n=late) if late else "",
            "h": _("complete because: %(why)s", why=because(item["images"]["complete_because"]))}  # fmt: skip


def _claim(item: Mapping[str, Any], me: str, names: Mapping[str, str]) -> Cell:
    holder = item["claimed_by"]
    if holder is None:
        word = REPORTS.get(item["report_state"], "") if item["state"] == "read" else ""
        return {"t": _(word) if word else _("free"), "c": "muted"}
    mine = holder == me
    return {
        "g": "●",
        "w": _("you") if mine else names.get(holder, holder),
        "c": "claimed-me" if mine else "muted",
        "k": "lease",
        "at": milliseconds(item["claimed_until"]),
        "h": _("claimed by %(who)s", who=names.get(holder, holder)),
    }


def _alert(item: Mapping[str, Any], names: Mapping[str, str]) -> Cell:
    alert = item["alert"]
    if alert is None:
        return {"t": "–", "c": "muted"}
    if alert["state"] == "open":
        step, at = alert["step"], clock(alert["at"])
        said = _("raised %(at)s, not seen yet", at=at) if at else _("not seen yet")
        if step:
            said = _("step %(n)s of the ladder, %(raised)s", n=step, raised=said)
        word = _("step %(n)s", n=step) if step else at or _("open")
        return {"g": "!!", "w": word, "c": "critical", "h": said}
    if alert["state"] == "exhausted":
        return {
            "g": "!!",
            "w": _("no answer"),
            "c": "critical",
            "h": _("nobody answered, the ladder is at its end"),
        }
    if alert["state"] == "acknowledged":
        seen = _("seen %(who)s", who=names.get(alert["by"], alert["by"]))
        return {"g": "✓", "t": seen, "c": "muted", "h": seen}
    withdrawn = alert["state"] == "withdrawn"
    return {
        "g": "↺" if withdrawn else "",
        "t": _("withdrawn") if withdrawn else _("closed"),
        "c": "not-analysed" if withdrawn else "muted",
    }


def cells_of(row_: Mapping[str, Any], shown: Sequence[columns.Column]) -> Sequence[tuple[str, Cell]]:
    return [(c.id, row_["cells"].get(c.id, {})) for c in shown if c.id != "sel"]
