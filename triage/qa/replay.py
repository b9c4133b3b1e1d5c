"""Queue replay: what a policy would have done to the waits, before it goes live.

The same arrivals and reading times go through the room under four rules: first come, first served; by the order's
priority alone; by the policy; and by the policy without its bound on waiting, to show what the bound is worth. The rules
are the product's own (`prioritize`, `sort_key`). Arrivals are the site's, or those of a model.

    replay_model(model, policy)             {"studies", "flags", "rules": {RULE: {GROUP: {"n", "mean", ...}}}, ...}
    replay_site(tx, start, end, policy)     the same, from rows
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection

from triage.domain.errors import Refused
from triage.domain.finding import FINDING_CODES, Band, Finding, PriorityClass
from triage.domain.priority import ItemFacts, OrderedPriority, Policy, prioritize
from triage.domain.queueing import Case, Shift, Standing, cobham_waits, replay
from triage.domain.statistics import poisson_rate
from triage.qa.batches import figures
from triage.store import measures as facts

RULES = ("first_come", "order", "policy", "policy_without_bound")
NEVER = datetime.max.replace(tzinfo=UTC)
READING_MAX = timedelta(minutes=60)  # longer, and the reader did something else between opening and report
READ_MIN = 20  # fewer read studies do not say how long reading takes
CASES_MAX = 500_000
CLASSES = tuple(sorted(PriorityClass, reverse=True))
HOUR = timedelta(hours=1)
T0 = datetime(2026, 1, 1, tzinfo=UTC)  # a model begins at no real moment


@dataclass(frozen=True, kw_only=True)
class Model:
    """Poisson arrivals, exponential reading times, always the same readers.

    flag_rates    share of studies with each flag, drawn independently; flags come `flag_seconds` after arrival
    warm_up       part of the hours that is played but not counted: the room begins empty
    """

    arrivals_per_hour: float
    readers: int
    reading_minutes: float
    flag_rates: Mapping[str, float] = field(default_factory=lambda: {"pneumothorax": 0.02})
    stat_rate: float = 0.05
    urgent_rate: float = 0.15
    flag_seconds: float = 5.0
    hours: float = 120.0
    warm_up: float = 0.1
    replications: int = 10
    seed: int = 1

    def __post_init__(self) -> None:
        unknown = sorted(set(self.flag_rates) - set(FINDING_CODES))
        if unknown:
            raise Refused(f"no finding is called {', '.join(unknown)}")
        shares = (
            *self.flag_rates.values(),
            self.stat_rate,
            self.urgent_rate,
            self.stat_rate + self.urgent_rate,
        )
        if not all(0 <= s <= 1 for s in shares):
            raise Refused("shares of flags and orders lie between 0 and 1")
        if (
            min(self.arrivals_per_hour, self.readers, self.reading_minutes, self.hours, self.replications)
            <= 0
        ):
            raise Refused("arrivals, readers, reading time, hours and replications are above 0")
        if self.arrivals_per_hour * self.hours * self.replications > CASES_MAX:
            raise Refused(
                f"more than {CASES_MAX} studies: fewer hours or replications give narrow intervals too"
            )


@dataclass(frozen=True)
class _Arrival:
    """One study before any rule: `batch` is what intervals are computed over (a replication, a day)."""

    id: int
    batch: int
    arrived_at: datetime
    ordered: OrderedPriority
    reading: timedelta
    flags: tuple[str, ...]
    flagged_at: datetime | None
    counted: bool = True


# --- models --------------------------------------------------------------------------------------------------


def replay_model(model: Model, policy: Policy) -> dict[str, Any]:
    """Waits under each rule of a department that arrives as the model says; minutes."""
    dice = np.random.default_rng(model.seed)
    shifts = [Shift(T0, model.readers)]
    waits: dict[str, list[float]] = {rule: [] for rule in RULES}
    everyone: list[_Arrival] = []
    for number in range(model.replications):
        arrivals = _drawn(model, dice, number)
        everyone += [a for a in arrivals if a.counted]
        for rule in RULES:
            started = replay(cases_under(rule, arrivals, policy), shifts, NEVER)
            waits[rule] += [_minutes(started[a.id] - a.arrived_at) for a in arrivals if a.counted]
    never_open = [False] * len(everyone)
    counted_hours = model.hours * (1 - model.warm_up) * model.replications
    return {
        "source": "model",
        "model": {**asdict(model), "flag_rates": dict(model.flag_rates)},
        "load": round(model.arrivals_per_hour * model.reading_minutes / 60 / model.readers, 4),
        **_told(everyone, policy, counted_hours * model.readers),
        "formula": _formula(model, policy),
        "rules": {rule: _groups(everyone, waits[rule], never_open, policy) for rule in RULES},
    }


def _drawn(model: Model, dice: np.random.Generator, number: int) -> list[_Arrival]:
    n = dice.poisson(model.arrivals_per_hour * model.hours)
    hours = np.sort(dice.uniform(0, model.hours, n))
    reading = dice.exponential(model.reading_minutes, n)
    order = dice.uniform(size=n)
    flagged = {name: dice.uniform(size=n) < rate for name, rate in sorted(model.flag_rates.items())}
    arrivals = []
    for i in range(n):
        at = T0 + timedelta(hours=float(hours[i]))
        flags = tuple(name for name, drawn in flagged.items() if drawn[i])
        ordered = (
            OrderedPriority.STAT if order[i] < model.stat_rate
            else OrderedPriority.URGENT if order[i] < model.stat_rate + model.urgent_rate
            else OrderedPriority.ROUTINE
        )  # fmt: skip
        arrivals.append(
            _Arrival(
                i, number, at, ordered, timedelta(minutes=float(reading[i])), flags,
                at + timedelta(seconds=model.flag_seconds) if flags else None,
                counted=hours[i] >= model.warm_up * model.hours,
            )
        )  # fmt: skip
    return arrivals


def _formula(model: Model, policy: Policy) -> dict[str, dict[str, float | None]]:
    """Cobham's mean waits (minutes) by class where they exist: no bound, no hourly cap, flags at once."""
    orders = {
        PriorityClass.HIGH: model.stat_rate,
        PriorityClass.ELEVATED: model.urgent_rate,
        PriorityClass.ROUTINE: 1 - model.stat_rate - model.urgent_rate,
    }
    found = {}
    for rule, flags in (("order", {}), ("policy_without_bound", model.flag_rates)):
        shares, at_least = [], 0.0
        for c in CLASSES:
            below = 1 - sum(share for o, share in orders.items() if o >= c)
            for name, rate in flags.items():
                below *= 1 - rate if policy.raises_to.get(name, PriorityClass.ROUTINE) >= c else 1.0
            shares.append(max(0.0, 1 - below - at_least))
            at_least = 1 - below
        waits = cobham_waits(
            [s * model.arrivals_per_hour / 60 for s in shares], model.reading_minutes, model.readers
        )
        found[rule] = {
            c.word: round(w, 4) if s > 0 and math.isfinite(w) else None
            for c, s, w in zip(CLASSES, shares, waits, strict=True)
        }
    return found


