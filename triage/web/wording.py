"""The one place where states and codes become words: classes, findings, reasons, what happened, names of people."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask
from jinja2 import pass_context

from triage.domain.finding import FINDING_CODES
from triage.domain.suitability import SENTENCES, ReasonCode
from triage.web.context import web
from triage.web.language import N_, _
from triage.web.times import clock, hours, minute, moment
from triage.web.told import because, told

SAFETY = N_("Research and demonstration software. Not a medical device. Not for clinical use.")
GLYPHS = {"critical": "!!", "high": "!", "elevated": "^", "routine": ""}
WORDS = {"critical": N_("CRITICAL"), "high": N_("HIGH"), "elevated": N_("ELEVATED"), "routine": N_("routine")}
REPORTS = {
    "": N_("no report"), "preliminary": N_("preliminary report"), "final": N_("final report"), "addendum": N_("addendum"),
}  # fmt: skip
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
# Where a row has no room for the whole name; it stands in the cell's title and in the panel.
SHORT = {
    "effusion": N_("effusion"), "edema": N_("edema"), "lung_opacity": N_("opacity"), "pneumonia": N_("pneumonia pattern"),
    "cardiomegaly": N_("large heart"), "nodule": N_("nodule"), "mass": N_("mass"),
}  # fmt: skip
_POINTS_OF = (("critical", 1000), ("high", 300), ("elevated", 100))
_BEYOND = re.compile(r"waits (\d+) h (\d+) beyond its limit")


def install(app: Flask) -> None:
    app.jinja_env.globals.update(safety=lambda: _(SAFETY), system=lambda: web().settings.system)
    filters: Mapping[str, Callable[..., Any]] = {
        "clock": clock,
        "moment": moment,
        "minute": minute,
        "person": person,
        "hours": hours,
        "finding": finding,
        "because": because,
        "reason": reason_text,
        "happened": happened,
        "release": release,
        "effect": effect,
        "told": told,
        "reason_words": reason_words,
        "band": lambda w: _(BANDS[w]),
        "chip": lambda c: _(CHIP_WORDS[c]) if c in CHIP_WORDS else c,
    }
    app.jinja_env.filters.update({name: _asked_anew(run) for name, run in filters.items()})


def _asked_anew(run: Callable[..., Any]) -> Callable[..., Any]:
    """Without a context Jinja folds a filter of a constant (`0|effect`) once, into the language of whoever came first."""

    @pass_context
    def filtered(_context: Any, *given: Any) -> Any:
        return run(*given)

    return filtered


def reason_words(reason: Mapping[str, Any], *, short: bool = False) -> str:
    """A term in the words of the list: `suspected pneumothorax`, `STAT order`, `✋ raised by ...`."""
    code, text = reason["code"], reason["text"]
    if code.startswith("AI_"):
        said = _("suspected %(finding)s", finding=finding(code.removeprefix("AI_").lower(), short=short))
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


def finding(name: str, *, short: bool = False) -> str:
    """The coded name of a finding in the reader's language."""
    if short and name in SHORT:
        return _(SHORT[name])
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


def flaggable() -> list[tuple[str, str]]:
    """(name, words) of what can have been missed, the most urgent first."""
    coded = sorted(FINDING_CODES.values(), key=lambda c: (-c.priority_class, c.display))
    return [(c.name, _(c.display)) for c in coded if c.name != "abnormal"]


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
