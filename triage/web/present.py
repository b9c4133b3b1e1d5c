"""What a row says to a reader: words, glyphs and tokens for every cell of the list (ux 5.2, 5.3).

The one place where states become words. Templates and scripts only draw what is said here. A cell is a mapping with
any of  g glyph, w word, t text, e its end that is never cut, m more, c colour token, h title, k and at (a time that
the page counts by itself).
The word for the absence of a flag is "no flag raised", never one that reassures (ux 2.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from flask import Flask

from triage.domain.finding import FINDING_CODES
from triage.domain.run import MAX_ATTEMPTS
from triage.domain.suitability import SENTENCES, ReasonCode
from triage.web import columns
from triage.web.context import web
from triage.web.language import N_, _
from triage.web.times import clock, hours, milliseconds, minute, moment
from triage.web.told import because, told

SAFETY = N_("Research and demonstration software. Not a medical device. Not for clinical use.")
Cell = dict[str, Any]
GLYPHS = {"critical": "!!", "high": "!", "elevated": "^", "routine": ""}
WORDS = {"critical": N_("CRITICAL"), "high": N_("HIGH"), "elevated": N_("ELEVATED"), "routine": N_("routine")}
NO_FLAG = N_("The detectors of this site raised no flag. That does not rule out disease.")
REPORTS = {
    "": N_("no report"), "preliminary": N_("preliminary report"), "final": N_("final report"), "addendum": N_("addendum"),
}  # fmt: skip
# Characters that the column holds whole, and of a longer ID those that are always shown.
ID_WHOLE, ID_END = 8, 6
CHIP_WORDS = {
    "artefact": N_("artefact"), "known": N_("known or old"), "post_operative": N_("post-operative"),
    "other_pathology": N_("other pathology"), "position": N_("position or quality"),
    "not_relevant": N_("not clinically relevant"), "other": N_("other"),
}  # fmt: skip
# What the audit calls an act, as the time line says it.
HAPPENED = {
    "study.claimed": N_("claimed by %(who)s"), "study.released": N_("released by %(who)s"),
    "study.opened": N_("opened by %(who)s"), "study.taken_over": N_("taken over by %(who)s"),
    "study.assigned": N_("assigned by %(who)s"), "study.asked_for": N_("%(who)s asked for it"),
    "study.overridden": N_("class set by hand by %(who)s"), "study.reported": N_("reported by %(who)s"),
    "study.labelled": N_("labelled by %(who)s"), "claim.expired": N_("claim ended by itself"),
    "overlay.shown": N_("overlay shown to %(who)s"), "feedback.agree": N_("%(who)s agreed"),
    "feedback.disagree": N_("%(who)s disagreed"), "feedback.missed": N_("%(who)s noted a missed finding"),
    "feedback.withdrawn": N_("%(who)s took feedback back"), "alert.acknowledged": N_("alert acknowledged by %(who)s"),
    "alert.handed_over": N_("alert handed over by %(who)s"), "alert.put_off": N_("alert put off by %(who)s"),
    "alert.escalated": N_("alert escalated"), "alert.closed": N_("alert closed by %(who)s"),
    "alert.withdrawn": N_("alert withdrawn"), "alert.exhausted": N_("nobody answered the alert, the ladder is at its end"),
    "delivery.delivered": N_("alert delivered by %(route)s"), "delivery.parked": N_("alert not delivered by %(route)s"),
    "delivery.replayed": N_("alert sent again by %(route)s, by %(who)s"),
    "double_read.given": N_("read a second time by %(who)s"),
    "study.report_withdrawn": N_("report taken back by %(who)s"), "study.retrieved": N_("images fetched by %(who)s"),
}  # fmt: skip
FAILURES = {"crashed": N_("crashed 3 times"), "timeout": N_("took too long")}
DETECTORS = {"chest_xray": N_("Chest film model"), "lung_nodule": N_("CT nodule model")}
BANDS = {"low": N_("low"), "moderate": N_("moderate"), "high": N_("high")}
_POINTS_OF = (("critical", 1000), ("high", 300), ("elevated", 100))
_BEYOND = re.compile(r"waits (\d+) h (\d+) beyond its limit")


def install(app: Flask) -> None:
    app.jinja_env.globals.update(safety=lambda: _(SAFETY), system=lambda: web().settings.system)
    app.jinja_env.filters.update(
        clock=clock,
        moment=moment,
        minute=minute,
        person=person,
        hours=hours,
        finding=finding,
        because=because,
        reason=reason_text,
        happened=happened,
        release=release,
        effect=effect,
        told=told,
        reason_words=reason_words,
        band=lambda w: _(BANDS[w]),
        chip=lambda c: _(CHIP_WORDS[c]) if c in CHIP_WORDS else c,
    )


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
    # That nothing else was ordered is a reason only where there is no other.
    texts = [reason_words(r) for r in reasons if r["code"] != "ROUTINE"] or [_("routine order")]
    more = len(texts) - 1
    shown = item["priority_class"]
    if reasons and reasons[0]["code"] == "OVERDUE":
        shown = "high"  # past its bound an item stands among the high ones (architecture 4)
    return {
        "g": GLYPHS[shown],
        "w": _(WORDS[str(shown)]),
        "t": texts[0],
        "m": f"+{more}" if more else "",
        "c": shown,
        "h": "; ".join(texts),
    }


def reason_words(reason: Mapping[str, Any]) -> str:
    """A term in the words of the list: `suspected pneumothorax`, `STAT order`, `✋ raised by ...`."""
    code, text = reason["code"], reason["text"]
    if code.startswith("AI_"):
        said = _("suspected %(finding)s", finding=finding(code.removeprefix("AI_").lower()))
        return _("%(flag)s, not raised: hourly limit", flag=said) if "hourly limit" in text else said
    if code == "OVERDUE":
        beyond = _BEYOND.match(text)
        return _("overdue by %(time)s", time=f"{beyond[1]}:{beyond[2]}") if beyond else text
    if code == "RAISED_BY_HAND":
        who, _colon, why_ = text.removeprefix("raised by ").partition(": ")
        return "✋ " + _("raised by %(who)s: %(why)s", who=who, why=why_)
    if code == "ORDERED":
        return _("%(priority)s order", priority=text.partition(" ")[0])
    return _(text)


def finding(name: str) -> str:
    """The coded name of a finding in the reader's language."""
    return _(FINDING_CODES[name].display) if name in FINDING_CODES else name


