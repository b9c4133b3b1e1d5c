"""Charts 3 to 5, 16 and 17: how often is a flag right, what is missed, what do readers say, and what would change?"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta

from triage.domain.finding import FINDING_CODES
from triage.domain.monitoring import CUSUM_LIMIT, bernoulli_cusum
from triage.domain.statistics import cohen_kappa, wilson
from triage.qa import charts
from triage.qa.boards.chart import SHARES, Chart, Facts, share
from triage.qa.replay.site import READ_MIN, waits_if_flagged
from triage.qa.report_text import Said
from triage.store import policies
from triage.store.measures import FlagFacts
from triage.store.monitoring import ScoreFacts

ROLLING = timedelta(days=30)
PPV_ACCEPTED, PPV_BAD = 0.5, 0.3  # of critical flags: the alarm budget of ux 9, and what it must not fall to
JUDGED_MIN = 20
PLAYED_MAX = 60_000  # studies times thresholds of one what-if
GOLIVE_STUDIES, GOLIVE_POSITIVES = 500, 30  # standards 12.3


def truth_of_flags(facts: Facts, *, there: bool = False) -> dict[tuple[int, str], bool]:
    """(study, finding) of today's flags whose truth somebody said: a reader's word first, else the final report's.

    there  True: is the finding there, though known or not relevant? False: was the flag right?
    """
    words = facts.seen if there else facts.said
    known: dict[tuple[int, str], bool] = {}
    for flag in facts.flags:
        key = (flag.study_id, flag.name)
        said = facts.reported.get(flag.study_id, {}).get(flag.name)
        if key in words:
            known[key] = words[key]
        elif said in (Said.PRESENT, Said.ABSENT):
            known[key] = said is Said.PRESENT
    return known


def truth_as_shown(facts: Facts, *, there: bool = False) -> dict[tuple[int, str], bool]:
    """As `truth_of_flags`, with the flags withdrawn since that a reader judged while they stood: these were shown."""
    return {**(facts.seen if there else facts.said), **truth_of_flags(facts, there=there)}


def _shown(facts: Facts) -> list[FlagFacts]:
    """Today's flags, and those withdrawn since that a reader judged."""
    today = {(f.study_id, f.name) for f in facts.flags}
    judged = [f for f in facts.given if (f.study_id, f.name) in facts.said.keys() - today]
    first = {(f.study_id, f.detector, f.name): f for f in reversed(judged)}
    return [*facts.flags, *first.values()]


def right(facts: Facts) -> Chart:
    """3: how often is a flag right?"""
    known, there, flags = truth_as_shown(facts), truth_as_shown(facts, there=True), _shown(facts)
    rows: list[list[object]] = []
    studies: dict[int, list[int]] = {}
    alarms, bars = [], []
    for name in sorted({f.name for f in flags}):
        mine = sorted((f for f in flags if f.name == name), key=lambda f: f.flagged_at)
        judged = [(f, known[f.study_id, name]) for f in mine if (f.study_id, name) in known]
        recent = [ok for f, ok in judged if f.flagged_at >= facts.until - ROLLING]
        real = [there[f.study_id, name] for f, _ in judged if f.flagged_at >= facts.until - ROLLING]
        estimate = wilson(sum(recent), len(recent))
        is_critical = FINDING_CODES[name].priority_class.word == "critical"
        evidence = max(
            bernoulli_cusum([not ok for _, ok in judged], 1 - PPV_ACCEPTED, 1 - PPV_BAD), default=0.0
        )
        if is_critical and evidence > CUSUM_LIMIT:
            alarms.append(f"{name}: fewer than {PPV_ACCEPTED:.0%} of flags are right")
        studies[len(rows)] = [f.study_id for f, ok in judged if not ok]
        rows.append(
            [name, len(mine), len(recent), share(estimate.value) if recent else None, share(estimate.low),
             share(estimate.high), share(sum(real) / len(real)) if real else None,
             round(evidence, 2) if is_critical else None]
        )  # fmt: skip
        bars.append(charts.Bar(name, estimate.value if recent else None, estimate.low, estimate.high,
                               f"{sum(recent)} of {len(recent)} judged"))  # fmt: skip
    return Chart(
        number=3, key="right", question="How often is a flag right?", whose="QA", n=len(flags),
        definition="PPV over the last 30 days of the period: a reader's last word, else what the final report's "
        "text states or denies (rules, not adjudicated). A word is of the flags that stood when it was said: one that was "
        "withdrawn later was judged, one that came later was not. Agree counts as right, disagree as not right whatever its "
        "reason: a flag of something known, old or not relevant was not worth an alarm. Finding there: the same, but "
        "known or old and not clinically relevant count as there, since the detector was right. Alarm for critical "
        f"findings: a CUSUM of rejected flags, {PPV_ACCEPTED:.0%} accepted against {PPV_BAD:.0%}, evidence above "
        f"{CUSUM_LIMIT:g}. The studies of a row are its rejected flags",
        columns=("finding", "flags", "judged, 30 days", "PPV", "low", "high", "finding there", "evidence against"),
        rows=rows, units=SHARES, studies=studies, alarm="; ".join(alarms),
        svg=charts.intervals("PPV per finding, last 30 days", bars) if bars else "",
    )  # fmt: skip