# --- the site ------------------------------------------------------------------------------------------------


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
        waits[rule] = [_minutes(started.get(a.id, end) - a.arrived_at) for a in arrivals]
        open_[rule] = [a.id not in started for a in arrivals]
    hours = _reader_hours(shifts, end)
    return {
        "source": "site",
        "from": start.isoformat(),
        "to": end.isoformat(),
        "readers": readers if readers else "as many as read at once in each hour",
        "reading_minutes": reading_minutes if reading_minutes else "the site's own",
        "measured": _measured(studies, end),
        **_told(arrivals, policy, hours),
        "rules": {rule: _groups(arrivals, waits[rule], open_[rule], policy) for rule in RULES},
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
            waits[a.id in meant].append(_minutes(started.get(a.id, end) - a.arrived_at))
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
) -> list[_Arrival]:
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
            _Arrival(
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
    opened = [_minutes(s.opened_at - s.arrived_at) for s in studies if s.opened_at and s.opened_at < end]
    mean = round(float(np.mean(opened)), 3) if opened else None
    return {
        "opened": len(opened),
        "mean_minutes": mean,
        "longest_minutes": round(max(opened), 3) if opened else None,
    }


# --- rules ---------------------------------------------------------------------------------------------------


def cases_under(rule: str, arrivals: Sequence[_Arrival], policy: Policy) -> list[Case]:
    """The same studies as this rule would list them."""
    if rule == "first_come":
        return [_case(a, Standing(PriorityClass.ROUTINE, a.arrived_at, NEVER)) for a in arrivals]
    bounded = rule == "policy"
    at_first = {a.id: _standing(a, (), policy, bounded, 0)[0] for a in arrivals}
    lifted: dict[int, tuple[datetime, Standing]] = {}
    if rule != "order":
        raises: deque[datetime] = deque()  # of the last hour, below critical: what the hourly cap counts
        for a in sorted((a for a in arrivals if a.flagged_at), key=lambda a: (a.flagged_at, a.id)):
            at = a.flagged_at
            assert at is not None
            while raises and raises[0] < at - HOUR:
                raises.popleft()
            standing, raised = _standing(a, a.flags, policy, bounded, len(raises))
            if raised and standing.priority_class < PriorityClass.CRITICAL:
                raises.append(at)
            lifted[a.id] = (at, standing)
    return [_case(a, at_first[a.id], lifted.get(a.id)) for a in arrivals]


def _case(a: _Arrival, standing: Standing, lifted: tuple[datetime, Standing] | None = None) -> Case:
    return Case(id=a.id, arrived_at=a.arrived_at, reading=a.reading, standing=standing, lifted=lifted)


def _standing(
    a: _Arrival, flags: Sequence[str], policy: Policy, bounded: bool, raised_last_hour: int
) -> tuple[Standing, bool]:
    """By the product's own rule. Class and place do not depend on the probability of an actionable finding."""
    findings = [Finding(name, 1.0, 1.0, Band.HIGH, actionable=True) for name in flags]
    answer = prioritize(
        ItemFacts(arrived_at=a.arrived_at, ordered_priority=a.ordered), findings, policy, raised_last_hour
    )
    bound = answer.bound_at if bounded else NEVER
    return Standing(answer.priority_class, answer.due_at, bound), answer.raised_by_ai


# --- figures -------------------------------------------------------------------------------------------------


def _told(arrivals: Sequence[_Arrival], policy: Policy, reader_hours: float) -> dict[str, Any]:
    flagged = sum(bool(a.flags) for a in arrivals)
    rate = poisson_rate(flagged, reader_hours)
    return {
        "policy": {"version": policy.version, **policy.as_json()},
        "studies": len(arrivals),
        "reader_hours": round(reader_hours, 3),
        "flagged": flagged,
        "flags_per_reader_hour": {
            "value": round(rate.value, 4),
            "low": round(rate.low, 4),
            "high": round(rate.high, 4),
        },
    }


def _groups(
    arrivals: Sequence[_Arrival], waits: Sequence[float], still_open: Sequence[bool], policy: Policy
) -> dict[str, dict[str, Any]]:
    """Figures of everybody, of flagged and unflagged, by order, and by the class that order and flags give."""
    base = [_standing(a, (), policy, False, 0)[0].priority_class for a in arrivals]
    lifted = [_standing(a, a.flags, policy, False, 0)[0].priority_class for a in arrivals]
    wait, batch = np.array(waits), np.array([a.batch for a in arrivals])
    allowed = np.array([_minutes(policy.longest_wait[b]) for b in base])
    groups: dict[str, Callable[[int], bool]] = {
        "all": lambda _: True,
        "flagged": lambda i: bool(arrivals[i].flags),
        "unflagged": lambda i: not arrivals[i].flags,
    }
    groups |= {f"class {c.word}": lambda i, c=c: lifted[i] is c for c in CLASSES}  # type: ignore[misc]
    groups |= {f"ordered {p.value}": lambda i, p=p: arrivals[i].ordered is p for p in OrderedPriority}  # type: ignore[misc]
    found = {}
    for name, belongs in groups.items():
        rows = np.array([i for i in range(len(arrivals)) if belongs(i)], dtype=np.intp)
        if rows.size:
            found[name] = figures(
                wait[rows], batch[rows], np.array(still_open)[rows], wait[rows] > allowed[rows]
            )
    return found


def _minutes(span: timedelta) -> float:
    return span.total_seconds() / 60
