"""The QA report: one document of figures, as JSON, CSV or a page.

    report = build(tx, start, end, settings, now)      {"head", "coverage", "flags", ...}
    to_csv(report), to_html(report)                    the same numbers

The cohort is the studies that arrived in [start, end); waits are looked at until min(end, now), so that the report of a
closed period has the same bytes whenever it is made, `head.created_at` excepted. What readers said and how alerts ended
is as of the audit event that the head names: late truth changes old figures (standards 12.1).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage import __version__
from triage.domain.errors import Refused
from triage.qa import measures, subgroups
from triage.settings import Settings
from triage.store import audit, constancy, releases
from triage.store import measures as facts

LISTED = 50  # rows of a list of studies
CHANGES = (
    "release.activated", "release.shadowed", "release.retired", "release.moved", "policy.adopted",
    "user.added", "user.disabled",
    "token.issued", "token.revoked", "backup.restored", "retention.removed",
)  # fmt: skip
DEFINITIONS = {
    "cohort": "studies that arrived in the period; constancy phantoms are never counted",
    "intervals": "95 %: Wilson for shares, Poisson (exact) for rates, Kaplan-Meier (log-log) for times",
    "times": "from the first image on; a study that still waits is right-censored at the end of the period, "
    "not dropped; a time is empty where fewer were done. To the flag: to the first, withdrawn since or not",
    "flag": "actionable finding of a completed run that was asked for as more than a shadow; superseded runs left out",
    "ppv": "flags that readers agreed with, of those they judged (the last word counts): a word is of the flags that "
    "stood when it was said, withdrawn since or not. Readers' words are not adjudicated truth, and depend on prevalence",
    "flagged_against_unflagged": "flagged: a flag stood when the study was first opened (stands at the end, for one that "
    "waits), withdrawn since or not; one that came later does not count. Log-rank over unequal groups: classes, hours and "
    "staffing differ, and who opens a study at once sees no flag yet; no proof of cause",
    "subgroups": f"fewer than {subgroups.POSITIVES_MIN} positives: too few for a figure; cells below "
    f"{subgroups.CELL_MIN} are suppressed unless the report stays in the department",
    "beyond_bound": "waited longer than the class without AI allows, opened or not",
}


def build(
    tx: Connection,
    start: datetime,
    end: datetime,
    settings: Settings,
    now: datetime,
    *,
    deidentified: bool = True,
) -> dict[str, Any]:
    """The report of [start, end) as one JSON document; times are ISO text in UTC, durations seconds.

    deidentified  False adds Study Instance UIDs to lists and shows small cells: for inside the department
    raises        Refused when the period is empty or begins in the future
    """
    if start >= end or start >= now:
        raise Refused(f"a period from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} holds nothing")
    until = min(end, now)
    studies = facts.studies_between(tx, start, end)
    counted = facts.runs_between(tx, start, end)
    flags, given = facts.flags_between(tx, start, end), facts.given_between(tx, start, end)
    words = facts.feedback_between(tx, start, end)
    alerts = facts.alerts_between(tx, start, end)
    said = measures.verdicts(given, words)
    analysed = {r.study_id for r in counted if r.state == "completed"}
    return {
        "head": _head(tx, start, end, settings, now, counted, deidentified),
        "coverage": measures.coverage(studies, counted),
        "not_analysed": measures.reasons(counted, "not_analysed"),
        "failed": measures.reasons(counted, "failed"),
        "flags": {
            "studies": measures.proportion(len({f.study_id for f in flags}), len(analysed)),
            "by_finding": measures.flags_by_finding(flags, given, said, counted),
            "by_class": measures.flags_by_class(flags, said, len(analysed)),
        },
        "agreement": {**measures.agreement(words), "missed_by_finding": measures.missed(flags, words)},
        "discordant": _discordant(studies, flags, said, words, deidentified),
        "times": measures.time_tables(studies, given, counted, until),
        "beyond_bound": measures.beyond_bound(studies, until),
        "longest_waits": _longest(studies, until, deidentified),
        "alerts": measures.alert_part(
            alerts, facts.deliveries_between(tx, start, end), (until - start).total_seconds() / 86_400, until
        ),
        "constancy": measures.constancy_part(constancy.between(tx, start, end)),
        "subgroups": subgroups.subgroups(studies, flags, said, deidentified=deidentified),
        "changes": _changes(tx, start, end, deidentified),
        "definitions": DEFINITIONS,
    }


def _head(
    tx: Connection,
    start: datetime,
    end: datetime,
    settings: Settings,
    now: datetime,
    counted: list[facts.RunFacts],
    deidentified: bool,
) -> dict[str, Any]:
    last = audit.head(tx)
    return {
        "title": "QA report of triage",
        "not_for": "Research and demonstration software, not a medical device. Not for clinical use.",
        "site": settings.site,
        "from": start.isoformat(),
        "to": end.isoformat(),
        "closed": end <= now,
        "created_at": now.isoformat(timespec="seconds"),
        "mode": settings.mode,
        "modes_of_runs": sorted({r.mode for r in counted}),
        "software": __version__,
        "deidentified": deidentified,
        "audit_head": None if last is None else {"number": last[0], "hash": last[1]},
        "releases": [
            {
                "detector": r["detector"],
                "version": r["version"],
                "digest": r["digest"],
                "state": r["state"],
                "since": r["registered_at"].isoformat(),
            }
            for r in releases.in_states(tx)
        ],
        "thresholds": [
            {"detector": t.detector, "version": t.version, "finding": t.finding, "threshold": t.value}
            for t in facts.thresholds_between(tx, start, end)
        ],
        "policies": [
            {"version": p["version"], "since": p["made_at"].isoformat(), **p["content"]}
            for p in facts.policies_between(tx, start, end)
        ],
    }


def _discordant(
    studies: list[facts.StudyFacts],
    flags: list[facts.FlagFacts],
    said: measures.Verdicts,
    words: list[facts.FeedbackFacts],
    deidentified: bool,
) -> list[dict[str, Any]]:
    """Flags that readers rejected and findings that they say were missed; discordant is not yet wrong.

    One row per finding and kind with its count, and inside the department the studies to look at.
    """
    rejected = {(i, name) for (i, name), agreed in said.items() if not agreed}
    missed = {(w.study_id, w.finding) for w in words if w.verdict == "missed"} - {
        (f.study_id, f.name) for f in flags
    }
    rows = []
    for what, pairs in (("flagged, reader disagrees", rejected), ("not flagged, reader says missed", missed)):
        for name in sorted({name for _, name in pairs}):
            uids = [s.study_instance_uid for s in studies if (s.study_id, name) in pairs]
            listed = {} if deidentified else {"study_uids": uids[:LISTED]}
            rows.append({"finding": name, "what": what, "count": len(uids), **listed})
    return rows


def _longest(studies: list[facts.StudyFacts], until: datetime, deidentified: bool) -> list[dict[str, Any]]:
    """The twenty longest waits to opening (ux 10, chart 2)."""
    rows = []
    for s in studies:
        if s.state == "withdrawn" and s.opened_at is None:
            continue
        is_open = s.opened_at is None or s.opened_at > until
        seconds = (min(s.opened_at or until, until) - s.arrived_at).total_seconds()
        row = {"seconds": round(seconds, 3), "open": is_open, "ordered_priority": s.ordered_priority}
        rows.append(
            (-seconds, s.study_id, row if deidentified else {**row, "study_uid": s.study_instance_uid})
        )
    return [row for _, _, row in sorted(rows, key=lambda r: r[:2])[:20]]


def _changes(tx: Connection, start: datetime, end: datetime, deidentified: bool) -> list[dict[str, Any]]:
    """Releases, policies and rights that changed in the period; whose rights, only inside the department."""
    return [
        {"at": at, "act": act, "object": kind if deidentified and kind == "user" else f"{kind} {key}"}
        for at, act, kind, key in facts.changes_between(tx, start, end, CHANGES)
    ]


# --- CSV -----------------------------------------------------------------------------------------------------

_COLUMNS = ("figure", "value", "low", "high", "count", "n", "note")
_ROW_NAMES = ("detector", "version", "finding", "group", "reason")


def to_csv(report: dict[str, Any], say: Callable[[str], str] = str) -> str:
    """Every figure as one row: its path in the document, value, interval, count, n. Curves are left to JSON.

    say  the word of a column in another language; paths stay, since programs read them
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, restval="", lineterminator="\r\n")  # RFC 4180
    writer.writerow({name: say(name) for name in _COLUMNS})
    for row in _rows("", report):
        writer.writerow({key: harmless(value) for key, value in row.items()})
    return out.getvalue()


def _rows(path: str, value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "low" in value and "high" in value:
            yield {"figure": path, **{k: v for k, v in value.items() if k in _COLUMNS}}
            return
        for key, inner in value.items():
            if key not in ("curves", "definitions"):
                yield from _rows(f"{path}.{key}" if path else key, inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _rows(f"{path}[{_name(inner, number)}]", inner)
    else:
        yield {"figure": path, "value": value}


def _name(row: Any, number: int) -> str:
    """A row of a table by its keys, else by its number."""
    if not isinstance(row, dict):
        return str(number)
    words = [str(row[k]) for k in _ROW_NAMES if k in row]
    return "/".join(words) or str(row.get("class", number))


def harmless(value: Any) -> Any:
    """A spreadsheet runs text that begins like a formula (an AE title may): a leading apostrophe stops it."""
    if isinstance(value, float) and math.isnan(value):
        return ""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
