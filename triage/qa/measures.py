"""From facts to figures: each function makes one part of the QA report, and every figure has its n and interval.

Pure functions over the values of `store.measures`; called by `qa.report`. A figure is a dictionary
{"value", "low", "high", "count", "n"}, or {"note": "too few" | "<5", ...} where small numbers forbid one.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from triage.domain.finding import FINDING_CODES, PriorityClass
from triage.domain.priority import OrderedPriority
from triage.domain.statistics import Estimate, poisson_rate, wilson
from triage.domain.survival import kaplan_meier, log_rank, quantile
from triage.store.measures import AlertFacts, FeedbackFacts, FlagFacts, RunFacts, StudyFacts

CLAIM_MIN = 30  # in each group, before two waits are compared by a test (ux 10, chart 1)
CURVE_POINTS = 200
CLASSES = tuple(sorted(PriorityClass, reverse=True))
THERE_ALL_THE_SAME = ("known", "not_relevant")  # reasons to disagree with a flag whose finding is there
Verdicts = Mapping[tuple[int, str], bool]  # (study id, finding): the last reader to say so agreed


def proportion(count: int, n: int) -> dict[str, Any]:
    """A share with Wilson's interval; value None when there is nothing to take a share of."""
    return {**_rounded(wilson(count, n)), "count": count, "n": n}


def _rounded(estimate: Estimate) -> dict[str, Any]:
    value = None if math.isnan(estimate.value) else round(estimate.value, 6)
    return {"value": value, "low": round(estimate.low, 6), "high": round(estimate.high, 6)}


# --- coverage ------------------------------------------------------------------------------------------------


def coverage(studies: Sequence[StudyFacts], runs: Sequence[RunFacts]) -> dict[str, Any]:
    """How many studies arrived, and how many of those that a detector wanted were analysed."""
    wanted = [s for s in studies if s.ai_status]
    by_status = Counter(s.ai_status for s in wanted)
    per_state: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        per_state[run.detector][run.state] += 1
    return {
        "studies": len(studies),
        "wanted_by_a_detector": len(wanted),
        "analysed": proportion(by_status["completed"], len(wanted)),
        "not_analysed": proportion(by_status["not_analysed"], len(wanted)),
        "failed": proportion(by_status["failed"], len(wanted)),
        "pending": proportion(by_status["requested"] + by_status["running"], len(wanted)),
        "by_modality": _counts(s.modality or "unknown" for s in studies),
        "by_state": _counts(s.state for s in studies),
        "by_order": {p.value: sum(s.ordered_priority == p.value for s in studies) for p in OrderedPriority},
        "by_class": {c.word: sum(s.priority_class == c for s in studies) for c in CLASSES},
        "raised_by_ai": proportion(sum(s.priority_class > s.base_class for s in studies), len(studies)),
        "raised_by_hand": proportion(sum(s.overridden for s in studies), len(studies)),
        "runs": {detector: dict(sorted(states.items())) for detector, states in sorted(per_state.items())},
    }


def reasons(runs: Sequence[RunFacts], state: str) -> list[dict[str, Any]]:
    """Why runs ended in `state`, per detector, the most frequent first; shares of all runs of that detector."""
    totals = Counter(r.detector for r in runs)
    found = Counter((r.detector, r.reason) for r in runs if r.state == state)
    return [
        {"detector": detector, "reason": reason, **proportion(count, totals[detector])}
        for (detector, reason), count in sorted(found.items(), key=lambda i: (-i[1], i[0]))
    ]


# --- flags and what readers said -----------------------------------------------------------------------------


def verdicts(given: Iterable[FlagFacts], feedback: Iterable[FeedbackFacts]) -> dict[tuple[int, str], bool]:
    """The last reader's word on each flag; a flag that nobody judged is absent.

    A word speaks of flags that stood when it was said, of all of its study where it names no finding: one that was
    withdrawn later was judged, one that came later was not. It is a reader's word, not adjudicated truth.

    given  every flag, those withdrawn since among them
    """
    flags: dict[int, list[FlagFacts]] = defaultdict(list)
    for flag in given:
        flags[flag.study_id].append(flag)
    said: dict[tuple[int, str], bool] = {}
    for word in feedback:
        if word.verdict == "missed":
            continue
        for flag in flags[word.study_id]:
            if word.finding in ("", flag.name) and flag.stood(word.at):
                said[word.study_id, flag.name] = word.verdict == "agree"
    return said


