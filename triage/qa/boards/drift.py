"""Charts 6 to 11: the same for everyone, has input or output changed, is the detector the same, calibrated, not analysed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from triage.domain.monitoring import GOLDEN_ACTS, GOLDEN_TOLERANCE, PSI_ACT, ewma, p_chart, psi_by_chance
from triage.domain.statistics import (
    expected_calibration_error,
    population_stability,
    reliability,
    shares_in_reference_bins,
    wilson,
)
from triage.qa import charts
from triage.qa.boards.chart import SHARES, Chart, Facts, share
from triage.qa.boards.truth import JUDGED_MIN, truth_as_shown
from triage.qa.page import plural
from triage.qa.report_text import Said
from triage.qa.subgroups import POSITIVES_MIN, age_band, film_view
from triage.store import audit, constancy
from triage.store.measures import StudyFacts
from triage.store.monitoring import InputFacts

ECE_ACT = 0.05  # ux 10, chart 10
POINTS_ACT = 0.05  # a reason's share of runs that rose by so much (ux 10, chart 11)
REFERENCE_MIN = 30
NUMBERS: dict[str, Callable[[InputFacts], float | None]] = {
    "kVp": lambda i: i.kvp,
    "slice thickness": lambda i: i.slice_thickness_mm,
    "columns": lambda i: None if i.columns is None else float(i.columns),
    "age": lambda i: i.age_years,
}
WORDS: dict[str, Callable[[InputFacts], str]] = {"device": lambda i: i.device, "kernel": lambda i: i.kernel}


def same(facts: Facts) -> Chart:
    """6: is it the same for everyone?"""
    devices = {i.study_id: i.device for i in facts.inputs}
    known = truth_as_shown(facts)
    groups: dict[str, Callable[[StudyFacts], str | None]] = {
        "sex": lambda s: s.sex or "unknown",
        "age": lambda s: age_band(s.age_years),
        "device": lambda s: devices.get(s.study_id) or "unknown",
        "sender": lambda s: s.sender or "unknown",
        "view": film_view,
    }
    analysed = [s for s in facts.studies if s.ai_status == "completed"]
    overall = wilson(sum(s.study_id in facts.flagged for s in analysed), len(analysed))
    rows: list[list[object]] = []
    studies: dict[int, list[int]] = {}
    odd = []
    for name, key in groups.items():
        for group in sorted({g for s in facts.studies if (g := key(s)) is not None}):
            members = [s for s in facts.studies if key(s) == group]
            seen = [s for s in members if s.ai_status == "completed"]
            flags = sum(s.study_id in facts.flagged for s in seen)
            rate = wilson(flags, len(seen))
            judged = [ok for (i, _), ok in known.items() if i in {s.study_id for s in members}]
            refused = sum(s.ai_status == "not_analysed" for s in members)
            enough = flags >= POSITIVES_MIN
            if enough and not rate.low <= overall.value <= rate.high:
                odd.append(f"{name} {group}")
            studies[len(rows)] = [s.study_id for s in members]
            rows.append(
                [name, group, len(members), share(refused / len(members)), share(rate.value) if enough else None,
                 share(rate.low) if enough else None, share(rate.high) if enough else None,
                 share(sum(judged) / len(judged)) if len(judged) >= POSITIVES_MIN else None,
                 "" if enough else "too few"]
            )  # fmt: skip
    return Chart(
        number=6, key="same", question="Is it the same for everyone?", whose="QA, auditor", n=len(facts.studies),
        definition="flag rate among analysed, PPV (of the flags that stood when the word was said), share not "
        "analysed; views are of films alone; fewer than "
        f"{POSITIVES_MIN} flags: no figure. Alarm: an interval that excludes the overall flag rate of "
        f"{overall.value:.1%}; groups differ in illness too" if analysed
        else "no study was analysed",
        columns=("by", "group", "studies", "not analysed", "flag rate", "low", "high", "PPV", "note"), rows=rows,
        units=SHARES, studies=studies, alarm=("differs from the rest: " + ", ".join(odd)) if odd else "",
    )  # fmt: skip


def inputs(facts: Facts) -> Chart:
    """7: has the input changed?"""
    rows: list[list[object]] = []
    studies: dict[int, list[int]] = {}
    shifted = []
    for detector in sorted({i.detector for i in facts.inputs}):
        now = [i for i in facts.inputs if i.detector == detector]
        before = [i for i in facts.reference.inputs if i.detector == detector]
        for name, old, new in _distributions(before, now):
            if len(old) < REFERENCE_MIN or not new:
                rows.append([detector, name, len(old), len(new), None, None, "too few in the month before"])
                continue
            a, b = _shares(old, new)
            value, chance = population_stability(a, b), psi_by_chance(len(a), len(old), len(new))
            note = ""
            if value > PSI_ACT and value > 2 * chance:
                note = _biggest(old, new)
                shifted.append(f"{detector} {name}")
            studies[len(rows)] = [i.study_id for i in now][-50:]
            rows.append([detector, name, len(old), len(new), round(value, 4), round(chance, 4), note])
    return Chart(
        number=7, key="inputs", question="Has the input changed?", whose="physicist", n=len(facts.inputs),
        definition="population stability index against the 30 days before the period, over the tenths of that month (words: "
        f"each word). Alarm: above {PSI_ACT} and more than twice what chance alone gives",
        columns=("detector", "what", "month before", "now", "PSI", "by chance", "note"), rows=rows, studies=studies,
        alarm=("shifted: " + ", ".join(shifted)) if shifted else "",
    )  # fmt: skip


def _distributions(
    before: Sequence[InputFacts], now: Sequence[InputFacts]
) -> list[tuple[str, list[Any], list[Any]]]:
    found: list[tuple[str, list[Any], list[Any]]] = []
    for name, number in NUMBERS.items():
        old, new = ([v for v in map(number, side) if v is not None] for side in (before, now))
        if old or new:
            found.append((name, old, new))
    for name, word in WORDS.items():
        found.append((name, [word(i) or "unknown" for i in before], [word(i) or "unknown" for i in now]))
    return found


def _shares(old: list[Any], new: list[Any]) -> tuple[Any, Any]:
    if isinstance(old[0], float):
        return shares_in_reference_bins(old, new)
    words = sorted({*old, *new})
    a, b = Counter(old), Counter(new)
    return [a[w] / len(old) for w in words], [b[w] / len(new) for w in words]


def _biggest(old: list[Any], new: list[Any]) -> str:
    """What moved, in words: the median, or the word whose share changed most."""
    if isinstance(old[0], float):
        return f"median {np.median(old):g} before, {np.median(new):g} now"
    a, b = Counter(old), Counter(new)
    word = max({*old, *new}, key=lambda w: abs(a[w] / len(old) - b[w] / len(new)))
    return f"{word}: {a[word] / len(old):.0%} before, {b[word] / len(new):.0%} now"


def output(facts: Facts) -> Chart:
    """8: has the output changed?"""
    then = facts.reference
    base = [s for s in then.studies if s.ai_status == "completed"]
    analysed = [s for s in facts.studies if s.ai_status == "completed"]
    use_before = len(base) >= REFERENCE_MIN
    pool, flagged = (base, then.flagged) if use_before else (analysed, facts.flagged)
    centre = sum(s.study_id in flagged for s in pool) / len(pool) if pool else 0.0
    by_day = [[s for s in analysed if facts.day_of(s.arrived_at) == k] for k in range(len(facts.days))]
    counts = [sum(s.study_id in facts.flagged for s in day) for day in by_day]
    ns = [len(day) for day in by_day]
    points, smooth = p_chart(counts, ns, centre), ewma(counts, ns, centre)
    scores = defaultdict(list)
    for s in facts.scores:
        if not s.is_shadow and s.study_id in facts.by_id:
            scores[facts.day_of(facts.by_id[s.study_id].arrived_at)].append(s.probability)
    rows: list[list[object]] = []
    for k, (day, p, e) in enumerate(zip(facts.days, points, smooth, strict=True)):
        mark = (
            "beyond 3 sigma" if p.beyond else "8 on one side" if p.run else "lasting shift" if e.alarm else ""
        )
        median, high = np.quantile(scores[k], [0.5, 0.9]) if scores[k] else (None, None)
        rows.append(
            [f"{day:%Y-%m-%d}", p.n, p.count, share(p.value), share(p.low), share(p.high), share(e.value),
             share(None if median is None else float(median)), share(None if high is None else float(high)), mark]
        )  # fmt: skip
    bad = [i for i, row in enumerate(rows) if row[-1]]
    return Chart(
        number=8, key="output", question="Has the output changed?", whose="physicist", n=len(analysed),
        definition="daily share of analysed studies with a flag against "
        f"{'the month before' if use_before else 'the period itself'} ({centre:.1%}); limits of 3 sigma, 8 days on "
        "one side, and an EWMA (0.2, 2.86 sigma: one false alarm a year)",
        columns=("day", "analysed", "flagged", "share", "low", "high", "EWMA", "median score", "90 % score", "mark"),
        rows=rows, units=SHARES, studies={i: [s.study_id for s in day] for i, day in enumerate(by_day)},
        alarm=f"{plural(len(bad), 'day', 'days')} out of control, last {rows[bad[-1]][0]}" if bad else "",
        svg=charts.lines(
            "Flag rate per day", [f"{d:%m-%d}" for d in facts.days],
            [("flag rate", [p.value for p in points]), ("EWMA", [e.value for e in smooth])],
            limits=[(p.low, p.high) for p in points], marked=bad, shares=True,
        ),
    )  # fmt: skip


def detector(facts: Facts) -> Chart:
    """9: is the detector the same as at acceptance?"""
    checks = [c for c in constancy.between(facts.tx, facts.start, facts.end) if c["ok"] is not None]
    by_day: dict[tuple[int, str], list[bool]] = defaultdict(list)
    rows: list[list[object]] = []
    for c in checks:
        by_day[facts.day_of(c["started_at"]), c["detector"]].append(bool(c["ok"]))
    for (k, name), oks in sorted(by_day.items()):
        rows.append([f"{facts.days[k]:%Y-%m-%d}", name, "phantom", len(oks), len(oks) - sum(oks), None])
    drifted = []
    golden = audit.between(facts.tx, facts.start, facts.end, GOLDEN_ACTS)
    for event in golden:
        said = event["detail"]
        title, bad = f"{said['detector']} {said['version']}", bool(said["error"])
        apart = _two_digits(said["difference"])
        if bad:
            drifted.append(f"{title}: {said['error']}")
        rows.append([f"{event['at']:%Y-%m-%d}", title, "golden case", 1, int(bad), apart])
    rows.sort(key=lambda r: (str(r[0]), str(r[1]), str(r[2])))
    failed = sum(not c["ok"] for c in checks)
    alarms = [f"{plural(failed, 'constancy check', 'constancy checks')} failed"] if failed else []
    return Chart(
        number=9, key="detector", question="Is the detector the same as at acceptance?", whose="physicist",
        n=len(checks) + len(golden),
        definition="constancy phantoms through the whole real path, and once a day the golden case of each active release: "
        f"fixed input, outputs compared with those of its making (at most {GOLDEN_TOLERANCE:g} apart). Alarm: any phantom "
        "that was not flagged in time, any golden case that differs or whose files are not its own",
        columns=("day", "detector", "what", "checks", "failed", "largest difference"), rows=rows,
        alarm="; ".join([*alarms, *drifted]),
    )  # fmt: skip


def _two_digits(difference: float | None) -> float | None:
    """Float noise beyond them is nobody's question; 0.0024 of 0.005 allowed is."""
    return None if difference is None else float(f"{difference:.2g}")


