"""A reader's acts as steps: claims end by themselves, feedback changes nothing, an acknowledgement stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.web.seed import Sown, flag, pneumothorax, sow
from triage.domain.errors import Conflict, Refused
from triage.domain.finding import PriorityClass
from triage.store import alerts, audit, events, reading, studies, worklist
from triage.workflow import read

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=11)


@pytest.fixture
def sown(tmp_path: Path) -> Iterator[Sown]:
    found = sow(tmp_path / "triage.db", NOW)
    yield found
    found.database.close()


def do(sown: Sown, act: Callable[..., Any], *args: Any, **named: Any) -> Any:
    with sown.database.write() as tx:
        return act(tx, *args, **named)


def item(sown: Sown, uid: str) -> dict[str, Any]:
    with sown.database.read() as tx:
        study_id = studies.find_study(tx, uid)
        assert study_id is not None
        found = worklist.find_item(tx, study_id)
        assert found is not None
        return found


def acts(sown: Sown, uid: str) -> list[str]:
    with sown.database.read() as tx:
        return [e["act"] for e in audit.events(tx, object_kind="study", object_id=uid)]


def holder(sown: Sown, uid: str, at: datetime) -> str | None:
    with sown.database.read() as tx:
        held = worklist.live_claim(tx, item(sown, uid)["id"], at)
        return None if held is None else str(held["reader"])


def an_alert(sown: Sown) -> tuple[str, int]:
    uid = sown.add(findings=(pneumothorax(),))
    with sown.database.read() as tx:
        return uid, alerts.listing(tx)[0]["id"]


# --- claims ----------------------------------------------------------------------------------------------------


def test_a_claim_opens_and_holds_for_ten_minutes(sown: Sown) -> None:
    uid = sown.add()
    do(sown, read.claim, uid, "ann", NOW, rank_shown=3)
    assert item(sown, uid)["opened_at"] == NOW
    assert holder(sown, uid, NOW + timedelta(minutes=9, seconds=59)) == "ann"
    assert holder(sown, uid, NOW + timedelta(minutes=10)) is None
    assert acts(sown, uid) == ["study.claimed", "study.opened"]


def test_claiming_without_opening_leaves_no_opening(sown: Sown) -> None:
    uid = sown.add()
    do(sown, read.claim, uid, "ann", NOW, opened=False)
    assert item(sown, uid)["opened_at"] is None
    do(sown, read.claim, uid, "ann", NOW + timedelta(minutes=1))
    do(sown, read.claim, uid, "ann", NOW + timedelta(minutes=2))
    assert item(sown, uid)["opened_at"] == NOW + timedelta(minutes=1)
    assert acts(sown, uid).count("study.claimed") == 1


def test_a_held_study_is_taken_over_with_a_reason_only(sown: Sown) -> None:
    uid = sown.add()
    do(sown, read.claim, uid, "ann", NOW)
    with pytest.raises(read.Held) as refused:
        do(sown, read.claim, uid, "ben", NOW)
    assert (refused.value.holder, refused.value.until) == ("ann", NOW + read.CLAIM_LENGTH)
    do(sown, read.claim, uid, "ben", NOW, take_over_reason="patient unstable")
    assert holder(sown, uid, NOW) == "ben"
    assert "study.taken_over" in acts(sown, uid)


def test_an_ended_claim_is_free_for_all_at_once(sown: Sown) -> None:
    uid = sown.add()
    do(sown, read.claim, uid, "ann", NOW)
    do(sown, read.claim, uid, "ben", LATER)
    assert holder(sown, uid, LATER) == "ben"


def test_nobody_holds_more_than_five(sown: Sown) -> None:
    uids = [sown.add() for _ in range(6)]
    for uid in uids[:5]:
        do(sown, read.claim, uid, "ann", NOW)
    with pytest.raises(Refused, match="5 studies"):
        do(sown, read.claim, uids[5], "ann", NOW)
    do(sown, read.claim, uids[0], "ann", NOW)  # renewing one's own is no sixth
    do(sown, read.release, uids[0], "ann", NOW)
    do(sown, read.claim, uids[5], "ann", NOW)


def test_a_stale_version_is_refused_with_the_version_of_now(sown: Sown) -> None:
    uid = sown.add()
    version = item(sown, uid)["version"]
    with pytest.raises(read.Stale) as stale:
        do(sown, read.claim, uid, "ann", NOW, version=version - 1)
    assert stale.value.version == version
    assert isinstance(stale.value, Conflict)


def test_what_was_read_cannot_be_claimed(sown: Sown) -> None:
    uid = sown.add()
    do(sown, read.report, uid, "ann", NOW, state="final")
    with pytest.raises(Refused, match="read"):
        do(sown, read.claim, uid, "ann", NOW)


def test_a_claim_lost_in_the_same_instant_is_held(sown: Sown, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = sown.add()
    monkeypatch.setattr(worklist, "take_claim", lambda *a, **k: False)
    with pytest.raises(read.Held):
        do(sown, read.claim, uid, "ann", NOW)
    assert do(sown, read.next_study, "ann", NOW) is None


def test_a_held_study_is_asked_for_and_the_asker_hears_when_it_is_free(sown: Sown) -> None:
    uid = sown.add()
    with pytest.raises(Refused, match="nobody else holds"):
        do(sown, read.ask, uid, "ben", NOW)
    do(sown, read.claim, uid, "ann", NOW)
    with pytest.raises(Refused, match="nobody else holds"):
        do(sown, read.ask, uid, "ann", NOW)
    do(sown, read.ask, uid, "ben", NOW)
    do(sown, read.release, uid, "ann", NOW)
    assert acts(sown, uid)[-2:] == ["study.asked_for", "study.released"]
    with sown.database.read() as tx:
        told = [e.data for e in events.since(tx, 0)]
    assert any(d.get("free_for") == ["ben"] for d in told)


def test_next_is_the_best_free_study(sown: Sown) -> None:
    routine, critical = sown.add(minutes_ago=60), sown.add(findings=(pneumothorax(),))
    sown.add(modality="CT", arriving=True, minutes_ago=90)
    assert do(sown, read.next_study, "ann", NOW) == critical
    assert do(sown, read.next_study, "ben", NOW) == routine
    assert do(sown, read.next_study, "cleo", NOW) is None  # the third still arrives
    with sown.database.read() as tx:
        opened = [
            e for e in audit.events(tx, object_kind="study", object_id=critical) if e["act"] == "study.opened"
        ]
    assert opened[0]["detail"] == {"next": True, "rank": 1}


def test_a_released_study_waits_again_in_its_own_state(sown: Sown) -> None:
    whole, arriving = sown.add(), sown.add(modality="CT", arriving=True)
    for uid in (whole, arriving):
        do(sown, read.claim, uid, "ann", NOW)
        do(sown, read.release, uid, "ann", NOW)
    assert item(sown, whole)["state"] == "to_read"
    assert item(sown, arriving)["state"] == "arriving"


def test_only_its_holder_releases_a_study(sown: Sown) -> None:
    uid = sown.add()
    with pytest.raises(Refused):
        do(sown, read.release, uid, "ann", NOW)
    do(sown, read.claim, uid, "ann", NOW)
    with pytest.raises(read.Held):
        do(sown, read.release, uid, "ben", NOW)


def test_a_claim_is_kept_by_its_holder_while_it_lives(sown: Sown) -> None:
    uid = sown.add()
    with pytest.raises(Refused, match="ended"):
        do(sown, read.keep, uid, "ann", NOW)
    do(sown, read.claim, uid, "ann", NOW)
    do(sown, read.keep, uid, "ann", NOW + timedelta(minutes=9))
    assert holder(sown, uid, LATER) == "ann"
    with pytest.raises(read.Held):
        do(sown, read.keep, uid, "ben", NOW)


def test_the_sweeper_frees_what_ran_out_and_tells(sown: Sown) -> None:
    uid, other = sown.add(), sown.add()
    do(sown, read.claim, uid, "ann", NOW)
    do(sown, read.claim, other, "ben", LATER)
    assert do(sown, read.free_expired, LATER) == 1
    assert item(sown, uid)["state"] == "to_read"
    assert "claim.expired" in acts(sown, uid)
    assert do(sown, read.free_expired, LATER) == 0


def test_a_claim_on_a_study_that_was_read_ends_without_waking_it(sown: Sown) -> None:
    uid = sown.add()
    do(sown, read.claim, uid, "ann", NOW)
    with sown.database.write() as tx:
        worklist.set_values(tx, item(sown, uid)["id"], state="read")
    do(sown, read.free_expired, LATER)
    assert item(sown, uid)["state"] == "read"


@pytest.mark.parametrize("uid", ["1.2.3.4.5.6", "constancy"])
def test_a_study_that_is_not_there_is_not_found(sown: Sown, uid: str) -> None:
    uid = sown.add(constancy=True) if uid == "constancy" else uid
    with pytest.raises(read.NotFound):
        do(sown, read.claim, uid, "ann", NOW)


# --- feedback --------------------------------------------------------------------------------------------------


def test_feedback_needs_an_opened_study_and_changes_nothing(sown: Sown) -> None:
    uid = sown.add(findings=(flag("nodule"), flag("effusion")))
    with pytest.raises(Refused, match="open the study"):
        do(sown, read.feedback, uid, "ann", NOW, verdict="agree")
    do(sown, read.claim, uid, "ann", NOW)
    before = item(sown, uid)
    do(sown, read.feedback, uid, "ann", NOW, verdict="disagree", finding="nodule", chip="known")
    assert item(sown, uid) == before
    with sown.database.read() as tx:
        stored = reading.feedback_of(tx, before["study_id"])[0]
    assert (stored["verdict"], stored["finding"], stored["chip"]) == ("disagree", "nodule", "known")
    assert stored["run_id"] is not None
    with pytest.raises(Refused, match="flagged already"):
        do(sown, read.feedback, uid, "ann", NOW, verdict="missed", finding="effusion")


def test_feedback_on_a_study_without_a_completed_run_names_no_run(sown: Sown) -> None:
    uid = sown.add(state="failed")
    do(sown, read.claim, uid, "ann", NOW)
    do(sown, read.feedback, uid, "ann", NOW, verdict="missed", finding="pneumothorax")
    with sown.database.read() as tx:
        assert reading.feedback_of(tx, item(sown, uid)["study_id"])[0]["run_id"] is None


@pytest.mark.parametrize(
    "said",
    [
        {"verdict": "maybe"}, {"verdict": "missed"}, {"verdict": "agree", "finding": "unicorn"},
        {"verdict": "disagree", "chip": "mood"},
    ],
)  # fmt: skip
def test_feedback_in_unknown_words_is_refused(sown: Sown, said: dict[str, str]) -> None:
    uid = sown.add()
    do(sown, read.claim, uid, "ann", NOW)
    with pytest.raises(Refused):
        do(sown, read.feedback, uid, "ann", NOW, **said)


def test_feedback_is_taken_back_within_ten_seconds(sown: Sown) -> None:
    uid = sown.add()
    do(sown, read.claim, uid, "ann", NOW)
    with pytest.raises(Refused):
        do(sown, read.withdraw_feedback, uid, "ann", NOW)
    given = do(sown, read.feedback, uid, "ann", NOW, verdict="agree")
    assert do(sown, read.withdraw_feedback, uid, "ann", NOW + timedelta(seconds=10)) == given
    do(sown, read.feedback, uid, "ann", NOW, verdict="agree")
    with pytest.raises(Refused, match="10 seconds"):
        do(sown, read.withdraw_feedback, uid, "ann", NOW + timedelta(seconds=11))


# --- raising by hand ----------------------------------------------------------------------------------------------


def raised(sown: Sown, uid: str, to: PriorityClass, reason: str = "sats fall") -> dict[str, Any]:
    do(sown, read.override, uid, "lead", NOW, priority_class=to, reason=reason)
    return item(sown, uid)


def test_a_person_raises_and_takes_back_what_a_person_raised(sown: Sown) -> None:
    uid = sown.add(ordered="URGENT", findings=(flag("consolidation"),))
    assert item(sown, uid)["priority_class"] == PriorityClass.HIGH
    assert raised(sown, uid, PriorityClass.CRITICAL)["priority_class"] == PriorityClass.CRITICAL
    lowered = raised(sown, uid, PriorityClass.ROUTINE, "was the wrong study")
    assert lowered["priority_class"] == PriorityClass.HIGH  # AI and order stay
    assert lowered["override_class"] is None
    assert lowered["override_by"] == ""


def test_a_person_cannot_lower_what_ai_or_the_order_raised(sown: Sown) -> None:
    for uid in (sown.add(findings=(pneumothorax(),)), sown.add(ordered="STAT")):
        with pytest.raises(Refused, match="lower only what a person raised"):
            raised(sown, uid, PriorityClass.ROUTINE)


def test_raising_needs_a_reason_and_a_study_that_waits(sown: Sown) -> None:
    uid = sown.add()
    with pytest.raises(Refused, match="why"):
        raised(sown, uid, PriorityClass.HIGH, "  ")
    do(sown, read.report, uid, "ann", NOW, state="final")
    with pytest.raises(Refused):
        raised(sown, uid, PriorityClass.HIGH)


# --- report and alerts ----------------------------------------------------------------------------------------------


def test_a_report_ends_claim_and_alerts(sown: Sown) -> None:
    uid, alert_id = an_alert(sown)
    do(sown, read.claim, uid, "ann", NOW)
    with pytest.raises(read.Held):
        do(sown, read.report, uid, "ben", NOW, state="final")
    do(sown, read.report, uid, "ann", NOW, state="preliminary")
    do(sown, read.report, uid, "ann", LATER, state="final")
    found = item(sown, uid)
    assert (found["state"], found["report_state"], found["read_at"]) == ("read", "final", NOW)
    assert holder(sown, uid, NOW) is None
    with sown.database.read() as tx:
        closed = alerts.get(tx, alert_id)
    assert closed is not None
    assert closed["state"] == "closed"
    with pytest.raises(Refused):
        do(sown, read.report, uid, "ann", NOW, state="scribble")


def test_an_acknowledgement_is_the_first_persons_and_stays(sown: Sown) -> None:
    _, alert_id = an_alert(sown)
    with pytest.raises(read.Stale):
        do(sown, read.acknowledge_alert, alert_id, "ann", NOW, version=99)
    first = do(sown, read.acknowledge_alert, alert_id, "ann", NOW)
    assert (first["state"], first["acknowledged_by"], first["acknowledged_at"]) == (
        "acknowledged",
        "ann",
        NOW,
    )
    assert do(sown, read.acknowledge_alert, alert_id, "ann", LATER) == first
    with pytest.raises(read.Held):
        do(sown, read.acknowledge_alert, alert_id, "ben", LATER)
    with pytest.raises(Refused):
        do(sown, read.later_alert, alert_id, "ann", NOW)
    with pytest.raises(Refused):
        do(sown, read.handover_alert, alert_id, "ann", "ben", NOW)


def test_a_closed_alert_cannot_be_acknowledged(sown: Sown) -> None:
    uid, alert_id = an_alert(sown)
    do(sown, read.report, uid, "ann", NOW, state="final")
    with pytest.raises(Refused, match="closed"):
        do(sown, read.acknowledge_alert, alert_id, "ann", NOW)


def test_an_alert_is_handed_to_a_reader_and_put_off_once(sown: Sown) -> None:
    _, alert_id = an_alert(sown)
    for nobody in ("", "qa", "stranger"):
        with pytest.raises(Refused):
            do(sown, read.handover_alert, alert_id, "ann", nobody, NOW)
    assert do(sown, read.handover_alert, alert_id, "ann", "ben", NOW)["assigned_to"] == "ben"
    assert do(sown, read.later_alert, alert_id, "ben", NOW)["later_until"] == NOW + read.LATER_LENGTH
    with pytest.raises(Refused, match="once"):
        do(sown, read.later_alert, alert_id, "ben", LATER)


def test_an_alert_that_is_not_there_is_not_found(sown: Sown) -> None:
    with pytest.raises(read.NotFound):
        do(sown, read.acknowledge_alert, 999, "ann", NOW)


def test_every_act_leaves_a_whole_chain(sown: Sown) -> None:
    uid, alert_id = an_alert(sown)
    do(sown, read.claim, uid, "ann", NOW)
    do(sown, read.acknowledge_alert, alert_id, "ann", NOW)
    do(sown, read.report, uid, "ann", NOW, state="final")
    with sown.database.read() as tx:
        assert audit.verify(tx).ok
