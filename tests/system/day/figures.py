"""The day's figures, counted from the script and the diary alone: what the QA report must say."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.system.day.people import Diary
from tests.system.day.script import RELEASES, Case
from tests.system.day.world import TimedDisk

DETECTOR = {"film": "chest_xray", "scan": "lung_nodule"}


def counted(diary: Diary, spool: TimedDisk, until_ms: int) -> dict[str, Any]:
    """The figures of the report under the names that `of_report` gives them."""
    cases = list(diary.cases.values())
    flags = {(c.study_uid, name) for c in cases for name in c.flags}
    verdicts = Counter(verdict for _, verdict, *_ in diary.words)
    arrived = {c.study_uid: min(spool.kept_at[o.digest] for o in c.objects()) for c in cases}
    ends = Counter(c.ends[0] for c in cases)
    runs = [(DETECTOR[c.kind], *end) for c in cases for end in c.runs]
    opening = _waits(arrived, diary.opened, until_ms)
    return {
        "studies": len(cases),
        "by_status": {name: ends[name] for name in ("completed", "not_analysed", "failed")},
        "by_modality": _counts("CT" if c.kind == "scan" else "DX" for c in cases),
        "by_order": {p: sum(c.priority == p for c in cases) for p in ("STAT", "URGENT", "ROUTINE")},
        "runs": {
            detector: _counts(state for name, state, _ in runs if name == detector)
            for detector in DETECTOR.values()
        },
        "not_analysed": _counts((d, why) for d, state, why in runs if state == "not_analysed"),
        "failed": _counts((d, why) for d, state, why in runs if state == "failed"),
        "flagged": len({study for study, _ in flags}),
        "by_finding": _counts((DETECTOR[diary.cases[study].kind], name) for study, name in flags),
        "ever_flagged": sum(bool(c.flags) or c.alerts for c in cases),
        "flagged_when_opened": sum(
            bool(diary.seen[c.study_uid] if diary.opened.get(c.study_uid, until_ms + 1) <= until_ms else c.flags)
            for c in cases
        ),
        "ppv": _ppv(diary),
        "agreement": {v: verdicts[v] for v in ("agree", "disagree", "missed")},
        "missed": _counts(
            name for study, name in {(s, f) for s, v, f, _ in diary.words if v == "missed"} if (study, name) not in flags
        ),
        "alerts": sum(c.alerts for c in cases),
        "constancy": diary.phantoms,
        "opening_n": len(opening),
        "opening_median": _quantile(opening, 0.5),
        "opening_p90": _quantile(opening, 0.9),
        "report_median": _quantile(_waits(arrived, diary.read, until_ms), 0.5),
        "longest": sorted((round(s, 3) for s, _ in opening), reverse=True)[:20],
        "releases": sorted(RELEASES.values()),
    }  # fmt: skip


def of_report(report: dict[str, Any]) -> dict[str, Any]:
    """The same figures as the QA report tells them."""
    coverage, times = report["coverage"], report["times"]
    finding = report["flags"]["by_finding"]
    return {
        "studies": coverage["studies"],
        "by_status": {
            "completed": coverage["analysed"]["count"],
            "not_analysed": coverage["not_analysed"]["count"],
            "failed": coverage["failed"]["count"],
        },
        "by_modality": coverage["by_modality"],
        "by_order": coverage["by_order"],
        "runs": coverage["runs"],
        "not_analysed": {(r["detector"], r["reason"]): r["count"] for r in report["not_analysed"]},
        "failed": {(r["detector"], r["reason"]): r["count"] for r in report["failed"]},
        "flagged": report["flags"]["studies"]["count"],
        "by_finding": {
            (r["detector"], r["finding"]): r["flagged"]["count"] for r in finding if r["flagged"]["count"]
        },
        "ever_flagged": times["arrival_to_flag"]["n"],
        "flagged_when_opened": times["arrival_to_opening"]["flagged"]["n"],
        "ppv": {
            (r["detector"], r["finding"]): (r["ppv"]["count"], r["ppv"]["n"])
            for r in finding
            if r["ppv"]["n"]
        },
        "agreement": {
            "agree": report["agreement"]["agree"]["count"],
            "disagree": report["agreement"]["disagree"]["count"],
            "missed": report["agreement"]["missed"],
        },
        "missed": report["agreement"]["missed_by_finding"],
        "alerts": report["alerts"]["raised"],
        "constancy": report["constancy"]["checks"],
        "opening_n": times["arrival_to_opening"]["all"]["n"],
        "opening_median": times["arrival_to_opening"]["all"]["median"]["value"],
        "opening_p90": times["arrival_to_opening"]["all"]["p90"]["value"],
        "report_median": times["arrival_to_report"]["all"]["median"]["value"],
        "longest": [row["seconds"] for row in report["longest_waits"]],
        "releases": sorted({r["digest"] for r in report["head"]["releases"]}),
    }


def _counts(values: Any) -> dict[Any, int]:
    return dict(sorted(Counter(values).items()))


def _ppv(diary: Diary) -> dict[tuple[str, str], tuple[int, int]]:
    """Per detector and finding (agreed, judged): the last reader's word on each flag that they saw counts."""
    said: dict[tuple[str, str], bool] = {}
    for study, verdict, _, seen in diary.words:
        if verdict != "missed":
            said |= {(study, name): verdict == "agree" for name in seen}
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for (study, name), agreed in said.items():
        key = DETECTOR[diary.cases[study].kind], name
        right, judged = found.get(key, (0, 0))
        found[key] = right + agreed, judged + 1
    return found


def _waits(arrived: dict[str, int], ended: dict[str, int], until_ms: int) -> list[tuple[float, bool]]:
    """(seconds, done); what happens after the day has not happened yet."""
    return [
        ((min(ended.get(study, until_ms), until_ms) - at) / 1000, ended.get(study, until_ms + 1) <= until_ms)
        for study, at in arrived.items()
    ]


def _quantile(waits: list[tuple[float, bool]], part: float) -> float | None:
    """The product-limit estimate by hand (Kaplan and Meier 1958): the first time at which that part is done."""
    share, at_risk = 1.0, len(waits)
    for seconds in sorted({s for s, _ in waits}):
        here = [done for s, done in waits if s == seconds]
        share *= 1 - sum(here) / at_risk
        if share <= 1 - part + 1e-12:
            return round(seconds, 3)
        at_risk -= len(here)
    return None


def cohort(cases: dict[str, Case]) -> str:
    kinds = Counter((c.kind, c.ends[0]) for c in cases.values())
    return ", ".join(f"{n} {kind} {state}" for (kind, state), n in sorted(kinds.items()))
