"""Claims end by themselves, are held by one, and given back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.web.seed import Sown, pneumothorax
from tests.workflow.read.acting import LATER, NOW, acts, do, holder, item
from triage.domain.errors import Conflict, Refused
from triage.store import audit, events, worklist
from triage.workflow.read import claims, reported
from triage.workflow.read.row import Held, NotFound, Stale


def test_a_claim_opens_and_holds_for_ten_minutes(sown: Sown) -> None:
    uid = sown.add()
    do(sown, claims.claim, uid, "ann", NOW, rank_shown=3)
    assert item(sown, uid)["opened_at"] == NOW
    assert holder(sown, uid, NOW + timedelta(minutes=9, seconds=59)) == "ann"
    assert holder(sown, uid, NOW + timedelta(minutes=10)) is None
    assert acts(sown, uid) == ["study.claimed", "study.opened"]


def test_claiming_without_opening_leaves_no_opening(sown: Sown) -> None:
    uid = sown.add()
    do(sown, claims.claim, uid, "ann", NOW, opened=False)
    assert item(sown, uid)["opened_at"] is None
    do(sown, claims.claim, uid, "ann", NOW + timedelta(minutes=1))
    do(sown, claims.claim, uid, "ann", NOW + timedelta(minutes=2))
    assert item(sown, uid)["opened_at"] == NOW + timedelta(minutes=1)
    assert acts(sown, uid).count("study.claimed") == 1


def test_a_held_study_is_taken_over_with_a_reason_only(sown: Sown) -> None:
    uid = sown.add()
    do(sown, claims.claim, uid, "ann", NOW)
    with pytest.raises(Held) as refused:
        do(sown, claims.claim, uid, "ben", NOW)
    assert (refused.value.holder, refused.value.until) == ("ann", NOW + claims.CLAIM_LENGTH)
    do(sown, claims.claim, uid, "ben", NOW, take_over_reason="patient unstable")
    assert holder(sown, uid, NOW) == "ben"
    assert "study.taken_over" in acts(sown, uid)


def test_an_ended_claim_is_free_for_all_at_once(sown: Sown) -> None:
    uid = sown.add()
    do(sown, claims.claim, uid, "ann", NOW)
    do(sown, claims.claim, uid, "ben", LATER)
    assert holder(sown, uid, LATER) == "ben"


def test_nobody_holds_more_than_five(sown: Sown) -> None:
    uids = [sown.add() for _ in range(6)]
    for uid in uids[:5]:
        do(sown, claims.claim, uid, "ann", NOW)
    with pytest.raises(Refused, match="5 studies"):
        do(sown, claims.claim, uids[5], "ann", NOW)
    do(sown, claims.claim, uids[0], "ann", NOW)  # renewing one's own is no sixth
    do(sown, claims.release, uids[0], "ann", NOW)
    do(sown, claims.claim, uids[5], "ann", NOW)


def test_a_stale_version_is_refused_with_the_version_of_now(sown: Sown) -> None:
    uid = sown.add()
    version = item(sown, uid)["version"]
    with pytest.raises(Stale) as stale:
        do(sown, claims.claim, uid, "ann", NOW, version=version - 1)
    assert stale.value.version == version
    assert isinstance(stale.value, Conflict)


def test_what_was_read_cannot_be_claimed(sown: Sown) -> None:
    uid = sown.add()
    do(sown, reported.report, uid, "ann", NOW, state="final")
    with pytest.raises(Refused, match="read"):
        do(sown, claims.claim, uid, "ann", NOW)


def test_a_claim_lost_in_the_same_instant_is_held(sown: Sown, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = sown.add()
    monkeypatch.setattr(worklist, "take_claim", lambda *a, **k: False)
    with pytest.raises(Held):
        do(sown, claims.claim, uid, "ann", NOW)
    assert do(sown, claims.next_study, "ann", NOW) is None


def test_a_held_study_is_asked_for_and_the_asker_hears_when_it_is_free(sown: Sown) -> None:
    uid = sown.add()
    with pytest.raises(Refused, match="nobody else holds"):
        do(sown, claims.ask, uid, "ben", NOW)
    do(sown, claims.claim, uid, "ann", NOW)
    with pytest.raises(Refused, match="nobody else holds"):
        do(sown, claims.ask, uid, "ann", NOW)
    do(sown, claims.ask, uid, "ben", NOW)
    do(sown, claims.release, uid, "ann", NOW)
    assert acts(sown, uid)[-2:] == ["study.asked_for", "study.released"]
    with sown.database.read() as tx:
        told = [e.data for e in events.since(tx, 0)]
    assert any(d.get("free_for") == ["ben"] for d in told)


def test_next_is_the_best_free_study(sown: Sown) -> None:
    routine, critical = sown.add(minutes_ago=60), sown.add(findings=(pneumothorax(),))
    sown.add(modality="CT", arriving=True, minutes_ago=90)
    assert do(sown, claims.next_study, "ann", NOW) == critical
    assert do(sown, claims.next_study, "ben", NOW) == routine
    assert do(sown, claims.next_study, "cleo", NOW) is None  # the third still arrives
    with sown.database.read() as tx:
        opened = [
            e for e in audit.events(tx, object_kind="study", object_id=critical) if e["act"] == "study.opened"
        ]
    assert opened[0]["detail"] == {"next": True, "rank": 1}


def test_a_released_study_waits_again_in_its_own_state(sown: Sown) -> None:
    whole, arriving = sown.add(), sown.add(modality="CT", arriving=True)
    for uid in (whole, arriving):
        do(sown, claims.claim, uid, "ann", NOW)
        do(sown, claims.release, uid, "ann", NOW)
    assert item(sown, whole)["state"] == "to_read"
    assert item(sown, arriving)["state"] == "arriving"


def test_only_its_holder_releases_a_study(sown: Sown) -> None:
    uid = sown.add()
    with pytest.raises(Refused):
        do(sown, claims.release, uid, "ann", NOW)
    do(sown, claims.claim, uid, "ann", NOW)
    with pytest.raises(Held):
        do(sown, claims.release, uid, "ben", NOW)


def test_a_claim_is_kept_by_its_holder_while_it_lives(sown: Sown) -> None:
    uid = sown.add()
    with pytest.raises(Refused, match="ended"):
        do(sown, claims.keep, uid, "ann", NOW)
    do(sown, claims.claim, uid, "ann", NOW)
    do(sown, claims.keep, uid, "ann", NOW + timedelta(minutes=9))
    assert holder(sown, uid, LATER) == "ann"
    with pytest.raises(Held):
        do(sown, claims.keep, uid, "ben", NOW)


def test_the_sweeper_frees_what_ran_out_and_tells(sown: Sown) -> None:
    uid, other = sown.add(), sown.add()
    do(sown, claims.claim, uid, "ann", NOW)
    do(sown, claims.claim, other, "ben", LATER)
    assert do(sown, claims.free_expired, LATER) == 1
    assert item(sown, uid)["state"] == "to_read"
    assert "claim.expired" in acts(sown, uid)
    assert do(sown, claims.free_expired, LATER) == 0


def test_a_claim_on_a_study_that_was_read_ends_without_waking_it(sown: Sown) -> None:
    uid = sown.add()
    do(sown, claims.claim, uid, "ann", NOW)
    with sown.database.write() as tx:
        worklist.set_values(tx, item(sown, uid)["id"], state="read")
    do(sown, claims.free_expired, LATER)
    assert item(sown, uid)["state"] == "read"


@pytest.mark.parametrize("uid", ["1.2.3.4.5.6", "constancy"])
def test_a_study_that_is_not_there_is_not_found(sown: Sown, uid: str) -> None:
    uid = sown.add(constancy=True) if uid == "constancy" else uid
    with pytest.raises(NotFound):
        do(sown, claims.claim, uid, "ann", NOW)