def missed(facts: Facts) -> Chart:
    """4: what do we miss?"""
    done = [d for d in facts.double_reads if d.read_at is not None]
    analysed = {s.study_id for s in facts.studies if s.ai_status == "completed"}
    unflagged = len(analysed - facts.flagged)
    known = truth_of_flags(facts, there=True)
    flagged = {(f.study_id, f.name) for f in facts.flags}
    told = defaultdict(set)
    for word in facts.words:
        if word.verdict == "missed" and (word.study_id, word.finding) not in flagged:
            told[word.finding].add(word.study_id)
    for study_id in analysed:
        for name, said in facts.reported.get(study_id, {}).items():
            if said is Said.PRESENT and study_id not in facts.flagged:
                told[name].add(study_id)
    rows: list[list[object]] = []
    studies: dict[int, list[int]] = {}
    for name in sorted({*told, *(n for d in done for n in d.findings), *(n for _, n in known)}):
        hits = [d.study_id for d in done if name in d.findings]
        rate = wilson(len(hits), len(done))
        true = sum(ok for (_, n), ok in known.items() if n == name)
        ends = (
            [_sensitivity(true, unflagged * r) for r in (rate.high, rate.value, rate.low)]
            if done
            else [None] * 3
        )
        studies[len(rows)] = sorted({*hits, *told[name]})
        rows.append(
            [name, len(told[name]), share(_sensitivity(true, len(told[name]))), len(hits), len(done), true,
             *(share(e) for e in (ends[1], ends[0], ends[2]))]
        )  # fmt: skip
    return Chart(
        number=4, key="missed", question="What do we miss?", whose="QA", n=len(done),
        definition="said missed: by a reader (key M, of any study that has no such flag) or stated by the final "
        "report of an unflagged study. At most = right flags / (right flags + said missed): an upper end, since who "
        "looks where nothing was flagged is chance. Sensitivity = right flags / (right flags + unflagged x share "
        "found by the blind second read of 2 % of the unflagged), with the sample's interval (Begg and Greenes "
        "1983). Right: the finding is there (chart 3). The studies of a row are those said missed or found in the "
        "sample",
        columns=("finding", "said missed", "at most", "found in sample", "sample", "right flags", "sensitivity", "low",
                 "high"),
        rows=rows, units=SHARES, studies=studies,
    )  # fmt: skip


def _sensitivity(right_: int, missed_: float) -> float | None:
    return right_ / (right_ + missed_) if right_ + missed_ > 0 else None


def reasons(facts: Facts) -> Chart:
    """5: agreement and its reasons."""
    version = {r.study_id: f"{r.detector} {r.version}" for r in facts.runs if r.state == "completed"}
    chips: Counter[tuple[str, str]] = Counter()
    spoken: Counter[str] = Counter()
    studies = defaultdict(list)
    for word in facts.words:
        if word.verdict == "missed":
            continue
        key = (word.release or version.get(word.study_id, "no run"), word.chip or "no reason given")
        spoken[key[0]] += 1
        if word.verdict == "disagree":
            chips[key] += 1
            studies[key].append(word.study_id)
    order = sorted(chips)
    rows = []
    for v, chip in order:
        estimate = wilson(chips[v, chip], spoken[v])
        rows.append(
            [
                v,
                chip,
                chips[v, chip],
                spoken[v],
                share(estimate.value),
                share(estimate.low),
                share(estimate.high),
            ]
        )
    return Chart(
        number=5, key="reasons", question="Agreement and its reasons", whose="QA", n=sum(spoken.values()),
        definition="reasons of disagreement by release, as a share of the words (agree or disagree) on that release: the "
        "one whose result stood when the word was said",
        columns=("release", "reason", "disagree", "words", "share", "low", "high"), rows=rows, units=SHARES,
        studies={i: studies[k] for i, k in enumerate(order)},
        svg=charts.intervals(
            "Disagree reasons", [charts.Bar(f"{v}: {c}", wilson(chips[v, c], spoken[v]).value,
                                 wilson(chips[v, c], spoken[v]).low, wilson(chips[v, c], spoken[v]).high,
                                 f"{chips[v, c]} of {spoken[v]}") for v, c in order],
        ) if order else "",
    )  # fmt: skip