def present(given: Iterable[FlagFacts], feedback: Iterable[FeedbackFacts]) -> dict[tuple[int, str], bool]:
    """As `verdicts`, but of whether the finding is there: known, old or not relevant ones are, and no flag was worth it."""
    return verdicts(given, map(_of_the_finding, feedback))


def _of_the_finding(word: FeedbackFacts) -> FeedbackFacts:
    there = word.verdict == "disagree" and word.chip in THERE_ALL_THE_SAME
    return replace(word, verdict="agree") if there else word


def flags_by_finding(
    flags: Iterable[FlagFacts], given: Iterable[FlagFacts], said: Verdicts, runs: Iterable[RunFacts]
) -> list[dict[str, Any]]:
    """Per detector and finding: share of the studies it analysed that it flags, and share of its flags readers agreed with.

    flags, given  those of today, and every one that a reader could judge
    """
    analysed: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        if run.state == "completed":
            analysed[run.detector].add(run.study_id)
    flagged, shown = _studies_by_finding(flags), _studies_by_finding(given)
    rows = []
    for detector, name in sorted(shown):
        ids = flagged[detector, name]
        judged = [said[i, name] for i in shown[detector, name] if (i, name) in said]
        if not ids and not judged:
            continue
        rows.append(
            {
                "detector": detector,
                "finding": name,
                "display": FINDING_CODES[name].display,
                "class": FINDING_CODES[name].priority_class.word,
                "flagged": proportion(len(ids), len(analysed[detector])),
                "ppv": proportion(sum(judged), len(judged)),
            }
        )
    return rows


def _studies_by_finding(flags: Iterable[FlagFacts]) -> dict[tuple[str, str], set[int]]:
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for flag in flags:
        found[flag.detector, flag.name].add(flag.study_id)
    return found


def missed(flags: Iterable[FlagFacts], feedback: Iterable[FeedbackFacts]) -> dict[str, int]:
    """Studies per finding of which a reader says that it was missed, and that have no such flag (any more)."""
    flagged = {(f.study_id, f.name) for f in flags}
    said = {(f.finding, f.study_id) for f in feedback if f.verdict == "missed"}
    return _counts(name for name, study_id in said if (study_id, name) not in flagged)


def flags_by_class(flags: Sequence[FlagFacts], said: Verdicts, analysed: int) -> list[dict[str, Any]]:
    """Per class that a flag lifts to: studies by their highest flag, and PPV over the flags of that class."""
    highest: dict[int, PriorityClass] = {}
    for flag in flags:
        lift = FINDING_CODES[flag.name].priority_class
        highest[flag.study_id] = max(lift, highest.get(flag.study_id, lift))
    rows = []
    for lift in CLASSES:
        judged = [a for (_, name), a in said.items() if FINDING_CODES[name].priority_class is lift]
        rows.append(
            {
                "class": lift.word,
                "studies": proportion(sum(h is lift for h in highest.values()), analysed),
                "ppv": proportion(sum(judged), len(judged)),
            }
        )
    return rows


def agreement(feedback: Sequence[FeedbackFacts]) -> dict[str, Any]:
    """Every word of readers, counted; several readers of one study count each."""
    by_verdict = Counter(f.verdict for f in feedback)
    spoken = by_verdict["agree"] + by_verdict["disagree"]
    return {
        "agree": proportion(by_verdict["agree"], spoken),
        "disagree": proportion(by_verdict["disagree"], spoken),
        "missed": by_verdict["missed"],
        "disagree_reasons": _counts(f.chip or "none given" for f in feedback if f.verdict == "disagree"),
    }


