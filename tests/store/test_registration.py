"""P3: one object, one row, one patient, whoever sends it how often."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta

from sqlalchemy import func, select

from tests.factories import NOON, Clock, a_header, an_arrival
from triage.store import completeness, instances, orders, registration, studies
from triage.store.database import Database
from triage.store.registration import Arrived, Registered
from triage.store.schema import instance, patient, quarantine, series, study

QUIET = 10.0


def register(database: Database, **values: object) -> Registered:
    with database.write() as tx:
        return registration.register(tx, an_arrival(**values), "SITE", QUIET, NOON)  # type: ignore[arg-type]


def count(database: Database, table: object) -> int:
    with database.read() as tx:
        return int(tx.execute(select(func.count()).select_from(table)).scalar_one())  # type: ignore[arg-type]


def test_the_same_object_twice_is_one_row(any_database: Database) -> None:
    first, second = register(any_database), register(any_database)

    assert first.arrived is Arrived.NEW and second.arrived is Arrived.DUPLICATE
    assert first.instance_id == second.instance_id
    with any_database.read() as tx:
        assert completeness.get_series(tx, first.series_id)["instance_count"] == 1


def test_one_uid_with_other_bytes_is_kept_aside_and_the_first_stays(any_database: Database) -> None:
    first = register(any_database, content="first")
    second = register(any_database, content="second", series_instance_uid="1.2.3.9")

    assert second == Registered(Arrived.CONFLICT, first.study_id, first.series_id, first.instance_id)
    assert register(any_database, content="second", series_instance_uid="1.2.3.9").arrived is Arrived.CONFLICT
    assert count(any_database, quarantine) == 1 and count(any_database, instance) == 1


def test_an_object_kept_aside_leaves_no_series_for_which_its_study_would_wait(any_database: Database) -> None:
    """Simulation seed 27: an empty series in state receiving, and the study arrived for ever."""
    first = register(any_database)
    register(any_database, series=2, instance=2, patient_id="SOMEBODY ELSE")
    register(any_database, series_instance_uid="1.2.3.9", content="other bytes")
    with any_database.write() as tx:
        completeness.settle_series(tx, first.series_id, "film")
        assert not completeness.study_is_arriving(tx, first.study_id)
    assert count(any_database, series) == 1


def test_eight_senders_of_the_same_and_of_sibling_objects_make_one_patient_one_study(
    any_database: Database,
) -> None:
    rounds, senders = (6, 8)
    together = threading.Barrier(senders)
    errors: list[BaseException] = []
    told: Counter[Arrived] = Counter()

    def send(number: int) -> None:
        for turn in range(rounds):
            together.wait()
            try:
                for image in (0, number):  # everybody sends image 0, and one of their own
                    arrived = register(any_database, study=f"s{turn}", instance=image, patient_id="P").arrived
                    told[arrived] += 1
            except BaseException as error:  # noqa: BLE001 - whatever it is, the sender would have seen it
                errors.append(error)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(1, senders + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not errors
    assert count(any_database, patient) == 1
    assert count(any_database, study) == rounds and count(any_database, series) == rounds
    assert count(any_database, instance) == rounds * (senders + 1)
    assert told == {Arrived.NEW: rounds * (senders + 1), Arrived.DUPLICATE: rounds * (senders - 1)}
    with any_database.read() as tx:
        assert {r["instance_count"] for r in studies.series_of(tx, 1)} == {senders + 1}


def test_patients_of_two_hospitals_with_one_number_are_two(any_database: Database) -> None:
    register(any_database, study=1, patient_id="7", issuer_of_patient_id="A")
    register(any_database, study=2, patient_id="7", issuer_of_patient_id="B")

    assert count(any_database, patient) == 2


def test_the_end_of_an_association_makes_its_series_due(any_database: Database, clock: Clock) -> None:
    ct = register(any_database, modality="CT", association_id="node:7")
    with any_database.write() as tx:
        assert completeness.association_ended(tx, "node:8", False, clock()) == []
        assert completeness.association_ended(tx, "node:7", True, clock()) == [ct.series_id]
        row = completeness.get_series(tx, ct.series_id)
        assert row["association_aborted"] and not row["open_association"]
        assert completeness.series_to_judge(tx, clock()) == [ct.series_id]


def test_a_receiver_that_starts_closes_what_its_predecessor_had_open(any_database: Database) -> None:
    mine = register(any_database, study=1, modality="CT", association_id="node_1:7")
    other = register(any_database, study=2, modality="CT", association_id="nodeX1:7")
    with any_database.write() as tx:
        assert completeness.forget_associations(tx, "node_1", NOON) == 1
        assert completeness.get_series(tx, mine.series_id)["association_aborted"]
        assert not completeness.get_series(tx, other.series_id)["association_aborted"]


def test_the_order_of_a_study_is_found_by_uid_before_accession(any_database: Database) -> None:
    header = a_header()
    with any_database.write() as tx:
        orders.add(tx, NOON, accession_number=header.accession_number, priority="URGENT")
        assert (
            orders.find_order(tx, header.study_instance_uid, header.accession_number)["priority"] == "URGENT"
        )  # type: ignore[index]
        orders.add(tx, NOON, study_instance_uid=header.study_instance_uid, priority="STAT")
        orders.add(tx, NOON, accession_number=header.accession_number, state="cancelled")
        assert orders.find_order(tx, header.study_instance_uid, header.accession_number)["priority"] == "STAT"  # type: ignore[index]
        assert orders.find_order(tx, "1.2.3", "") is None


def test_instances_come_back_as_they_were_and_in_the_order_asked(any_database: Database) -> None:
    headers = [a_header(modality="CT", instance=i) for i in range(3)]
    for header in headers:
        with any_database.write() as tx:
            told = registration.register(tx, an_arrival(header), "SITE", QUIET, NOON)
    with any_database.read() as tx:
        assert [h.header for h in instances.held(tx, told.series_id)] == headers
        wanted = [headers[2].sop_instance_uid, "1.2.3", headers[0].sop_instance_uid]
        assert [h.header for h in instances.held_by_uid(tx, wanted)] == [headers[2], headers[0]]
        assert studies.get_study(tx, told.study_id)["patient_code"] == "P1"
        assert studies.find_study(tx, headers[0].study_instance_uid) == told.study_id
        assert studies.find_study(tx, "1.2.3") is None


def test_looking_again_is_at_the_time_that_was_said(any_database: Database) -> None:
    told = register(any_database, modality="CT")
    later = NOON + timedelta(minutes=2)
    with any_database.write() as tx:
        completeness.look_again(tx, told.series_id, later)
        assert completeness.series_to_judge(tx, NOON) == []
        assert completeness.series_to_judge(tx, later) == [told.series_id]
