"""Policies as versions: dry run, apply, restore; and who makes a release active."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.web.seed import Sown, flag, pneumothorax, sow
from triage.domain.errors import Conflict, Refused
from triage.domain.finding import Band, Finding
from triage.domain.priority import Policy
from triage.store import audit, policies, releases, studies, worklist
from triage.workflow import activation, policy

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def sown(tmp_path: Path) -> Iterator[Sown]:
    found = sow(tmp_path / "triage.db", NOON)
    yield found
    found.database.close()


def changed(**changes: object) -> Policy:
    return policy.policy_of({**Policy().as_json(), **changes})


def test_a_dry_run_counts_what_would_move_and_changes_nothing(sown: Sown) -> None:
    sown.add(findings=(flag("consolidation"),))
    sown.add(findings=(flag("edema"),))
    sown.add(findings=(pneumothorax(),))
    sown.add()
    sown.add(findings=(flag("consolidation"),), minutes_ago=25 * 60)  # before the last 24 h
    raises = {**Policy().as_json()["raises_to"], "consolidation": "elevated", "pneumothorax": "high"}
    with sown.database.read() as tx:
        before = worklist.ranks(tx, NOON)
        said = policy.dry_run(tx, changed(raises_to=raises), NOON)
        assert worklist.ranks(tx, NOON) == before
    assert (said["studies"], said["moved"], said["up"], said["down"]) == (4, 2, 0, 2)
    assert said["up_to_critical"] == 0
    assert {(m["from"], m["to"]) for m in said["examples"]} == {("high", "elevated"), ("critical", "high")}
    with sown.database.write() as tx:
        policy.apply(tx, changed(raises_to=raises), "kim", "too many alarms", NOON)
    with sown.database.read() as tx:
        back = policy.dry_run(tx, Policy(), NOON)
    assert (back["moved"], back["up"], back["up_to_critical"]) == (2, 2, 1)


def test_a_threshold_is_tried_on_stored_probabilities_and_holds_for_the_next_analysis(sown: Sown) -> None:
    sown.add(findings=(flag("nodule", probability=0.7),))
    strict = changed(thresholds={"nodule": 0.9})
    with sown.database.read() as tx:
        said = policy.dry_run(tx, strict, NOON)
    assert (said["flags_now"], said["flags_then"], said["down"]) == (1, 0, 1)
    judged = strict.judge([Finding("nodule", 0.6, 0.7, Band.MODERATE, True, 0.5)])
    assert (judged[0].actionable, judged[0].threshold) == (False, 0.9)
    untested = Finding("nodule", 0.6, 0.95, Band.HIGH, False, None)
    assert strict.judge([untested]) == [untested]  # what a release has no threshold for stays unflagged


def test_applying_ranks_every_open_study_again_and_is_audited(sown: Sown) -> None:
    uid = sown.add(findings=(flag("consolidation"),), minutes_ago=10)
    waits = {"critical": 10, "high": 30, "elevated": 240, "routine": 1440}
    with sown.database.write() as tx:
        version = policy.apply(tx, changed(longest_wait_minutes=waits), "kim", "night shift", NOON)
        item = worklist.find_item(tx, studies.find_study(tx, uid) or 0)
        trail = [e for e in audit.events(tx, object_kind="policy") if e["act"] == "policy.applied"]
    assert item is not None
    assert item["due_at"] == NOON + timedelta(minutes=20)
    assert version == 2
    assert trail[-1]["detail"]["changes"] == [
        "longest_wait_minutes.critical: 15.0 → 10.0",
        "longest_wait_minutes.high: 60.0 → 30.0",
    ]
    with sown.database.write() as tx:
        assert policy.restore(tx, 1, "kim", "too strict", NOON) == 3
        assert policies.active(tx).as_json() == Policy().as_json()
        assert [p["version"] for p in policies.history(tx)] == [3, 2, 1]
        with pytest.raises(Conflict):
            policy.restore(tx, 3, "kim", "again", NOON)


@pytest.mark.parametrize(
    "change",
    [
        {"longest_wait_minutes": {"critical": 99, "high": 30, "elevated": 240, "routine": 1440}},
        {"longest_wait_minutes": {"critical": 0, "high": 30, "elevated": 240, "routine": 1440}},
        {"raises_to": {"effusion": "critical"}},
        {"thresholds": {"effusion": 1.5}},
        {"thresholds": {"dragon": 0.5}},
        {"longest_wait_minutes": {}},
    ],
)
def test_what_is_no_policy_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(Refused):
        changed(**change)


def test_nothing_is_applied_without_a_reason_or_a_change(sown: Sown) -> None:
    with sown.database.write() as tx:
        with pytest.raises(Refused, match="say why"):
            policy.apply(tx, changed(raised_per_hour=5), "kim", " ", NOON)
        with pytest.raises(Refused, match="nothing would change"):
            policy.apply(tx, Policy(), "kim", "because", NOON)


def test_the_rule_tester_says_class_and_reasons() -> None:
    said = policy.try_rule(Policy(), "URGENT", ["pneumothorax", "nodule"], 0, NOON)
    assert (said["priority_class"], said["without_ai"], said["alert"]) == ("critical", "elevated", True)
    assert [r["code"] for r in said["reasons"]] == ["AI_PNEUMOTHORAX", "AI_NODULE", "ORDERED"]
    late = policy.try_rule(Policy(), "ROUTINE", [], 25 * 60, NOON)
    assert (late["priority_class"], late["counts_as"]) == ("routine", "high")


def test_two_persons_make_a_release_active_and_one_brings_back_the_last(sown: Sown) -> None:
    with sown.database.write() as tx:
        new = releases.register(tx, "chest_xray", "2.0.0", "digest-2", [], NOON)
        releases.note_acceptance(
            tx, new, calibrated=True, constancy={"finding": "pneumothorax", "flagged": True}
        )
        old = next(r["id"] for r in releases.in_states(tx, "active") if r["detector"] == "chest_xray")
        audit.append(tx, NOON, "triage", "release.activated", "release", old, {})
        with pytest.raises(Refused, match="was active before"):
            activation.roll_back(tx, new, "kim", "just so", NOON)
        proposal = activation.propose(tx, new, "kim", "better on our films", NOON)
        with pytest.raises(Conflict):
            activation.propose(tx, new, "lee", "me too", NOON)
        with pytest.raises(Refused, match="another person"):
            activation.confirm(tx, proposal, "kim", NOON)
        activation.confirm(tx, proposal, "lee", NOON)
        assert [r["id"] for r in releases.in_states(tx, "active") if r["detector"] == "chest_xray"] == [new]
        with pytest.raises(Refused, match="has ended"):
            activation.confirm(tx, proposal, "lee", NOON)
        activation.roll_back(tx, old, "kim", "too many flags", NOON)
        assert [r["id"] for r in releases.in_states(tx, "active") if r["detector"] == "chest_xray"] == [old]
        acts = [e["act"] for e in audit.events(tx, object_kind="release", object_id=str(new))]
    assert acts == ["release.proposed", "release.activated"]


def test_the_hourly_cap_counts_an_hour_and_no_longer(sown: Sown) -> None:
    for minutes in (150, 100, 70):
        sown.add(findings=(flag("consolidation"),), minutes_ago=minutes)
    with sown.database.read() as tx:
        said = policy.dry_run(tx, changed(raised_per_hour=1), NOON)
    assert (said["studies"], said["down"]) == (3, 1)  # the second comes within the hour of the first
    for minutes in (12, 5):
        sown.add(findings=(flag("consolidation"),), minutes_ago=minutes)
    with sown.database.read() as tx:
        again = policy.dry_run(tx, changed(raised_per_hour=1), NOON)
    assert (again["studies"], again["down"]) == (5, 2)