def release(text: str) -> str:
    """`chest_xray 1.1.0` with the detector's name in the reader's language."""
    name, space, version = text.partition(" ")
    return (_(DETECTORS[name]) if name in DETECTORS else name) + space + version


def effect(points: int) -> str:
    """What a term did to the class: its points are the class it lifts to (domain/priority)."""
    for word, least in _POINTS_OF:
        if points >= least:
            return _("at least %(class)s", **{"class": f"{GLYPHS[word]} {_(WORDS[word])}"})
    return _("no effect")


def reason_text(code: str, detail: str) -> str:
    """The sentence of a not-analysed code with what was found; a failure's own word otherwise."""
    sentence = (
        _(SENTENCES[ReasonCode(code)])
        if code in ReasonCode.__members__
        else _(FAILURES.get(code, code.replace("_", " ")))
    )
    said = told(detail)
    return f"{sentence} ({said})" if said and sentence else sentence or said


def happened(moment_: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """One line of the time line in the reader's language."""
    values = dict(moment_["values"])
    if not moment_["said"]:
        words = HAPPENED.get(values["act"])
        values["who"] = names.get(values["who"], values["who"])
        return _(words, **values) if words else str(moment_["what"])
    if "code" in values:
        values["why"] = reason_text(values["code"], values["detail"])
    if "because" in values:
        values["because"] = because(values["because"])
    if "release" in values:
        values["release"] = release(values["release"])
    if "finding" in values:
        values["finding"] = finding(values["finding"].replace(" ", "_"))
    words = moment_["said"]
    return _(words, **values)


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
    shown = ", ".join(finding(f) for f in flags)
    if item["state"] == "arriving":
        shown = _("%(flags)s, on part of the images", flags=shown)
    return {
        "g": "◆",
        "w": _("flagged:"),
        "t": shown,
        "c": item["priority_class"],
        "h": f"{_('flagged:')} {shown}",
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


def flaggable() -> list[tuple[str, str]]:
    """(name, words) of what can have been missed, the most urgent first."""
    coded = sorted(FINDING_CODES.values(), key=lambda c: (-c.priority_class, c.display))
    return [(c.name, _(c.display)) for c in coded if c.name != "abnormal"]


# --- small words ---------------------------------------------------------------------------------------------


def person(name: str) -> str:
    """`Doe, Jane`; the ideographic group beside it. Never upper-cased by us (ux 14)."""
    groups = [g.strip() for g in name.split("=")]
    family, _caret, rest = groups[0].partition("^")
    given = " ".join(p for p in rest.split("^")[:2] if p)
    said = ", ".join(p for p in (family.strip(), given.strip()) if p)
    ideographic = groups[1].replace("^", " ").strip() if len(groups) > 1 else ""
    return f"{said} {ideographic}".strip()


def initials(name: str) -> str:
    family, _caret, rest = name.split("=")[0].partition("^")
    return " ".join(f"{p.strip()[0]}." for p in (rest.partition("^")[0], family) if p.strip()) or "–"


def sex_age(patient: Mapping[str, Any]) -> str:
    age = patient["age_years"]
    years = "" if age is None else _("%(n)sy", n=f"{age:.0f}")
    return " ".join(w for w in (patient["sex"], years) if w)


def cells_of(row_: Mapping[str, Any], shown: Sequence[columns.Column]) -> Sequence[tuple[str, Cell]]:
    return [(c.id, row_["cells"].get(c.id, {})) for c in shown if c.id != "sel"]
