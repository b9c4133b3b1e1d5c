"""The site's own arrivals and reading times once more, under each rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection

from triage.domain.errors import Refused
from triage.domain.priority import OrderedPriority, Policy
from triage.domain.queueing import Shift, replay
from triage.qa.replay.rules import HOUR, RULES, Arrival, cases_under, groups_of, minutes, told
from triage.store import measures as facts

READING_MAX = timedelta(minutes=60)  # longer, and the reader did something else between opening and report
READ_MIN = 20  # fewer read studies do not say how long reading takes


def replay_site(
    tx: Connection,
    start: datetime,
    end: datetime,
    policy: Policy,
    *,
    readers: int | None = None,
    reading_minutes: float | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """The studies that arrived in [start, end) once more, under each rule.

    readers          None: as many as read at once in each hour of the period
    reading_minutes  None: the site's own times from opening to report; a study without one gets one drawn from these
    raises           Refused when the period has no study, or too few read ones to know reading times
    """
    studies = [s for s in facts.studies_between(tx, start, end) if s.state != "withdrawn"]
    if not studies:
        raise Refused(f"no study arrived from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}")
    own = _own_times(studies)
    if len(own) < READ_MIN and reading_minutes is None:
        raise Refused(
            f"{len(own)} studies of the period were opened and reported, {READ_MIN} are needed to know how long "
            "reading takes; choose a longer period or give --reading-minutes"
        )
    shifts = [Shift(start, readers)] if readers else readers_by_hour(studies, start, end)
    if not any(s.readers for s in shifts):
        raise Refused("nobody read in this period; give --readers")
    arrivals = _arrived(studies, facts.flags_between(tx, start, end), own, reading_minutes, seed)
    waits: dict[str, list[float]] = {}
    open_: dict[str, list[bool]] = {}
    for rule in RULES:
        started = replay(cases_under(rule, arrivals, policy), shifts, end)
        waits[rule] = [minutes(started.get(a.id, end) - a.arrived_at) for a in arrivals]
        open_[rule] = [a.id not in started for a in arrivals]
    hours = _reader_hours(shifts, end)
    return {
        "source": "site",
        "from": start.isoformat(),
        "to": end.isoformat(),
        "readers": readers if readers else "as many as read at once in each hour",
        "reading_minutes": reading_minutes if reading_minutes else "the site's own",
        "measured": _measured(studies, end),
        **told(arrivals, policy, hours),
        "rules": {rule: groups_of(arrivals, waits[rule], open_[rule], policy) for rule in RULES},
    }


def waits_if_flagged(
    studies: Sequence[facts.StudyFacts],
    flags: Iterable[facts.FlagFacts],
    start: datetime,
    end: datetime,
    policy: Policy,
    variants: Mapping[float, Sequence[facts.FlagFacts]],
) -> dict[float, tuple[float | None, float | None]]:
    """The site's own arrivals once more under the policy, with each variant's flags beside `flags`.

    returns  {variant: (mean minutes until those of its flags, until all other studies)}, by the readers that were there;
             a study that is still open at `end` counts with what it waited. {} where too little was read to know
    """
    here = [s for s in studies if s.state != "withdrawn"]
    own, shifts = _own_times(here), readers_by_hour(here, start, end)
    if len(own) < READ_MIN or not any(s.readers for s in shifts):
        return {}
    kept = list(flags)
    found: dict[float, tuple[float | None, float | None]] = {}
    for variant, added in variants.items():
        arrivals = _arrived(here, [*kept, *added], own, None, seed=1)
        started = replay(cases_under("policy", arrivals, policy), shifts, end)
        meant = {f.study_id for f in added}
        waits: dict[bool, list[float]] = {True: [], False: []}
        for a in arrivals:
            waits[a.id in meant].append(minutes(started.get(a.id, end) - a.arrived_at))
        mean = {side: float(np.mean(w)) if w else None for side, w in waits.items()}
        found[variant] = (mean[True], mean[False])
    return found


def _own_times(studies: Iterable[facts.StudyFacts]) -> dict[int, timedelta]:
    """From opening to report, of those that were opened and reported."""
    return {
        s.study_id: min(s.read_at - s.opened_at, READING_MAX)
        for s in studies
        if s.opened_at and s.read_at and s.read_at > s.opened_at
    }


def _arrived(
    studies: Sequence[facts.StudyFacts],
    flags: Iterable[facts.FlagFacts],
    own: Mapping[int, timedelta],
    reading_minutes: float | None,
    seed: int,
) -> list[Arrival]:
    found: dict[int, list[facts.FlagFacts]] = {}
    for flag in flags:
        found.setdefault(flag.study_id, []).append(flag)
    dice = np.random.default_rng(seed)
    known = sorted(own.values())
    days = {s.arrived_at.date() for s in studies}
    by_day = len(days) >= 5
    batches: dict[Any, int] = {}
    arrivals = []
    for s in studies:
        if reading_minutes is not None:
            reading = timedelta(minutes=float(dice.exponential(reading_minutes)))
        else:
            reading = own.get(s.study_id) or known[int(dice.integers(len(known)))]
        key = s.arrived_at.date() if by_day else s.arrived_at.replace(minute=0, second=0, microsecond=0)
        mine = found.get(s.study_id, [])
        arrivals.append(
            Arrival(
                s.study_id, batches.setdefault(key, len(batches)), s.arrived_at, OrderedPriority(s.ordered_priority),
                reading, tuple(sorted({f.name for f in mine})), max((f.flagged_at for f in mine), default=None),
            )
        )  # fmt: skip
    return arrivals


def readers_by_hour(studies: Iterable[facts.StudyFacts], start: datetime, end: datetime) -> list[Shift]:
    """As many readers in each hour as studies were in work at once in it; what lies open too long is not work."""
    changes: list[tuple[datetime, int]] = []
    for s in studies:
        if s.opened_at and s.read_at and s.read_at > s.opened_at:
            changes += [(s.opened_at, 1), (min(s.read_at, s.opened_at + READING_MAX), -1)]
    changes.sort()
    shifts: list[Shift] = []
    at, open_, i = start, 0, 0
    while at < end:
        most = open_
        while i < len(changes) and changes[i][0] < at + HOUR:
            open_ += changes[i][1]
            most = max(most, open_)
            i += 1
        if not shifts or shifts[-1].readers != most:
            shifts.append(Shift(at, most))
        at += HOUR
    return shifts


def _reader_hours(shifts: Sequence[Shift], end: datetime) -> float:
    ends = [*(s.at for s in shifts[1:]), end]
    return sum(s.readers * ((e - s.at) / HOUR) for s, e in zip(shifts, ends, strict=True))


def _measured(studies: Sequence[facts.StudyFacts], end: datetime) -> dict[str, Any]:
    """What really happened, so that the replay can be judged: mean wait to opening of those opened in the period."""
    opened = [minutes(s.opened_at - s.arrived_at) for s in studies if s.opened_at and s.opened_at < end]
    mean = round(float(np.mean(opened)), 3) if opened else None
    return {
        "opened": len(opened),
        "mean_minutes": mean,
        "longest_minutes": round(max(opened), 3) if opened else None,
    }
