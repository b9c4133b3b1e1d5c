"""First step: rows before success, each object once, a reason where nothing will look."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.factories import NOON, a_header, an_arrival, digest_of
from tests.workflow.desk import Desk
from triage.domain.study import CONSTANCY_PATIENT_PREFIX
from triage.store import orders, releases, worklist
from triage.store.registration import Arrived
from triage.workflow.intake import acquired_at, arrival_of, input_digest, intake_group, request_runs

SR = {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.11", "modality": "SR"}


def test_a_frontal_film_asks_for_its_run_at_once(any_desk: Desk) -> None:
    taken = any_desk.receive()

    assert taken.arrived is Arrived.NEW and taken.wake == ((1, "stat"),)
    assert any_desk.item()["ai_status"] == "requested"
    assert any_desk.run(1)["input_digest"] == input_digest(
        [(a_header().sop_instance_uid, digest_of(a_header().sop_instance_uid))]
    )


def test_twice_is_once(any_desk: Desk) -> None:
    any_desk.receive()
    before = any_desk.item()

    again = any_desk.receive()

    assert again.arrived is Arrived.DUPLICATE and again.wake == ()
    assert any_desk.item() == before and len(any_desk.rows("run")) == 1


def test_a_lateral_film_ends_with_its_reason_and_wakes_nobody(desk: Desk) -> None:
    taken = desk.receive(view_position="LL")

    assert taken.wake == ()
    assert (desk.item()["ai_status"], desk.item()["ai_reason"]) == ("not_analysed", "LATERAL_ONLY")


def test_a_frontal_film_beside_its_lateral_answers_for_the_study(desk: Desk) -> None:
    desk.receive(instance=1, view_position="LL")
    desk.flagged(instance=2)

    assert desk.item()["ai_status"] == "completed"


@pytest.mark.parametrize(
    "changes", [{"content": "other bytes"}, {"instance": 2, "patient_id": "SOMEBODY ELSE"}]
)
def test_a_contradiction_is_kept_aside_and_audited(desk: Desk, changes: dict[str, object]) -> None:
    desk.receive()

    taken = desk.receive(**changes)

    assert taken.arrived in (Arrived.CONFLICT, Arrived.OTHER_PATIENT) and taken.wake == ()
    assert desk.acts() == ["instance.quarantined"]
    assert len(desk.rows("instance")) == 1 and len(desk.rows("run")) == 1


def test_an_order_gives_the_class_and_the_place(desk: Desk) -> None:
    with desk.database.write() as tx:
        orders.add(tx, NOON, accession_number="A1", priority="STAT", patient_location="ICU")

    desk.receive()

    assert desk.item()["priority_class"] == 2 and desk.item()["location"] == "ICU"


def test_objects_that_nobody_reads_make_no_item(desk: Desk) -> None:
    assert desk.receive(**SR).wake == ()
    assert desk.rows("worklist_item") == [] and desk.rows("instance")[0]["wanted"] is False


def test_a_detector_that_is_switched_off_says_so(desk: Desk) -> None:
    desk.site = replace(desk.site, detectors=("lung_nodule",))

    assert desk.receive().wake == ()
    assert desk.item()["ai_reason"] == "MODEL_OFF"


def test_a_shadow_release_looks_too_but_in_its_own_queue(desk: Desk) -> None:
    with desk.database.write() as tx:
        releases.register(tx, "chest_xray", "2.0.0", "chest_xray-2", [], NOON)

    assert desk.receive().wake == ((1, "stat"), (2, "shadow"))


@pytest.mark.parametrize("state", ["retired", "shadow"])
def test_without_an_active_release_the_reader_hears_that_the_detector_is_off(desk: Desk, state: str) -> None:
    """Of a shadow release too: a run in its queue would be told to nobody."""
    with desk.database.write() as tx:
        releases.set_state(tx, 1, state)

    assert desk.receive().wake == ()
    assert (desk.item()["ai_status"], desk.item()["ai_reason"]) == ("not_analysed", "MODEL_OFF")


def test_the_same_input_is_asked_for_once(desk: Desk) -> None:
    taken = desk.receive()
    inputs = [(a_header().sop_instance_uid, digest_of(a_header().sop_instance_uid))]
    with desk.database.write() as tx:
        again = request_runs(tx, "chest_xray", taken.study_id, taken.series_id, inputs, None, desk.site, NOON)

    assert again == [] and len(desk.rows("run")) == 1


def test_a_stat_scan_is_looked_at_before_others(desk: Desk) -> None:
    with desk.database.write() as tx:
        orders.add(tx, NOON, accession_number="A1", priority="STAT")
    series_id = desk.receive_scan().series_id
    desk.clock.advance(60)

    assert [queue for _, queue in desk.judge(series_id)] == ["stat"]


def test_a_study_read_by_hand_comes_back_with_new_images_and_a_reported_one_does_not(desk: Desk) -> None:
    desk.receive()
    with desk.database.write() as tx:
        worklist.set_values(tx, 1, state="read")
    desk.receive(instance=2)
    assert desk.item()["state"] == "to_read"
    with desk.database.write() as tx:
        worklist.set_values(tx, 1, state="read", report_state="final")
    desk.receive(instance=3)
    assert desk.item()["state"] == "read"


def test_a_constancy_phantom_is_known_by_patient_and_flag() -> None:
    phantom = a_header(patient_id=f"{CONSTANCY_PATIENT_PREFIX}-DX", quality_control_image="YES")

    assert arrival_of(phantom, "0" * 64, 1, "TRIAGE-CONST", "n:1").constancy
    assert not arrival_of(replace(phantom, quality_control_image=""), "0" * 64, 1, "X", "n:1").constancy


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, datetime(2026, 3, 14, 11, 55, tzinfo=UTC)),
        ({"timezone_offset": "+0100"}, datetime(2026, 3, 14, 10, 55, tzinfo=UTC)),
        ({"timezone_offset": "-0530"}, datetime(2026, 3, 14, 17, 25, tzinfo=UTC)),
        ({"timezone_offset": "+9900"}, datetime(2026, 3, 14, 11, 55, tzinfo=UTC)),
        ({"timezone_offset": "west"}, datetime(2026, 3, 14, 11, 55, tzinfo=UTC)),
        ({"acquisition_datetime": "20260314115959.123"}, datetime(2026, 3, 14, 11, 59, 59, tzinfo=UTC)),
        ({"study_time": ""}, datetime(2026, 3, 14, tzinfo=UTC)),
        ({"study_date": "", "study_time": ""}, None),
        ({"study_date": "20261399"}, None),
        ({"study_date": "00010101", "study_time": "", "timezone_offset": "+0100"}, None),
    ],
)
def test_acquisition_is_an_aware_time_or_none(values: dict[str, str], expected: datetime | None) -> None:
    assert acquired_at(a_header(**values)) == expected


def test_of_a_group_what_is_known_already_stays_once(any_desk: Desk) -> None:
    any_desk.receive(modality="CT", instance=2)
    group = [an_arrival(modality="CT", instance=number) for number in (1, 2, 3, 3)]
    with any_desk.database.write() as tx:
        taken = intake_group(tx, group, any_desk.site, any_desk.clock())

    assert [t.arrived for t in taken] == [Arrived.NEW, Arrived.DUPLICATE, Arrived.NEW, Arrived.DUPLICATE]
    assert any_desk.rows("series")[0]["instance_count"] == 3