def calibrated(facts: Facts) -> Chart:
    """10: is it calibrated here?"""
    rows: list[list[object]] = []
    alarms, curves = [], []
    truth: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    for s in facts.scores:
        said = facts.reported.get(s.study_id, {}).get(s.name)
        if not s.is_shadow and said in (Said.PRESENT, Said.ABSENT):
            truth[s.name].append((said is Said.PRESENT, s.probability))
    for name, pairs in sorted(truth.items()):
        positives = sum(t for t, _ in pairs)
        if positives < JUDGED_MIN:
            rows.append([name, len(pairs), positives, None, None, None, None, "too few"])
            continue
        t, p = [a for a, _ in pairs], [b for _, b in pairs]
        error = expected_calibration_error(t, p)
        if error > ECE_ACT:
            alarms.append(f"{name} {error:.3f}")
        for bin_ in reliability(t, p):
            o = bin_.observed
            rows.append([name, o.n, positives, share(bin_.probability), share(o.value), share(o.low), share(o.high),
                         f"ECE {error:.3f}"])  # fmt: skip
        curves.append((name, [b.observed.value for b in reliability(t, p)]))
    return Chart(
        number=10, key="calibrated", question="Is it calibrated here?", whose="QA",
        n=sum(len(v) for v in truth.values()),
        definition="said probability against what final reports state (rules; a report that does not mention a finding says "
        f"nothing of it), in tenths. Alarm: expected calibration error above {ECE_ACT}; fewer than {JUDGED_MIN} "
        "positives: no figure",
        columns=("finding", "n", "positive", "said", "seen", "low", "high", "note"), rows=rows, units=SHARES,
        alarm=("calibration error: " + ", ".join(alarms)) if alarms else "",
        svg=charts.lines(
            "Seen share by tenth of the said probability", [str(k + 1) for k in range(10)], curves, most=1.0, shares=True
        ) if curves else "",
    )  # fmt: skip


