"""The order of the list, once and for all (architecture 4).

`priority_class` is the highest of what the order asked for, what AI found and what a person raised.
`due_at` is arrival plus the longest wait of that class, `bound_at` the same for the class without AI. The list is
sorted by `sort_key`: an item past its `bound_at` counts as high. So ageing rewrites no rows, AI only lifts, and a
flood of flags cannot starve the rest beyond what no order could keep (assurance P8).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from triage.domain.errors import Misconfigured
from triage.domain.finding import FINDING_CODES, Finding, PriorityClass


class OrderedPriority(StrEnum):
    STAT = "STAT"
    URGENT = "URGENT"
    ROUTINE = "ROUTINE"


# HL7 table 0485 and DICOM (0040,1003) words to ours (standards 7.1); unknown is routine, and counted by the caller.
HL7_PRIORITY = MappingProxyType(
    {"S": OrderedPriority.STAT, "A": OrderedPriority.URGENT, "T": OrderedPriority.URGENT}
)

_CLASS_OF_ORDER = MappingProxyType(
    {
        OrderedPriority.STAT: PriorityClass.HIGH,
        OrderedPriority.URGENT: PriorityClass.ELEVATED,
        OrderedPriority.ROUTINE: PriorityClass.ROUTINE,
    }
)
_POINTS = MappingProxyType(
    {
        PriorityClass.ROUTINE: 0,
        PriorityClass.ELEVATED: 100,
        PriorityClass.HIGH: 300,
        PriorityClass.CRITICAL: 1000,
    }
)


@dataclass(frozen=True)
class Reason:
    """One term of the score, as a reader sees it."""

    code: str
    text: str
    points: int

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code, "text": self.text, "points": self.points}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A versioned set of limits.

    longest_wait      how long an item of a class may wait (ux 5.3; a site's choice)
    raises_to         class that an actionable finding lifts to; a site may lower, never raise (standards 13.1)
    thresholds        probability from which a finding is flagged, where the site wants another than the release's own;
                      for analyses from then on. What a release has no threshold for stays unflagged
    raised_per_hour   AI lifts below critical beyond this many in the last hour are shown but do not lift (P8)
    """

    version: int = 1
    longest_wait: Mapping[PriorityClass, timedelta] = field(
        default_factory=lambda: {
            PriorityClass.CRITICAL: timedelta(minutes=15),
            PriorityClass.HIGH: timedelta(minutes=60),
            PriorityClass.ELEVATED: timedelta(hours=4),
            PriorityClass.ROUTINE: timedelta(hours=24),
        }
    )
    raises_to: Mapping[str, PriorityClass] = field(
        default_factory=lambda: {name: code.priority_class for name, code in FINDING_CODES.items()}
    )
    raised_per_hour: int = 30
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        waits = [self.longest_wait[c] for c in sorted(PriorityClass)]
        if any(later > earlier for earlier, later in itertools.pairwise(waits)):
            raise Misconfigured("policy.longest_wait: a higher class may not wait longer than a lower one")
        for name, lifted in self.raises_to.items():
            if name not in FINDING_CODES:
                raise Misconfigured(f"policy.raises_to: no finding is called {name!r}")
            if lifted > FINDING_CODES[name].priority_class:
                raise Misconfigured(
                    f"policy.raises_to.{name}: above the class that the detector was tested for"
                )
        for name, threshold in self.thresholds.items():
            if name not in FINDING_CODES or not 0 < threshold < 1:
                raise Misconfigured(
                    f"policy.thresholds.{name}: a known finding and a probability between 0 and 1"
                )
        if self.raised_per_hour < 0 or any(w <= timedelta(0) for w in waits):
            raise Misconfigured("policy: waits are above 0, and raised_per_hour is not below it")

    def judge(self, findings: Iterable[Finding]) -> list[Finding]:
        """The findings as this policy's thresholds flag them."""
        return [
            replace(f, threshold=self.thresholds[f.name], actionable=f.probability >= self.thresholds[f.name])
            if f.threshold is not None and f.name in self.thresholds
            else f
            for f in findings
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "longest_wait_minutes": {c.word: w.total_seconds() / 60 for c, w in self.longest_wait.items()},
            "raises_to": {name: c.word for name, c in self.raises_to.items()},
            "raised_per_hour": self.raised_per_hour,
            "thresholds": dict(self.thresholds),
        }

    @classmethod
    def from_json(cls, version: int, content: Mapping[str, Any]) -> Policy:
        return cls(
            version=version,
            longest_wait={
                PriorityClass.from_word(w): timedelta(minutes=m)
                for w, m in content["longest_wait_minutes"].items()
            },
            raises_to={n: PriorityClass.from_word(w) for n, w in content["raises_to"].items()},
            raised_per_hour=content["raised_per_hour"],
            thresholds=content.get("thresholds", {}),
        )