def shadow(facts: Facts) -> Chart:
    """16: a shadow release against the live one."""
    live = {(s.detector, s.study_id, s.name): s.actionable for s in facts.scores if not s.is_shadow}
    tables: dict[tuple[str, str, str], list[tuple[int, bool, bool]]] = defaultdict(list)
    for s in facts.scores:
        other = live.get((s.detector, s.study_id, s.name))
        if s.is_shadow and other is not None:
            tables[s.detector, s.version, s.name].append((s.study_id, other, s.actionable))
    rows: list[list[object]] = []
    studies: dict[int, list[int]] = {}
    for (detector, version, name), pairs in sorted(tables.items()):
        cells = Counter((a, b) for _, a, b in pairs)
        if not any(a or b for a, b in cells):
            continue
        kappa = cohen_kappa([a for _, a, _ in pairs], [b for _, _, b in pairs])
        studies[len(rows)] = [i for i, a, b in pairs if a != b]
        enough = len(pairs) >= GOLIVE_STUDIES and cells[True, True] + cells[False, True] >= GOLIVE_POSITIVES
        rows.append(
            [f"{detector} {version}", name, len(pairs), cells[True, True], cells[True, False], cells[False, True],
             cells[False, False], None if kappa != kappa else round(kappa, 3), "enough" if enough else "too few yet"]
        )  # fmt: skip
    return Chart(
        number=16, key="shadow", question="Shadow release against the live one", whose="QA",
        n=len({i for pairs in tables.values() for i, _, _ in pairs}),
        definition="studies that both looked at, flag against flag, Cohen's kappa; findings that neither flagged are left "
        f"out. Before going live: at least {GOLIVE_STUDIES} studies and {GOLIVE_POSITIVES} flags (standards 12.3). The "
        "studies of a row are the discordant ones",
        columns=("shadow", "finding", "studies", "both", "live only", "shadow only", "neither", "kappa", "evidence"),
        rows=rows, studies=studies,
    )  # fmt: skip


def what_if(facts: Facts, finding: str) -> Chart:
    """17: what would another threshold of this finding do? On the stored scores and arrivals of the period."""
    known = truth_of_flags(facts)
    mine = [s for s in facts.scores if s.name == finding and not s.is_shadow]
    now = next((s.threshold for s in mine if s.threshold is not None), None)
    values = sorted({round(s.probability, 4) for s in mine}) or [0.5]
    steps = sorted({values[int(k * (len(values) - 1) / 19)] for k in range(20)} | ({now} if now else set()))
    days = max(1.0, (facts.until - facts.start) / timedelta(days=1))
    waits = _waits_by_cut(facts, finding, mine, _played(steps, now, len(facts.studies)))
    rows: list[list[object]] = []
    studies: dict[int, list[int]] = {}
    for cut in steps:
        flagged = [s.study_id for s in mine if s.probability >= cut]
        judged = [known[i, finding] for i in flagged if (i, finding) in known]
        true = [i for (i, n), ok in known.items() if n == finding and ok]
        lost = [i for i in true if i not in set(flagged)]
        estimate = wilson(sum(judged), len(judged))
        studies[len(rows)] = lost
        rows.append(
            [round(cut, 4), "in force" if cut == now else "", len(flagged), round(len(flagged) / days, 2),
             share(estimate.value) if judged else None, len(judged), len(lost), *waits.get(cut, (None, None))]
        )  # fmt: skip
    return Chart(
        number=17, key="what-if", question=f"What would another threshold do? ({finding})", whose="QA", n=len(mine),
        definition="stored probabilities of the live release; PPV among flags whose truth is known (chart 3), which below "
        "the threshold in force are few and not a fair sample. Waits: the period's own arrivals, reading times and readers "
        f"played again with such flags under the policy in force (needs {READ_MIN} reported studies). The studies of a "
        "row are right flags of today that it would lose",
        columns=("threshold", "", "flags", "flags a day", "PPV", "judged", "right flags lost", "flagged wait, min",
                 "others wait, min"), rows=rows,
        units=SHARES | {"flagged wait, min": "minutes", "others wait, min": "minutes"}, studies=studies,
        svg=charts.lines("Flags a day by threshold", [str(r[0]) for r in rows],
                         [("flags a day", [float(str(r[3])) for r in rows])]) if len(rows) > 1 else "",
    )  # fmt: skip


def _played(steps: list[float], now: float | None, studies: int) -> list[float]:
    """The thresholds that are replayed: all, or so many that a page answers in seconds; the one in force always."""
    every = max(1, -(-studies * len(steps) // PLAYED_MAX))
    return [cut for i, cut in enumerate(steps) if i % every == 0 or cut == now]


def _waits_by_cut(
    facts: Facts, finding: str, scores: list[ScoreFacts], cuts: list[float]
) -> dict[float, tuple[float | None, float | None]]:
    others = [f for f in facts.flags if f.name != finding]
    variants = {
        cut: [
            FlagFacts(s.study_id, s.detector, finding, s.finished_at) for s in scores if s.probability >= cut
        ]
        for cut in cuts
    }
    policy = policies.active(facts.tx)
    found = waits_if_flagged(facts.studies, others, facts.start, facts.until, policy, variants)
    return {cut: (_minutes(mine), _minutes(rest)) for cut, (mine, rest) in found.items()}


def _minutes(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