def refused(facts: Facts) -> Chart:
    """11: what is not analysed?"""

    def counted(f: Facts) -> tuple[Counter[tuple[str, str, str]], int]:
        senders = {s.study_id: s.sender for s in f.studies}
        found = Counter(
            (r.detector, r.reason, senders.get(r.study_id, ""))
            for r in f.runs
            if r.state in ("not_analysed", "failed")
        )
        return found, len(f.runs)

    (now, n), (before, n_before) = counted(facts), counted(facts.reference)
    rows: list[list[object]] = []
    studies: dict[int, list[int]] = {}
    news = []
    for key, count in sorted(now.items(), key=lambda kv: (-kv[1], kv[0])):
        part, was = count / n, before[key] / n_before if n_before else None
        note = ""
        if n_before >= REFERENCE_MIN and before[key] == 0:
            note = "new"
        elif was is not None and part - was > POINTS_ACT:
            note = f"+{100 * (part - was):.0f} points"
        if note:
            news.append(f"{key[1]}: {key[2] or 'unknown'} ({note})")
        senders = {s.study_id for s in facts.studies if s.sender == key[2]}
        studies[len(rows)] = [
            r.study_id for r in facts.runs if (r.detector, r.reason) == key[:2] and r.study_id in senders
        ]
        rows.append([*key, count, n, share(part), share(was), note])
    return Chart(
        number=11, key="refused", question="What is not analysed?", whose="admin, QA", n=n,
        definition="runs that were not analysed or failed, by reason and sender, as a share of all runs, beside the month "
        "before. Alarm: a reason that is new from a sender, or rose by more than 5 points",
        columns=("detector", "reason", "sender", "runs", "of", "share", "month before", "note"), rows=rows, units=SHARES,
        studies=studies,
        alarm="; ".join(news),
    )  # fmt: skip
