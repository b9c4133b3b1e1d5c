"""Charts 1, 2, 12 to 15: does it help, does anybody wait too long, is it fast, do alerts close, how loud, is it obeyed?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from triage.domain.alerting import BANNERS_PER_READER_HOUR
from triage.domain.finding import PriorityClass
from triage.domain.priority import OrderedPriority
from triage.domain.statistics import poisson_rate, wilson
from triage.qa import charts
from triage.qa.boards.chart import SHARES, Chart, Facts, share
from triage.qa.measures import CLAIM_MIN, alert_part, beyond_bound, times, waits
from triage.qa.page import plural
from triage.store.measures import StudyFacts
from triage.store.monitoring import Opened

WEEK = timedelta(days=7)
SLOW_SECONDS = {"chest_xray": 60.0, "lung_nodule": 300.0}  # p95, ux 10 chart 12
NAMED_FROM = 30  # a reader's own figures need so many (ux 10, chart 15)


def sooner(facts: Facts) -> Chart:
    """1: do flagged patients get read sooner?"""
    rows: list[list[object]] = []
    studies: dict[int, list[int]] = {}
    for week in range(-(-len(facts.days) // 7)):
        begin = facts.start + week * WEEK
        mine = [s for s in facts.studies if begin <= s.arrived_at < begin + WEEK]
        for ordered in OrderedPriority:
            of_order = [s for s in mine if s.ordered_priority == ordered.value]
            for word, members in (
                ("flagged", [s for s in of_order if s.study_id in facts.flagged_when_opened]),
                ("not flagged", [s for s in of_order if s.study_id not in facts.flagged_when_opened]),
            ):
                if not members:
                    continue
                table = times(waits(members, lambda s: s.opened_at, facts.until))
                claim = "" if len(members) >= CLAIM_MIN else "too few to compare"
                studies[len(rows)] = [s.study_id for s in members]
                rows.append(
                    [f"{begin:%Y-%m-%d}", ordered.value, word, len(members), table["median"]["value"],
                     table["p90"]["value"], table["open"], claim]
                )  # fmt: skip
    return Chart(
        number=1, key="sooner", question="Do flagged patients get read sooner?", whose="lead", n=len(facts.studies),
        definition="first image to first opening, by week of arrival and order; who still waits is censored "
        "(Kaplan-Meier). Flagged: a flag stood when the study was opened (stands at the end, for one that waits), withdrawn "
        "since or not; one that came later does not count. Groups differ in more than the flag, and who opens a study at "
        f"once sees no flag yet: compare cells of {CLAIM_MIN} and more; no proof of cause",
        columns=("week from", "order", "group", "studies", "median s", "90 % s", "still open", "note"),
        rows=rows, units={"median s": "seconds", "90 % s": "seconds"}, studies=studies,
    )  # fmt: skip


def longest(facts: Facts) -> Chart:
    """2: does anybody wait too long?"""
    waited = sorted(
        ((_waited(s, facts), s) for s in facts.studies if s.state != "withdrawn" or s.opened_at),
        key=lambda pair: (-pair[0], pair[1].study_id),
    )
    over = beyond_bound(facts.studies, facts.until)
    beyond = sum(row["beyond"]["count"] for row in over)
    rows = [[round(seconds, 1), *_words(s, facts)] for seconds, s in waited[:20]]
    return Chart(
        number=2, key="longest", question="Does anybody wait too long?", whose="lead", n=len(waited),
        definition="the twenty longest waits from first image to opening; beyond: longer than the class without AI "
        "allows. Alarm: any",
        columns=("seconds", "order", "class", "now", "beyond bound"), rows=rows, units={"seconds": "seconds"},
        studies={i: [s.study_id] for i, (_, s) in enumerate(waited[:20])},
        alarm=_beyond_words(beyond),
        svg=charts.intervals(
            "Share that waited beyond the bound of the class",
            [charts.Bar(r["class"], r["beyond"]["value"], r["beyond"]["low"], r["beyond"]["high"],
                        f"{r['beyond']['count']} of {r['beyond']['n']}") for r in over],
        ) if facts.studies else "",
    )  # fmt: skip


def _beyond_words(count: int) -> str:
    return (
        plural(count, "study waited beyond its bound", "studies waited beyond their bound") if count else ""
    )


def _words(s: StudyFacts, facts: Facts) -> tuple[str, ...]:
    seen = min(s.opened_at or facts.until, facts.until)
    now = "opened" if s.opened_at is not None and s.opened_at <= facts.until else "open"
    return (s.ordered_priority, PriorityClass(s.priority_class).word, now, "yes" if seen > s.bound_at else "")


def _waited(s: StudyFacts, facts: Facts) -> float:
    return (min(s.opened_at or facts.until, facts.until) - s.arrived_at).total_seconds()


def fast(facts: Facts) -> Chart:
    """12: is it fast?"""
    rows: list[list[object]] = []
    studies: dict[int, list[int]] = {}
    slow = []
    by_detector = defaultdict(list)
    for t in facts.timings:
        by_detector[t.detector].append(t)
    for detector, found in sorted(by_detector.items()):
        parts = {
            "last image to result": [(t.finished_at - t.last_instance_at) for t in found],
            "transfer": [(t.last_instance_at - t.first_instance_at) for t in found],
            "complete": [(t.requested_at - t.last_instance_at) for t in found],
            "queue": [(t.started_at - t.requested_at) for t in found],
            "model": [(t.finished_at - t.started_at) for t in found],
        }
        for part, spans in parts.items():
            seconds = [max(0.0, span.total_seconds()) for span in spans]
            p50, p95, p99 = (round(float(v), 3) for v in np.quantile(seconds, [0.5, 0.95, 0.99]))
            studies[len(rows)] = [t.study_id for t, s in zip(found, seconds, strict=True) if s >= p95][:50]
            rows.append([detector, part, len(seconds), p50, p95, p99])
            if part == "last image to result" and p95 > SLOW_SECONDS.get(detector, 300.0):
                slow.append(f"{detector}: 95 % within {p95:.0f} s")
    return Chart(
        number=12, key="fast", question="Is it fast?", whose="admin", n=len(facts.timings),
        definition="seconds of runs that count, by station; alarm: 95 % of last image to result above 60 s for films, "
        "5 min for scans. The studies of a row are those at or above its 95 %",
        columns=("detector", "part", "runs", "50 % s", "95 % s", "99 % s"), rows=rows,
        units={"50 % s": "seconds", "95 % s": "seconds", "99 % s": "seconds"}, studies=studies,
        alarm="; ".join(slow),
    )  # fmt: skip


def alerts_close(facts: Facts) -> Chart:
    """13: do alerts arrive and close?"""
    days = (facts.until - facts.start) / timedelta(days=1)
    table = alert_part(facts.alerts, (), days, facts.until)["acknowledgement"]
    steps = Counter(a.step for a in facts.alerts)
    open_ = [a for a in facts.alerts if a.state in ("open", "exhausted")]
    rows: list[list[object]] = [
        ["half acknowledged within, s", table["median"]["value"]],
        ["90 % acknowledged within, s", table["p90"]["value"]],
        *[[f"reached step {step}", count] for step, count in sorted(steps.items())],
        ["open or exhausted at the end", len(open_)],
    ]
    top = max(steps, default=0)
    return Chart(
        number=13, key="alerts", question="Do alerts arrive and close?", whose="lead, auditor", n=len(facts.alerts),
        definition="raised to acknowledged (or closed by a report), censored at the end; alarm: any alert that "
        "climbed to step 4, or that is exhausted",
        columns=("what", "value"), rows=rows,
        units={"half acknowledged within, s": "seconds", "90 % acknowledged within, s": "seconds"},
        studies={len(rows) - 1: [a.study_id for a in open_]},
        alarm="an alert climbed to the last step of the ladder"
        if top >= 4 or any(a.state == "exhausted" for a in facts.alerts) else "",
        svg=charts.intervals(
            "Share of alerts that reached a step",
            [_share_bar(f"step {s}", sum(n for k, n in steps.items() if k >= s), len(facts.alerts))
             for s in range(top + 1)],
        ) if facts.alerts else "",
    )  # fmt: skip


def _share_bar(label: str, count: int, n: int) -> charts.Bar:
    estimate = wilson(count, n)
    return charts.Bar(label, estimate.value, estimate.low, estimate.high, f"{count} of {n}")


def loud(facts: Facts) -> Chart:
    """14: how loud are we?"""
    hours = reader_hours(facts.opened)
    by_hour = Counter(a.raised_at.hour for a in facts.alerts)
    rows: list[list[object]] = []
    for hour in range(24):
        exposure = sum(1 for at, _ in hours if at.hour == hour)
        rate = poisson_rate(by_hour[hour], exposure) if exposure else None
        rows.append(
            [f"{hour:02d}:00", by_hour[hour], exposure, round(rate.value, 3) if rate else None,
             round(rate.high, 3) if rate else None]
        )  # fmt: skip
    total = len(facts.alerts) / len(hours) if hours else 0.0
    return Chart(
        number=14, key="loud", question="How loud are we?", whose="lead", n=len(facts.alerts),
        definition="alerts raised by hour of day (UTC), over reader-hours: an hour in which a reader opened a study. "
        f"Alarm: more than {BANNERS_PER_READER_HOUR:g} a reader-hour over the period",
        columns=("hour", "alerts", "reader-hours", "per reader-hour", "upper limit"), rows=rows,
        alarm=f"{total:.2f} alerts a reader-hour" if total > BANNERS_PER_READER_HOUR else "",
        svg=charts.columns("Alerts by hour of day", [str(r[0])[:2] for r in rows], [int(str(r[1])) for r in rows]),
    )  # fmt: skip


def reader_hours(opened: Sequence[Opened]) -> set[tuple[datetime, str]]:
    """(hour, reader) in which a reader opened something: the best that rows know of who was at work."""
    return {(o.at.replace(minute=0, second=0, microsecond=0), o.reader) for o in opened}


def obeyed(facts: Facts) -> Chart:
    """15: is the list obeyed?"""
    rows: list[list[object]] = []
    for k, day in enumerate(facts.days):
        mine = [o for o in facts.opened if facts.day_of(o.at) == k]
        ranks = [o.rank - 1 for o in mine if o.rank is not None]
        by_next = sum(o.by_next for o in mine)
        rows.append(
            [f"{day:%Y-%m-%d}", len(mine), share(by_next / len(mine)) if mine else None,
             round(float(np.mean(ranks)), 2) if ranks else None]
        )  # fmt: skip
    shares = [None if r[2] is None else float(str(r[2])) for r in rows]
    return Chart(
        number=15, key="obeyed", question="Is the list obeyed?", whose="lead", n=len(facts.opened),
        definition="openings by `next`, and how many studies above it were passed over; a trend, no alarm, and no "
        f"named reader (own figures need {NAMED_FROM} openings and are the lead's alone)",
        columns=("day", "openings", "share by next", "mean rank skipped"), rows=rows, units=SHARES,
        svg=charts.lines(
            "Share opened by next", [f"{d:%m-%d}" for d in facts.days], [("by next", shares)], shares=True, most=1.0
        ),
    )  # fmt: skip
