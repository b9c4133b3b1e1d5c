"""Waits of a department that arrives as a model says, beside Cobham's formula where it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from triage.domain.errors import Refused
from triage.domain.finding import FINDING_CODES, PriorityClass
from triage.domain.priority import OrderedPriority, Policy
from triage.domain.queueing import Shift, cobham_waits, replay
from triage.qa.replay.rules import CLASSES, NEVER, RULES, Arrival, cases_under, groups_of, minutes, told

CASES_MAX = 500_000
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


def replay_model(model: Model, policy: Policy) -> dict[str, Any]:
    """Waits under each rule of a department that arrives as the model says; minutes."""
    dice = np.random.default_rng(model.seed)
    shifts = [Shift(T0, model.readers)]
    waits: dict[str, list[float]] = {rule: [] for rule in RULES}
    everyone: list[Arrival] = []
    for number in range(model.replications):
        arrivals = _drawn(model, dice, number)
        everyone += [a for a in arrivals if a.counted]
        for rule in RULES:
            started = replay(cases_under(rule, arrivals, policy), shifts, NEVER)
            waits[rule] += [minutes(started[a.id] - a.arrived_at) for a in arrivals if a.counted]
    never_open = [False] * len(everyone)
    counted_hours = model.hours * (1 - model.warm_up) * model.replications
    return {
        "source": "model",
        "model": {**asdict(model), "flag_rates": dict(model.flag_rates)},
        "load": round(model.arrivals_per_hour * model.reading_minutes / 60 / model.readers, 4),
        **told(everyone, policy, counted_hours * model.readers),
        "formula": _formula(model, policy),
        "rules": {rule: groups_of(everyone, waits[rule], never_open, policy) for rule in RULES},
    }


def _drawn(model: Model, dice: np.random.Generator, number: int) -> list[Arrival]:
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
            Arrival(
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