# --- times ---------------------------------------------------------------------------------------------------


def times(waits: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """Seconds by which half, 75, 90 and 95 % were done, and the longest. Who still waits is right-censored.

    waits  (seconds, done); a wait that still lasts has done False
    """
    curve = kaplan_meier([s for s, _ in waits], [d for _, d in waits])
    table: dict[str, Any] = {"unit": "s", "n": curve.n, "done": curve.events, "open": curve.n - curve.events}
    for name, part in (("median", 0.5), ("p75", 0.75), ("p90", 0.9), ("p95", 0.95)):
        q = quantile(curve, part)
        table[name] = {"value": _seconds(q.value), "low": _seconds(q.low), "high": _seconds(q.high)}
    table["longest"] = None if curve.n == 0 else _seconds(curve.longest)
    table["longest_is_open"] = curve.longest_open
    return table


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def waits(
    studies: Iterable[StudyFacts], ended: Callable[[StudyFacts], datetime | None], until: datetime
) -> list[tuple[float, bool]]:
    """(seconds since arrival, done) of each study; what happens after `until` has not happened yet.

    A withdrawn study that nobody opened is left out: when it was withdrawn is not known.
    """
    found = []
    for s in studies:
        at = ended(s)
        if at is None and s.state == "withdrawn":
            continue
        found.append(_wait(s.arrived_at, at, None, until))
    return found


def _wait(
    start: datetime, done: datetime | None, given_up: datetime | None, until: datetime
) -> tuple[float, bool]:
    is_done = done is not None and done <= until
    end = min(t for t in (done, given_up, until) if t is not None)
    return max(0.0, (end - start).total_seconds()), is_done


def flagged_when_opened(
    studies: Iterable[StudyFacts], given: Iterable[FlagFacts], until: datetime
) -> set[int]:
    """Studies with a flag that stood when they were first opened; those that wait, at the end of the time looked at.

    Withdrawn later, the flag had its effect; one that came later had none.
    """
    seen_at = {s.study_id: min(s.opened_at or until, until) for s in studies}
    return {f.study_id for f in given if f.study_id in seen_at and f.stood(seen_at[f.study_id])}


def time_tables(
    studies: Sequence[StudyFacts], given: Sequence[FlagFacts], runs: Sequence[RunFacts], until: datetime
) -> dict[str, Any]:
    """Arrival to flag, to result, to opening and to report; the last two for flagged, unflagged and every class.

    given  every flag, those withdrawn since among them: the first counts, and what stood when a study was opened
    """
    seen_flagged = flagged_when_opened(studies, given, until)
    by_id = {s.study_id: s for s in studies}
    first_flag: dict[int, datetime] = {}
    for f in given:
        first_flag[f.study_id] = min(f.flagged_at, first_flag.get(f.study_id, f.flagged_at))
    results: dict[int, datetime] = {}
    for r in runs:
        if r.state == "completed" and r.finished_at is not None:
            results[r.study_id] = max(r.finished_at, results.get(r.study_id, r.finished_at))
    tables: dict[str, Any] = {
        name: times([_wait(by_id[i].arrived_at, at, None, until) for i, at in ends.items() if i in by_id])
        for name, ends in (("arrival_to_flag", first_flag), ("arrival_to_result", results))
    }
    for name, ended in (
        ("arrival_to_opening", lambda s: s.opened_at),
        ("arrival_to_report", lambda s: s.read_at),
    ):
        flagged = waits((s for s in studies if s.study_id in seen_flagged), ended, until)
        unflagged = waits((s for s in studies if s.study_id not in seen_flagged), ended, until)
        tables[name] = {
            "all": times(flagged + unflagged),
            "flagged": times(flagged),
            "unflagged": times(unflagged),
            "flagged_against_unflagged": _compared(flagged, unflagged),
            "by_order": {
                p.value: times(waits((s for s in studies if s.ordered_priority == p.value), ended, until))
                for p in OrderedPriority
            },
            "by_class": {
                c.word: times(waits((s for s in studies if s.priority_class == c), ended, until))
                for c in CLASSES
            },
            "curves": {"flagged": curve_points(flagged), "unflagged": curve_points(unflagged)},
        }
    return tables


def _compared(a: Sequence[tuple[float, bool]], b: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    if min(len(a), len(b)) < CLAIM_MIN:
        return {"log_rank_p": None, "note": "too few"}
    p = log_rank([s for s, _ in a], [d for _, d in a], [s for s, _ in b], [d for _, d in b])
    if math.isnan(p):
        return {"log_rank_p": None, "note": "nobody was done"}
    return {"log_rank_p": float(f"{p:.4g}"), "note": ""}


def curve_points(waits_: Sequence[tuple[float, bool]]) -> list[list[float]]:
    """[seconds, share still waiting] of the Kaplan-Meier curve, thinned for drawing."""
    curve = kaplan_meier([s for s, _ in waits_], [d for _, d in waits_])
    step = max(1, math.ceil(len(curve.times) / CURVE_POINTS))
    kept = sorted({*range(0, len(curve.times), step), *([len(curve.times) - 1] if len(curve.times) else [])})
    return [[0.0, 1.0], *([round(float(curve.times[i]), 3), round(float(curve.share[i]), 6)] for i in kept)]


def beyond_bound(studies: Sequence[StudyFacts], until: datetime) -> list[dict[str, Any]]:
    """Per class without AI: studies that waited beyond the longest wait of that class. More than none is red."""
    rows = []
    for c in CLASSES:
        group = [s for s in studies if s.base_class == c and not (s.state == "withdrawn" and not s.opened_at)]
        over = sum(s.bound_at < min(s.opened_at or until, until) for s in group)
        rows.append({"class": c.word, "beyond": proportion(over, len(group))})
    return rows


# --- alerts and constancy ------------------------------------------------------------------------------------


def alert_part(
    alerts: Sequence[AlertFacts], deliveries: Sequence[tuple[str, str, int]], days: float, until: datetime
) -> dict[str, Any]:
    """Alerts by state and step reached; time to acknowledgement, where a report counts as one (ux 9, rule b)."""
    answered = [
        _wait(
            a.raised_at,
            a.acknowledged_at or (a.ended_at if a.state == "closed" else None),
            a.ended_at if a.state == "withdrawn" else None,
            until,
        )
        for a in alerts
    ]
    routes: dict[str, dict[str, int]] = defaultdict(dict)
    for route, state, count in deliveries:
        routes[route][state] = count
    return {
        "raised": len(alerts),
        "per_day": {
            **_rounded(poisson_rate(len(alerts), days)),
            "count": len(alerts),
            "days": round(days, 3),
        },
        "by_state": _counts(a.state for a in alerts),
        "by_finding": _counts(a.finding for a in alerts),
        "by_step_reached": _counts(str(a.step) for a in alerts),
        "escalated": proportion(sum(a.step > 0 for a in alerts), len(alerts)),
        "never_acknowledged": proportion(sum(a.state == "exhausted" for a in alerts), len(alerts)),
        "acknowledgement": times(answered),
        "deliveries": dict(sorted(routes.items())),
    }


def constancy_part(checks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Constancy checks begun in the period, and the failed ones by time."""
    ended = [c for c in checks if c["ok"] is not None]
    return {
        "checks": len(checks),
        "passed": proportion(sum(bool(c["ok"]) for c in ended), len(ended)),
        "on_their_way": len(checks) - len(ended),
        "by_detector": {
            name: proportion(
                sum(bool(c["ok"]) for c in ended if c["detector"] == name), sum(c["detector"] == name for c in ended)
            )
            for name in sorted({c["detector"] for c in checks})
        },
        "seconds": times([((c["finished_at"] - c["started_at"]).total_seconds(), True) for c in ended if c["ok"]]),
        "failures": [
            {"at": c["started_at"].isoformat(), "detector": c["detector"], "detail": c["detail"]}
            for c in ended
            if not c["ok"]
        ],
    }  # fmt: skip


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
