"""Corrected identities reach list, alerts and messages; findings stay with their pixels; late images find their way."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.factories import NOON, a_finding
from tests.workflow.desk import Desk, between
from triage.detectors.protocol import Detection
from triage.domain.errors import Refused
from triage.domain.identity import Demographics, PatientKey
from triage.settings import RouteSettings
from triage.store import orders, removal, studies
from triage.store.database import Database
from triage.store.registration import Arrived
from triage.workflow import reconcile, relay
from triage.workflow.assess import Result
from triage.workflow.sweep import sweep

ROUTE = RouteSettings(name="hl7", kind="mllp", host="127.0.0.1", port=1)


def who(number: object, issuer: str = "") -> PatientKey:
    return PatientKey(patient_id=f"P{number}", issuer_of_patient_id=issuer)


def update(desk: Desk, patient: PatientKey, minute: int = 0, **told: str) -> reconcile.Reconciled:
    with desk.database.write() as tx:
        return reconcile.update_patient(
            tx, patient, Demographics(**told), said_at=NOON + timedelta(minutes=minute), by="hl7:ADT",
            site=desk.site, now=desk.clock(),
        )  # fmt: skip


def merge(desk: Desk, prior: PatientKey, surviving: PatientKey, minute: int = 0) -> reconcile.Reconciled:
    with desk.database.write() as tx:
        return reconcile.merge_patients(
            tx, prior, surviving, said_at=NOON + timedelta(minutes=minute), key=f"m|{prior}|{surviving}|{minute}",
            by="hl7:ADT", site=desk.site, ids=desk.ids, now=desk.clock(),
        )  # fmt: skip


def move(desk: Desk, study_uid: str, minute: int = 0, **to: Any) -> reconcile.Reconciled:
    with desk.database.write() as tx:
        return reconcile.move_study(
            tx, study_uid, said_at=NOON + timedelta(minutes=minute), key=f"v|{to}|{minute}", by="hl7:ADT",
            site=desk.site, ids=desk.ids, now=desk.clock(), **to,
        )  # fmt: skip


def undo(desk: Desk, key: str) -> reconcile.Reconciled:
    with desk.database.write() as tx:
        return reconcile.undo(tx, key, by="user:lead", site=desk.site, ids=desk.ids, now=desk.clock())


def study(desk: Desk, study_id: int = 1) -> dict[str, Any]:
    with desk.database.read() as tx:
        return studies.get_study(tx, study_id)


def deliver(desk: Desk) -> list[str]:
    """Send what waits for the route; the texts that its peer gets."""
    texts = []
    while True:
        with desk.database.write() as tx:
            row = relay.prepare(tx, ROUTE, desk.site, desk.clock())
            if row is None:
                return texts
            relay.record(tx, row, relay.Answer(relay.Outcome.DELIVERED, "AA"), 0.0, desk.clock())
            texts.append(row["payload"].decode())


def test_an_update_shows_the_new_name_and_sends_nothing(any_desk: Desk) -> None:
    any_desk.flagged(a_finding())
    before = len(any_desk.deliveries())

    assert update(any_desk, who(1), patient_name="Roe^Jane").study_ids == (1,)

    assert study(any_desk)["patient_name"] == "Roe^Jane"
    assert len(any_desk.deliveries()) == before and "patient.updated" in any_desk.acts()
    assert not update(any_desk, who(1), patient_name="Roe^Jane").new


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
def test_the_newest_word_stays_in_any_order(desk: Desk, order: tuple[int, ...]) -> None:
    for minute in order:
        update(desk, who(1), minute, patient_name=f"Name^{minute}")
    desk.receive()
    assert study(desk)["patient_name"] == "Name^2"


def test_a_merge_moves_the_studies_and_corrects_what_was_told(any_desk: Desk) -> None:
    desk = any_desk
    desk.flagged(a_finding())
    deliver(desk)
    update(desk, who("9"), patient_name="Sur^Vivor")

    assert merge(desk, who(1), who(9)).study_ids == (1,)

    assert (study(desk)["patient_code"], study(desk)["patient_name"]) == ("P9", "Sur^Vivor")
    (told,) = deliver(desk)
    assert "|P9^" in told and "corrected" in told and "|C|" in told
    assert [a["state"] for a in desk.alerts()] == ["open"]
    assert not merge(desk, who(1), who(9)).new and deliver(desk) == []


def test_a_merge_that_was_not_told_yet_is_told_rightly_at_once(desk: Desk) -> None:
    desk.flagged(a_finding())
    merge(desk, who(1), who(9))
    (told,) = deliver(desk)
    assert "|P9^" in told and "corrected" not in told


def test_images_that_come_after_the_merge_find_the_survivor(any_desk: Desk) -> None:
    merge(any_desk, who(1), who(2))
    merge(any_desk, who(2), who(3), 1)
    first, second = any_desk.receive(instance=1), any_desk.receive(instance=2)
    late = any_desk.receive(instance=3, patient_id="P3")
    assert [t.arrived for t in (first, second, late)] == [Arrived.NEW] * 3
    assert study(any_desk)["patient_code"] == "P3"
    assert any_desk.receive(instance=4, patient_id="P4").arrived is Arrived.OTHER_PATIENT


def test_merges_in_any_order_with_images_between_come_to_the_same(desk: Desk) -> None:
    acts = [
        lambda d: merge(d, who(1), who(2), 1),
        lambda d: merge(d, who(2), who(3), 2),
        lambda d: d.receive(study=1),
        lambda d: merge(d, who(3), who(1), 3),
    ]
    for acted in acts:
        acted(desk)
    with desk.database.read() as tx:
        assert study(desk)["patient_code"] == "P1" and tx is not None
    assert {r["prior_id"] for r in desk.rows("patient_link")} == {2, 3}


def test_a_moved_study_is_withdrawn_there_and_told_here(any_desk: Desk) -> None:
    desk = any_desk
    desk.flagged(a_finding())
    deliver(desk)
    with desk.database.write() as tx:
        relay.alerts.move(tx, 1, relay.alerts.AlertState.ACKNOWLEDGED, NOON, by="nurse")

    assert move(desk, study(desk)["study_instance_uid"], patient=who(7)).study_ids == (1,)

    assert study(desk)["patient_code"] == "P7"
    withdrawn, told = deliver(desk)
    assert "|P1^" in withdrawn and "not of this patient" in withdrawn and "|W|" in withdrawn
    assert "|P7^" in told and "suspected" in told
    assert [a["state"] for a in desk.alerts()] == ["withdrawn", "open"]
    assert [f["name"] for f in desk.rows("finding")] == ["pneumothorax"]
    # What the modality still sends names the patient as before.
    assert desk.receive(instance=2).arrived is Arrived.NEW


def test_a_move_heard_before_the_images_holds(desk: Desk) -> None:
    uid = "1.2.826.0.1.3680043.10.1337.1"
    move(desk, uid, patient=who(7), accession_number="RIGHT")
    move(desk, uid, -5, patient=who(8))  # older: said before the one above
    desk.receive()
    assert (study(desk)["patient_code"], study(desk)["accession_number"]) == ("P7", "RIGHT")


def test_another_accession_number_brings_its_order(desk: Desk) -> None:
    with desk.database.write() as tx:
        orders.add(tx, NOON, accession_number="A2", priority="STAT", patient_location="ICU")
    desk.flagged(a_finding())
    deliver(desk)

    move(desk, study(desk)["study_instance_uid"], accession_number="A2")

    assert (desk.item()["ordered_priority"], desk.item()["location"]) == ("STAT", "ICU")
    (told,) = deliver(desk)
    assert "|A2|" in told and "corrected" in told and [a["state"] for a in desk.alerts()] == ["open"]


@pytest.mark.postgres
def test_a_move_to_another_order_and_a_result_of_the_study_do_not_wait_for_each_other(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(postgres_database)
    with desk.database.write() as tx:
        orders.add(tx, NOON, accession_number="A2", priority="STAT", patient_location="ICU")
    leased = desk.lease(desk.receive().wake[0][0])
    assert leased is not None
    moved: list[reconcile.Reconciled] = []
    to_a2 = lambda: moved.append(move(desk, study(desk)["study_instance_uid"], accession_number="A2"))  # noqa: E731
    mover = between(monkeypatch, desk, "settle_study", to_a2)

    assert desk.finish(leased, Result(detection=Detection((a_finding(),))))
    mover.join(20)

    assert [m.study_ids for m in moved] == [(1,)]
    assert desk.item()["ordered_priority"] == "STAT" and desk.run(leased.run_id)["state"] == "completed"


def test_undoing_a_merge_gives_each_its_own_and_says_so(any_desk: Desk) -> None:
    desk = any_desk
    desk.flagged(a_finding(), study=1)
    desk.flagged(study=2)
    merge(desk, who(1), who(2))
    deliver(desk)

    (key,) = [f["key"] for f in desk.rows("identity_fact")]
    assert undo(desk, key).study_ids == (1,)

    assert [study(desk, i)["patient_code"] for i in (1, 2)] == ["P1", "P2"]
    withdrawn, told = deliver(desk)
    assert "|P2^" in withdrawn and "not of this patient" in withdrawn and "|P1^" in told
    assert not undo(desk, key).new and desk.acts().count("merge.undone") == 1


def test_undoing_a_move_brings_the_study_back(desk: Desk) -> None:
    desk.receive()
    move(desk, study(desk)["study_instance_uid"], patient=who(7), accession_number="A7")
    undo(desk, desk.rows("identity_fact")[0]["key"])
    assert (study(desk)["patient_code"], study(desk)["accession_number"]) == ("P1", "A1")


def test_two_authorities_are_not_merged_and_an_id_without_one_is_of_the_site(desk: Desk) -> None:
    desk.site = replace(desk.site, issuer_of_patient_id="HOSP")
    desk.receive()
    with pytest.raises(Refused):
        merge(desk, who(1), who(2, "ELSEWHERE"))
    assert update(desk, who(1, "HOSP"), patient_sex="M").study_ids == (1,)
    assert study(desk)["issuer_of_patient_id"] == "HOSP"


def test_a_study_that_slipped_in_beside_the_merge_is_found_by_the_sweeper(desk: Desk) -> None:
    desk.receive()
    with desk.database.write() as tx:
        surviving = tx.execute(reconcile.identity.patient.insert().values(patient_id="P9"))
        (new,) = surviving.inserted_primary_key or (0,)
        tx.execute(reconcile.identity.patient_link.insert().values(prior_id=1, surviving_id=new))
    with desk.database.write() as tx:
        sweep(tx, desk.site, desk.ids, desk.clock())
    assert study(desk)["patient_code"] == "P9"


def test_patients_are_forgotten_with_their_merges_once_nobody_needs_them(any_desk: Desk) -> None:
    desk = any_desk
    desk.receive(study=1)
    merge(desk, who(1), who(2))
    update(desk, who(3), patient_name="No^Study")

    with desk.database.write() as tx:
        assert removal.forget_patients(tx, NOON) == 0
        assert removal.forget_patients(tx, NOON + timedelta(days=1)) == 1  # P3 alone: P2 has the study
        removal.remove(tx, 1)
        assert removal.forget_patients(tx, NOON + timedelta(days=1)) == 2
    assert desk.rows("patient") == [] and desk.rows("identity_fact") == []


def test_a_move_that_says_nothing_is_refused_and_one_said_twice_is_done_once(desk: Desk) -> None:
    desk.flagged(a_finding())
    uid = study(desk)["study_instance_uid"]
    with pytest.raises(Refused, match="neither was named"):
        move(desk, uid)
    assert move(desk, uid, patient=who(7)).study_ids == (1,)
    assert not move(desk, uid, patient=who(7)).new
    assert desk.acts().count("study.moved") == 1


def test_a_move_to_where_the_study_is_tells_nobody(desk: Desk) -> None:
    desk.flagged(a_finding())
    deliver(desk)
    assert move(desk, study(desk)["study_instance_uid"], patient=who(1)).study_ids == ()
    assert deliver(desk) == [] and [a["state"] for a in desk.alerts()] == ["open"]
