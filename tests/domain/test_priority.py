"""AI only lifts, everybody ages, the order is total (P7; assurance I14, I15)."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import NOON, a_finding
from triage.domain.errors import Misconfigured
from triage.domain.finding import FINDING_CODES, Finding, PriorityClass
from triage.domain.priority import (
    HL7_PRIORITY,
    ItemFacts,
    OrderedPriority,
    Override,
    Policy,
    Reason,
    overdue_reason,
    prioritize,
    sort_key,
)

ROUTINE, ELEVATED, HIGH, CRITICAL = sorted(PriorityClass)
AT_LEAST = max(2000, settings().max_examples)

times = st.integers(0, 44_640).map(lambda minutes: NOON + timedelta(minutes=minutes))
classes = st.sampled_from(sorted(PriorityClass))
findings = st.lists(
    st.builds(
        a_finding,
        st.sampled_from(sorted(FINDING_CODES)),
        st.floats(0, 1),
        actionable=st.booleans(),
    ),
    max_size=4,
)
items = st.builds(
    ItemFacts,
    arrived_at=times,
    ordered_priority=st.sampled_from(list(OrderedPriority)),
    override=st.none() | st.builds(Override, classes, st.just("Dr. X"), st.just("ward called")),
    already_raised=st.booleans(),
)


def _policy(seed: int) -> Policy:
    """Any policy that may be adopted: longer waits for lower classes, no finding above its own class."""
    chance = random.Random(seed)
    waits = sorted(chance.randint(1, 3000) for _ in PriorityClass)
    return Policy(
        longest_wait={
            c: timedelta(minutes=m) for c, m in zip(sorted(PriorityClass)[::-1], waits, strict=True)
        },
        raises_to={n: PriorityClass(chance.randint(0, c.priority_class)) for n, c in FINDING_CODES.items()},
        raised_per_hour=chance.randint(0, 40),
    )


policies = st.integers(0, 1 << 32).map(
    _policy
)  # one draw for its twenty numbers: five times as many examples


@settings(max_examples=AT_LEAST)
@given(items, findings, policies, st.integers(0, 60), times)
def test_no_study_is_ever_worse_off_with_ai_than_without(
    item: ItemFacts, found: list[Finding], policy: Policy, raised: int, now: datetime
) -> None:
    without = prioritize(item, (), policy, raised)
    with_ai = prioritize(item, found, policy, raised)

    assert with_ai.priority_class >= without.priority_class == without.base_class == with_ai.base_class
    assert with_ai.due_at <= without.due_at
    assert with_ai.bound_at == without.bound_at == without.due_at
    assert with_ai.score >= without.score
    keys = [sort_key(p.priority_class, p.due_at, p.bound_at, now, 1) for p in (with_ai, without)]
    assert keys[0] <= keys[1]


@settings(max_examples=AT_LEAST)
@given(items, findings, st.data(), policies, st.integers(0, 60), times)
def test_more_findings_or_more_probable_ones_never_push_a_study_back(
    item: ItemFacts, found: list[Finding], data: st.DataObject, policy: Policy, raised: int, now: datetime
) -> None:
    before = prioritize(item, found, policy, raised)
    if found and data.draw(st.booleans()):
        i = data.draw(st.integers(0, len(found) - 1))
        higher = data.draw(st.floats(found[i].probability, 1))
        more = [*found[:i], replace(found[i], probability=higher, actionable=True), *found[i + 1 :]]
    else:
        more = [
            *found,
            a_finding(data.draw(st.sampled_from(sorted(FINDING_CODES))), data.draw(st.floats(0, 1))),
        ]
    after = prioritize(item, more, policy, raised)

    assert after.priority_class >= before.priority_class
    assert after.due_at <= before.due_at
    assert after.score >= before.score
    key = [sort_key(p.priority_class, p.due_at, p.bound_at, now, 1) for p in (after, before)]
    assert key[0] <= key[1]


@given(items, findings, policies, st.integers(0, 60))
def test_the_reasons_are_every_term_of_the_score_and_of_the_class(
    item: ItemFacts, found: list[Finding], policy: Policy, raised: int
) -> None:
    answer = prioritize(item, found, policy, raised)

    assert answer.reasons
    assert answer.score == sum(r.points for r in answer.reasons)
    told = {r.code for r in answer.reasons}
    assert {f"AI_{f.name.upper()}" for f in found if f.actionable} <= told
    assert ("RAISED_BY_HAND" in told) == (item.override is not None)
    assert [r.points for r in answer.reasons] == sorted((r.points for r in answer.reasons), reverse=True)


@given(st.lists(st.tuples(classes, times, times), min_size=2, max_size=8), times)
def test_the_order_is_total(rows: list[tuple[PriorityClass, datetime, datetime]], now: datetime) -> None:
    keys = [sort_key(c, due, max(due, bound), now, i) for i, (c, due, bound) in enumerate(rows)]

    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("pneumothorax", CRITICAL), ("consolidation", HIGH), ("effusion", ELEVATED), ("cardiomegaly", ROUTINE)],
)
def test_a_finding_raises_a_routine_study_to_its_class(name: str, expected: PriorityClass) -> None:
    answer = prioritize(ItemFacts(arrived_at=NOON), [a_finding(name)], Policy(), 0)

    assert answer.priority_class is expected
    assert answer.due_at == NOON + Policy().longest_wait[expected]
    assert answer.raised_by_ai == (expected is not ROUTINE)


def test_what_is_below_its_threshold_moves_nothing() -> None:
    answer = prioritize(ItemFacts(arrived_at=NOON), [a_finding(probability=0.4)], Policy(), 0)

    assert answer.priority_class is ROUTINE
    assert [r.code for r in answer.reasons] == ["ROUTINE"]


def test_a_stat_order_waits_an_hour_at_most_and_says_so() -> None:
    answer = prioritize(ItemFacts(arrived_at=NOON, ordered_priority=OrderedPriority.STAT), (), Policy(), 0)

    assert answer.priority_class is answer.base_class is HIGH
    assert answer.due_at == answer.bound_at == NOON + timedelta(hours=1)
    assert answer.reasons == (Reason("ORDERED", "STAT order", 300),)
    assert answer.reasons[0].as_json() == {"code": "ORDERED", "text": "STAT order", "points": 300}


def test_beyond_the_hourly_cap_a_flag_is_shown_but_does_not_lift() -> None:
    policy = Policy(raised_per_hour=3)

    capped = prioritize(ItemFacts(arrived_at=NOON), [a_finding("consolidation")], policy, 3)

    assert capped.priority_class is ROUTINE
    assert not capped.raised_by_ai
    assert "not raised: hourly limit" in capped.reasons[1].text or "not raised" in capped.reasons[0].text


def test_the_cap_holds_back_neither_the_critical_nor_those_already_lifted() -> None:
    policy = Policy(raised_per_hour=3)

    critical = prioritize(ItemFacts(arrived_at=NOON), [a_finding("pneumothorax")], policy, 99)
    lifted = prioritize(
        ItemFacts(arrived_at=NOON, already_raised=True), [a_finding("consolidation")], policy, 99
    )

    assert critical.priority_class is CRITICAL
    assert lifted.priority_class is HIGH


def test_an_overdue_study_stands_among_the_high_by_its_due_time() -> None:
    now = NOON + timedelta(hours=25)
    overdue = sort_key(ROUTINE, NOON + timedelta(hours=24), NOON + timedelta(hours=24), now, 1)
    fresh_stat = sort_key(HIGH, now + timedelta(minutes=60), now + timedelta(minutes=60), now, 2)
    critical = sort_key(CRITICAL, now + timedelta(minutes=15), now + timedelta(hours=24), now, 3)
    fresh = sort_key(ELEVATED, now + timedelta(hours=4), now + timedelta(hours=4), now, 4)

    assert sorted([fresh, fresh_stat, critical, overdue]) == [critical, overdue, fresh_stat, fresh]


def test_the_list_says_how_long_beyond_its_limit_a_study_waits() -> None:
    assert overdue_reason(NOON, NOON) is None
    late = overdue_reason(NOON, NOON + timedelta(hours=2, minutes=5))
    assert late is not None and late.text == "waits 2 h 05 beyond its limit"


def test_a_policy_may_lower_a_class_but_never_raise_one() -> None:
    Policy(raises_to={"pneumothorax": ROUTINE})
    with pytest.raises(Misconfigured, match="above the class"):
        Policy(raises_to={"effusion": CRITICAL})
    with pytest.raises(Misconfigured, match="no finding is called"):
        Policy(raises_to={"boredom": ROUTINE})


@pytest.mark.parametrize(
    "wrong",
    [
        {"thresholds": {"boredom": 0.5}},
        {"thresholds": {"pneumothorax": 1.0}},
        {"raised_per_hour": -1},
        {"longest_wait": dict.fromkeys(PriorityClass, timedelta(0))},
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        Policy(**wrong)


def test_a_site_threshold_flags_anew_and_leaves_findings_without_one_alone() -> None:
    policy = Policy(thresholds={"pneumothorax": 0.7})
    low, high = a_finding("pneumothorax", probability=0.6), a_finding("pneumothorax", probability=0.8)
    other, without = a_finding("effusion"), replace(low, threshold=None)
    judged = policy.judge([low, high, other, without])
    assert [f.actionable for f in judged[:2]] == [False, True]
    assert [f.threshold for f in judged[:2]] == [0.7, 0.7]
    assert judged[2:] == [other, without]


def test_a_higher_class_may_not_wait_longer_than_a_lower_one() -> None:
    waits = {c: timedelta(minutes=10 * (1 + int(c))) for c in PriorityClass}

    with pytest.raises(Misconfigured, match="longest_wait"):
        Policy(longest_wait=waits)


@given(policies)
def test_a_policy_is_the_same_after_storing(policy: Policy) -> None:
    assert Policy.from_json(policy.version, policy.as_json()) == policy


def test_letters_of_hl7_and_dicom_are_known() -> None:
    assert HL7_PRIORITY["S"] is OrderedPriority.STAT
    assert HL7_PRIORITY["A"] is HL7_PRIORITY["T"] is OrderedPriority.URGENT
