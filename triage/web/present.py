"""What a row says to a reader: words, glyphs and tokens for every cell of the list (ux 5.2, 5.3).

The one place where states become words. Templates and scripts only draw what is said here. A cell is a mapping with
any of  g glyph, w word, t text, m more, c colour token, h title, k and at (a time that the page counts by itself).
The word for the absence of a flag is "no flag raised", never one that reassures (ux 2.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Flask

from triage.domain.finding import FINDING_CODES
from triage.web.shapes import reason_text

SAFETY = "Research and demonstration software. Not a medical device. Not for clinical use."
Cell = dict[str, Any]


@dataclass(frozen=True)
class Column:
    id: str
    header: str
    label: str  # for those who do not see the header


COLUMNS: tuple[Column, ...] = (
    Column("sel", "", "Select"),
    Column("pos", "#", "Place in reading order"),
    Column("why", "Priority, reason", "Priority and first reason"),
    Column("due", "Time left", "Time left to the limit of its class"),
    Column("age", "Waiting", "Waiting since the end of acquisition"),
    Column("pat", "Patient", "Patient"),
    Column("mrn", "ID", "Patient ID"),
    Column("mod", "Mod", "Modality"),
    Column("body", "Part, view", "Body part and view"),
    Column("desc", "Study", "Study description"),
    Column("loc", "From", "Ordering location"),
    Column("site", "Site", "Site"),
    Column("ord", "Ordered", "Priority as ordered"),
    Column("ai", "AI", "State of the AI analysis"),
    Column("img", "Images", "Images received of expected"),
    Column("claim", "Reader", "Claimed by"),
    Column("alert", "Alert", "Alert"),
)
GLYPHS = {"critical": "!!", "high": "!", "elevated": "^", "routine": ""}
WORDS = {"critical": "CRITICAL", "high": "HIGH", "elevated": "ELEVATED", "routine": "routine"}
NO_FLAG = "The detectors of this site raised no flag. That does not rule out disease."
ACT_WORDS = {"preliminary": "preliminary report", "final": "final report", "addendum": "addendum"}


def install(app: Flask) -> None:
    app.jinja_env.globals.update(safety=SAFETY, columns=COLUMNS)
    app.jinja_env.filters.update(clock=clock, moment=moment, person=person, hours=hours, cells=_cells)


def row(item: Mapping[str, Any], me: str, names: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """One worklist item (as the API says it) as the page draws it."""
    cells = {
        "pos": {"t": "" if item["rank"] is None else str(item["rank"])},
        "why": why(item),
        "due": _due(item, now),
        "age": _age(item),
        "pat": _patient(item["patient"]),
        "mrn": {"t": item["patient"]["id"], "h": f"issuer: {item['patient']['issuer'] or 'not given'}"},
        "mod": {"t": item["modality"]},
        "body": {"t": " ".join(w for w in (item["body_part"].capitalize(), item["view"]) if w) or "–"},
        "desc": {"t": item["description"] or "–", "h": item["description"]},
        "loc": {"t": item["location"] or "–"},
        "site": {"t": item["site"]},
        "ord": {"t": item["ordered_priority"]},
        "ai": ai(item),
        "img": _images(item),
        "claim": _claim(item, me, names),
        "alert": _alert(item, names),
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
        "alert": alert["id"] if alert and alert["state"] in ("open", "exhausted") else None,
        "name": f"{person(item['patient']['name'])}  {sex_age(item['patient'])}".strip(),
        "rank": item["rank"],
        "cells": cells,
    }


def why(item: Mapping[str, Any]) -> Cell:
    reasons = item["reasons"]
    # That nothing else was ordered is a reason only where there is no other.
    texts = [reason_words(r) for r in reasons if r["code"] != "ROUTINE"] or ["routine order"]
    more = len(texts) - 1
    shown = item["priority_class"]
    if reasons and reasons[0]["code"] == "OVERDUE":
        shown = "high"  # past its bound an item stands among the high ones (architecture 4)
    return {
        "g": GLYPHS[shown],
        "w": WORDS[shown],
        "t": texts[0],
        "m": f"+{more}" if more else "",
        "c": shown,
        "h": "; ".join(texts),
    }


def reason_words(reason: Mapping[str, Any]) -> str:
    """A term in the words of the list: `suspected pneumothorax`, `STAT order`, `✋ raised by ...`."""
    code = reason["code"]
    if code.startswith("AI_"):
        name = code.removeprefix("AI_").lower()
        display = FINDING_CODES[name].display if name in FINDING_CODES else name
        capped = ", not raised: hourly limit" if "hourly limit" in reason["text"] else ""
        return f"suspected {display}{capped}"
    if code == "OVERDUE":
        return f"overdue, {reason['text']}"
    return f"✋ {reason['text']}" if code == "RAISED_BY_HAND" else str(reason["text"])


def ai(item: Mapping[str, Any]) -> Cell:
    status, reason = item["ai_status"], reason_text(item["ai_reason"], item["ai_detail"])
    if status in ("requested", "running") and item["ai_reason"] == "AI_DOWN":
        return {"g": "∅", "w": "not analysed:", "t": reason, "c": "not-analysed", "h": reason}
    if status == "requested" and item["state"] == "arriving":
        return {
            "g": "…",
            "w": "waits for images",
            "c": "pending",
            "h": "asked for as soon as the images are whole",
        }
    if status == "requested":
        return {"g": "…", "w": "queued", "c": "pending", "h": "waits for a detector"}
    if status == "running":
        return {"g": "◔", "w": "running", "c": "pending"}
    if status == "failed":
        return {"g": "✕", "w": "failed", "t": reason, "c": "failed", "h": f"analysis failed: {reason}"}
    if status == "not_analysed":
        return {"g": "∅", "w": "not analysed:", "t": reason, "c": "not-analysed", "h": reason}
    return _found(item)


def _found(item: Mapping[str, Any]) -> Cell:
    flags = [r["code"].removeprefix("AI_").lower() for r in item["reasons"] if r["code"].startswith("AI_")]
    if not flags:
        return {"g": "○", "w": "no flag raised", "c": "muted", "h": NO_FLAG}
    shown = ", ".join(FINDING_CODES[f].display if f in FINDING_CODES else f for f in flags)
    partial = ", on part of the images" if item["state"] == "arriving" else ""
    return {
        "g": "◆",
        "w": "flagged:",
        "t": shown + partial,
        "c": item["priority_class"],
        "h": f"flagged: {shown}{partial}",
    }


def _due(item: Mapping[str, Any], now: datetime) -> Cell:
    if item["state"] in ("read", "withdrawn"):
        return {"t": "–", "c": "muted"}
    at = milliseconds(item["due_at"])
    left = (at or 0) / 1000 - now.timestamp()
    late = left < 0
    return {
        "w": "OVERDUE" if late else "",
        "t": hours(abs(left)),
        "c": "critical" if late else "",
        "k": "until",
        "at": at,
    }


def _age(item: Mapping[str, Any]) -> Cell:
    known = item["acquired_at"] is not None and item["clock_ok"]
    at = item["acquired_at"] if known else item["arrived_at"]
    title = (
        "since the end of acquisition"
        if known
        else "since receipt: the time of acquisition is not known or not possible"
    )
    return {"m": "" if known else "~", "k": "since", "at": milliseconds(at), "h": title}


def _patient(patient: Mapping[str, Any]) -> Cell:
    return {"t": person(patient["name"]) or "(no name)", "m": sex_age(patient), "h": person(patient["name"])}


def _images(item: Mapping[str, Any]) -> Cell:
    received, expected = item["images"]["received"], item["images"]["expected"]
    arriving = item["state"] == "arriving" or (expected is not None and received < expected)
    text = f"{received}/{'?' if expected is None else expected}"
    return {"t": f"{text} …" if arriving else text, "c": "pending" if arriving else "",
            "h": f"taken because: {item['images']['complete_because'] or 'not yet taken'}"}  # fmt: skip


def _claim(item: Mapping[str, Any], me: str, names: Mapping[str, str]) -> Cell:
    holder = item["claimed_by"]
    if holder is None:
        word = ACT_WORDS.get(item["report_state"], "free") if item["state"] == "read" else "free"
        return {"t": word, "c": "muted"}
    mine = holder == me
    return {
        "g": "●",
        "w": "you" if mine else names.get(holder, holder),
        "c": "claimed-me" if mine else "muted",
        "k": "lease",
        "at": milliseconds(item["claimed_until"]),
        "h": f"claimed by {names.get(holder, holder)}",
    }


def _alert(item: Mapping[str, Any], names: Mapping[str, str]) -> Cell:
    alert = item["alert"]
    if alert is None:
        return {"t": "–", "c": "muted"}
    if alert["state"] == "open":
        words = f"escalated {alert['step']}" if alert["step"] else f"raised {clock(alert['at'])}"
        return {"g": "!!", "w": words, "c": "critical"}
    if alert["state"] == "exhausted":
        return {"g": "!!", "w": "nobody answered", "c": "critical"}
    if alert["state"] == "acknowledged":
        return {"g": "✓", "t": f"seen {names.get(alert['by'], alert['by'])}", "c": "muted"}
    return {
        "g": "↺" if alert["state"] == "withdrawn" else "",
        "t": alert["state"],
        "c": "not-analysed" if alert["state"] == "withdrawn" else "muted",
    }


def flaggable() -> list[tuple[str, str]]:
    """(name, words) of what can have been missed, the most urgent first."""
    coded = sorted(FINDING_CODES.values(), key=lambda c: (-c.priority_class, c.display))
    return [(c.name, c.display) for c in coded if c.name != "abnormal"]


# --- small words ---------------------------------------------------------------------------------------------


def person(name: str) -> str:
    """`Doe, Jane`; the ideographic group beside it. Never upper-cased by us (ux 14)."""
    groups = [g.strip() for g in name.split("=")]
    family, _, rest = groups[0].partition("^")
    given = " ".join(p for p in rest.split("^")[:2] if p)
    said = ", ".join(p for p in (family.strip(), given.strip()) if p)
    ideographic = groups[1].replace("^", " ").strip() if len(groups) > 1 else ""
    return f"{said} {ideographic}".strip()


def initials(name: str) -> str:
    family, _, rest = name.split("=")[0].partition("^")
    return " ".join(f"{p.strip()[0]}." for p in (rest.partition("^")[0], family) if p.strip()) or "–"


def sex_age(patient: Mapping[str, Any]) -> str:
    age = patient["age_years"]
    return " ".join(w for w in (patient["sex"], "" if age is None else f"{age:.0f}y") if w)


def hours(seconds: float) -> str:
    """`0:42`: hours and minutes."""
    minutes = int(seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02d}"


def clock(at: str | datetime | None) -> str:
    """`03:12` in the zone of this site."""
    return "" if at is None else f"{_local(at):%H:%M}"


def moment(at: str | datetime | None) -> str:
    """`2026-11-21 03:12:40 CET`."""
    return "–" if at is None or at == "" else f"{_local(at):%Y-%m-%d %H:%M:%S %Z}"


def _local(at: str | datetime) -> datetime:
    return (datetime.fromisoformat(at) if isinstance(at, str) else at).astimezone()


def milliseconds(at: str | None) -> int | None:
    return None if at is None else int(datetime.fromisoformat(at).timestamp() * 1000)


def _cells(row_: Mapping[str, Any]) -> Sequence[tuple[str, Cell]]:
    return [(c.id, row_["cells"].get(c.id, {})) for c in COLUMNS if c.id != "sel"]
