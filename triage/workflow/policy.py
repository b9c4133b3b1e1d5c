"""Policies: judged on the last day before they apply, applied to all that waits, taken back like any other version.

Waits and classes hold for every open study at once; thresholds for analyses from then on, since what a run found is
never rewritten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from triage.domain.errors import Conflict, Misconfigured, Refused
from triage.domain.finding import FINDING_CODES, Band, Finding, PriorityClass
from triage.domain.priority import ItemFacts, OrderedPriority, Policy, Priority, overdue_reason, prioritize
from triage.store import audit, events, policies, results, worklist
from triage.workflow.rank import rank

DRY_RUN_HOURS = 24
EXAMPLES_MAX = 50
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Judged:
    """A study of the last hours with the findings that count; what a person set by hand is not replayed."""

    study_id: int
    study_uid: str
    arrived_at: datetime
    ordered: OrderedPriority
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Move:
    """One study that would stand elsewhere."""

    study_uid: str
    was: PriorityClass
    would_be: PriorityClass


def policy_of(content: Mapping[str, Any]) -> Policy:
    """A policy from what a page or program sent.

    raises  Refused naming what is wrong
    """
    try:
        return Policy.from_json(0, content)
    except Misconfigured as error:
        raise Refused(str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(f"this is no policy: {type(error).__name__} {error}") from error


def dry_run(tx: Connection, new: Policy, now: datetime, hours: int = DRY_RUN_HOURS) -> dict[str, Any]:
    """The studies of the last hours once more under both policies: which would move, and which way.

    {"studies", "moved", "up", "down", "up_to_critical", "flags_now", "flags_then", "due_sooner", "due_later",
     "examples": [{"study_uid", "from", "to"}], "hours"}
    """
    found = [
        Judged(
            row["study_id"], row["study_instance_uid"], row["arrived_at"], OrderedPriority(row["ordered_priority"]),
            tuple(f for _, f in results.counting_findings(tx, row["study_id"])),
        )
        for row in worklist.arrived_since(tx, now - timedelta(hours=hours))
    ]  # fmt: skip
    held = policies.active(tx)
    before = _placed(found, held, rejudge=False)
    after = _placed(found, new, rejudge=new.thresholds != held.thresholds)
    moves = [
        Move(s.study_uid, before[s.study_id].priority_class, after[s.study_id].priority_class)
        for s in found
        if before[s.study_id].priority_class != after[s.study_id].priority_class
    ]
    up = [m for m in moves if m.would_be > m.was]
    return {
        "studies": len(found),
        "moved": len(moves),
        "up": len(up),
        "down": len(moves) - len(up),
        "up_to_critical": sum(m.would_be is PriorityClass.CRITICAL for m in up),
        "due_sooner": sum(after[s.study_id].due_at < before[s.study_id].due_at for s in found),
        "due_later": sum(after[s.study_id].due_at > before[s.study_id].due_at for s in found),
        "flags_now": sum(f.actionable for s in found for f in s.findings),
        "flags_then": sum(f.actionable for s in found for f in new.judge(s.findings)),
        "examples": [
            {"study_uid": m.study_uid, "from": m.was.word, "to": m.would_be.word}
            for m in sorted(moves, key=lambda m: (-m.would_be, m.study_uid))[:EXAMPLES_MAX]
        ],
        "hours": hours,
    }


def _placed(found: Iterable[Judged], policy: Policy, *, rejudge: bool) -> dict[int, Priority]:
    """{study id: its place}, in order of arrival so that the hourly cap counts as it would have."""
    raises: deque[datetime] = deque()
    placed = {}
    for s in sorted(found, key=lambda s: (s.arrived_at, s.study_id)):
        while raises and raises[0] < s.arrived_at - HOUR:
            raises.popleft()
        findings: Iterable[Finding] = policy.judge(s.findings) if rejudge else s.findings
        facts = ItemFacts(arrived_at=s.arrived_at, ordered_priority=s.ordered)
        answer = prioritize(facts, findings, policy, len(raises))
        if answer.raised_by_ai and answer.priority_class < PriorityClass.CRITICAL:
            raises.append(s.arrived_at)
        placed[s.study_id] = answer
    return placed


def apply(tx: Connection, new: Policy, by: str, reason: str, now: datetime) -> int:
    """Make `new` the policy in force and put every open study where it says; returns its version."""
    if not reason.strip():
        raise Refused("say why: the reason is kept with the version")
    held = policies.active(tx)
    if new.as_json() == held.as_json():
        raise Refused("nothing would change")
    version = policies.adopt(tx, new, by, reason.strip()[:400], now)
    audit.append(
        tx, now, by, "policy.applied", "policy", version,
        {"before": held.version, "reason": reason.strip()[:200], "changes": differences(held, new)[:20]},
    )  # fmt: skip
    for study_id in worklist.open_study_ids(tx):
        rank(tx, study_id, now)
    events.publish(tx, now, "worklist", policy=version)
    return version


def restore(tx: Connection, version: int, by: str, reason: str, now: datetime) -> int:
    """An older version once more, as a new one: history is never rewritten."""
    old = policies.get(tx, version)
    if old is None:
        raise Refused(f"there is no policy version {version}")
    if version == policies.active(tx).version:
        raise Conflict(f"version {version} is in force")
    return apply(tx, old, by, f"back to version {version}: {reason.strip()}" if reason.strip() else "", now)


def differences(old: Policy, new: Policy) -> list[str]:
    """`longest_wait_minutes.high: 60 -> 45`, sorted."""
    before, after = _flat(old.as_json()), _flat(new.as_json())
    return [
        f"{name}: {before.get(name, '–')} → {after.get(name, '–')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{k}": v for k, v in value.items()}
        else:
            flat[name] = value
    return flat


def try_rule(
    policy: Policy,
    ordered: str,
    findings: Iterable[str],
    waited_minutes: float,
    now: datetime,
    *,
    raised_last_hour: int = 0,
) -> dict[str, Any]:
    """Where a made-up study would stand and why: the tester beside the rules (ux 11)."""
    names = list(findings)
    unknown = [n for n in names if n not in FINDING_CODES]
    if unknown:
        raise Refused(f"no finding is called {', '.join(unknown)}")
    made = [Finding(n, 0.99, 0.99, Band.HIGH, actionable=True, threshold=0.5) for n in names]
    arrived = now - timedelta(minutes=waited_minutes)
    facts = ItemFacts(arrived_at=arrived, ordered_priority=OrderedPriority(ordered))
    answer = prioritize(facts, made, policy, raised_last_hour)
    overdue = overdue_reason(answer.bound_at, now)
    return {
        "priority_class": answer.priority_class.word,
        "without_ai": answer.base_class.word,
        "counts_as": "high"
        if overdue and answer.priority_class < PriorityClass.HIGH
        else answer.priority_class.word,
        "due_at": answer.due_at,
        "bound_at": answer.bound_at,
        "alert": answer.priority_class is PriorityClass.CRITICAL,
        "reasons": [r.as_json() for r in (*answer.reasons, *([overdue] if overdue else []))],
        "score": answer.score,
    }