@dataclass(frozen=True)
class Override:
    """A person's own word on the class; wins over order and AI, and is audited by the step that takes it.

    It may raise. It can lower only what a person raised, which is the same as taking the override away.
    """

    priority_class: PriorityClass
    by: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ItemFacts:
    """What the rule needs of one study that waits."""

    arrived_at: datetime
    ordered_priority: OrderedPriority = OrderedPriority.ROUTINE
    override: Override | None = None
    already_raised: bool = False  # AI lifted it before: the hourly cap does not take that back


@dataclass(frozen=True)
class Priority:
    """The answer: the class and times that the list is sorted by, and why."""

    priority_class: PriorityClass
    base_class: PriorityClass
    due_at: datetime
    bound_at: datetime
    reasons: tuple[Reason, ...]
    raised_by_ai: bool

    @property
    def score(self) -> int:
        return sum(r.points for r in self.reasons)


def prioritize(
    item: ItemFacts, findings: Iterable[Finding], policy: Policy, raised_last_hour: int
) -> Priority:
    """Class and due time of one study. AI can raise a study, never lower it.

    findings          of the current completed Runs of active releases; empty when none has run yet
    raised_last_hour  other studies that AI lifted below critical in the last hour
    """
    ordered = _CLASS_OF_ORDER[item.ordered_priority]
    raised_by_hand = item.override.priority_class if item.override else PriorityClass.ROUTINE
    base = max(ordered, raised_by_hand)
    capped = raised_last_hour >= policy.raised_per_hour and not item.already_raised
    flags = _flags(findings, policy)
    found = max((lift for _, lift in flags), default=PriorityClass.ROUTINE)
    ai = PriorityClass.ROUTINE if capped and found is not PriorityClass.CRITICAL else found
    chosen = max(base, ai)
    reasons = [*_person_reasons(item), *(_flag_reason(f, lift, lift <= ai) for f, lift in flags)]
    return Priority(
        priority_class=chosen,
        base_class=base,
        due_at=item.arrived_at + policy.longest_wait[chosen],
        bound_at=item.arrived_at + policy.longest_wait[base],
        reasons=tuple(sorted(reasons, key=lambda r: (-r.points, r.code))),
        raised_by_ai=ai > base,
    )


def _flags(findings: Iterable[Finding], policy: Policy) -> list[tuple[Finding, PriorityClass]]:
    """Actionable findings with the class each lifts to; of one name the most probable alone."""
    best: dict[str, Finding] = {}
    for finding in findings:
        held = best.get(finding.name)
        if finding.actionable and (held is None or finding.probability > held.probability):
            best[finding.name] = finding
    return [(f, policy.raises_to.get(name, PriorityClass.ROUTINE)) for name, f in sorted(best.items())]


def _person_reasons(item: ItemFacts) -> list[Reason]:
    reasons = []
    if item.ordered_priority is not OrderedPriority.ROUTINE:
        ordered = _CLASS_OF_ORDER[item.ordered_priority]
        reasons.append(Reason("ORDERED", f"{item.ordered_priority.value} order", _POINTS[ordered]))
    if item.override:
        points = _POINTS[item.override.priority_class]
        reasons.append(
            Reason("RAISED_BY_HAND", f"raised by {item.override.by}: {item.override.reason}", points)
        )
    return reasons or [Reason("ROUTINE", "routine order", 0)]


def _flag_reason(finding: Finding, lift: PriorityClass, counts: bool) -> Reason:
    code = f"AI_{finding.name.upper()}"
    words = f"AI flag: {finding.coded.display} suspected ({finding.band.value})"
    if not counts:
        return Reason(code, f"{words}, not raised: hourly limit of AI lifts reached", 0)
    return Reason(code, words, _POINTS[lift] + round(9 * finding.probability) if lift else 0)


def sort_key(
    priority_class: PriorityClass, due_at: datetime, bound_at: datetime, now: datetime, item_id: int
) -> tuple[int, datetime, int]:
    """The one order of the list: smaller is read sooner. `store.worklist` says the same in SQL.

    source  architecture 4: critical by due time, then high and overdue, then elevated, then routine
    """
    overdue = bound_at < now and priority_class < PriorityClass.HIGH
    group = PriorityClass.HIGH if overdue else priority_class
    return (-int(group), due_at, item_id)


def overdue_reason(bound_at: datetime, now: datetime) -> Reason | None:
    """Shown on the list, computed at the moment of the query: waiting beyond the bound moves the place by itself."""
    if bound_at >= now:
        return None
    minutes = int((now - bound_at).total_seconds() // 60)
    return Reason("OVERDUE", f"waits {minutes // 60} h {minutes % 60:02d} beyond its limit", 0)
