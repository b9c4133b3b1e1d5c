"""Second step: a series is judged, asked for once, and reopened by late slices (P5)."""

from __future__ import annotations

from datetime import timedelta

from tests.factories import NOON, a_finding, uid
from tests.workflow.desk import Desk
from triage.store import completeness, pulls, releases, runs


def released(desk: Desk, slices: int = 10, **values: object) -> int:
    """A series whose association has ended; its id."""
    series_id = desk.receive_scan(slices, association_id="node:1", **values).series_id
    with desk.database.write() as tx:
        completeness.association_ended(tx, "node:1", False, desk.clock())
    return series_id


def test_a_released_series_without_gap_runs_after_the_quiet_time(any_desk: Desk) -> None:
    series_id = released(any_desk)

    assert any_desk.judge(series_id) == []
    assert any_desk.rows("series")[0]["judge_at"] == NOON + timedelta(seconds=10)
    assert any_desk.item()["state"] == "arriving"
    any_desk.clock.advance(10)
    assert any_desk.judge(series_id) == [(1, "routine")]
    assert any_desk.item()["state"] == "to_read"
    assert any_desk.judge(series_id) == []


def test_the_count_of_the_archive_ends_the_waiting(desk: Desk) -> None:
    series_id = desk.receive_scan().series_id
    with desk.database.write() as tx:
        completeness.set_expected_count(tx, desk.rows("series")[0]["series_instance_uid"], 10, NOON)

    assert desk.judge(series_id) == [(1, "routine")]
    assert desk.rows("series")[0]["complete_because"] == "count met"


def test_a_gap_ends_as_not_analysed_with_its_reason(desk: Desk) -> None:
    for number in (0, 1, 2, 3, 4, 6, 7, 8, 9, 10):
        series_id = desk.receive(modality="CT", instance=number).series_id
    desk.clock.advance(120)

    assert desk.judge(series_id) == []
    assert desk.item()["ai_reason"] == "GAP_IN_SERIES"


def test_at_the_hard_limit_it_is_decided_with_what_is_here(desk: Desk) -> None:
    series_id = desk.receive_scan(9).series_id
    desk.clock.advance(30 * 60)
    desk.receive(modality="CT", instance=9)

    desk.judge(series_id)

    assert desk.item()["ai_reason"] == "INCOMPLETE_AT_LIMIT"


def test_a_late_slice_starts_a_new_run_and_the_old_one_stops_counting(any_desk: Desk) -> None:
    series_id = released(any_desk)
    any_desk.clock.advance(10)
    any_desk.analyse(any_desk.judge(series_id)[0][0], a_finding("nodule"))
    assert any_desk.item()["priority_class"] == 1

    any_desk.receive(modality="CT", instance=10)
    any_desk.clock.advance(60)
    ((late, _),) = any_desk.judge(series_id)
    assert any_desk.item()["ai_status"] == "requested" and any_desk.item()["priority_class"] == 1
    any_desk.analyse(late)

    old, new = any_desk.run(1), any_desk.run(2)
    assert old["state"] == "superseded" and old["superseded_at"] == new["finished_at"] == any_desk.clock()
    assert new["superseded_at"] is None and any_desk.item()["priority_class"] == 0
    with any_desk.database.write() as tx:  # told again, later: it keeps its time
        runs.supersede_older(tx, late, any_desk.clock.advance(60))
        runs.supersede(tx, [1], any_desk.clock())
    assert any_desk.run(1) == old


def test_a_run_that_still_waits_for_an_older_set_need_not_start(desk: Desk) -> None:
    series_id = released(desk)
    desk.clock.advance(10)
    desk.judge(series_id)
    desk.receive(modality="CT", instance=10)
    desk.clock.advance(60)

    desk.judge(series_id)

    waited, asked = desk.rows("run")
    assert (waited["state"], asked["state"]) == ("superseded", "requested")
    assert waited["superseded_at"] == asked["requested_at"] and waited["finished_at"] is None
    assert desk.lease(1) is None


def test_a_late_slice_that_leaves_a_gap_is_said_and_recalls_no_alert(desk: Desk) -> None:
    """That slices are missing says nothing against what was found without them: the alert stands."""
    series_id = released(desk)
    desk.clock.advance(10)
    desk.analyse(desk.judge(series_id)[0][0], a_finding("pneumothorax"))
    assert desk.alerts()[0]["state"] == "open"

    desk.receive(modality="CT", instance=12)  # slices 10 and 11 are missing now
    desk.clock.advance(120)
    desk.judge(series_id)

    assert desk.item()["ai_reason"] == "GAP_IN_SERIES"
    assert desk.item()["priority_class"] == 3
    assert desk.alerts()[0]["state"] == "open"


def test_a_slice_that_comes_an_hour_later_gets_a_wait_of_its_own(desk: Desk) -> None:
    """The hard limit counted from the first slice of all: a late one was given up at once and recalled the alert."""
    series_id = released(desk)
    desk.clock.advance(10)
    desk.analyse(desk.judge(series_id)[0][0], a_finding("pneumothorax"))
    desk.clock.advance(3600)

    desk.receive(modality="CT", instance=10)
    assert desk.judge(series_id) == []

    assert desk.item()["ai_status"] == "completed"
    assert desk.alerts()[0]["state"] == "open"


def test_of_two_whole_series_of_a_study_the_better_one_is_read(desk: Desk) -> None:
    thin = released(desk, series=1)
    desk.clock.advance(10)
    desk.judge(thin)
    thick = desk.receive_scan(10, series=2, image_type=("DERIVED", "PRIMARY", "AXIAL")).series_id
    desk.clock.advance(60)

    assert desk.judge(thick) == []
    loser = desk.rows("run")[1]
    assert loser["reason_code"] == "DUPLICATE"
    assert loser["reason_detail"].endswith("is read: original axial images")


def test_a_kernel_that_the_release_prefers_decides_between_equals_and_is_the_reason(any_desk: Desk) -> None:
    desk = any_desk
    with desk.database.write() as tx:
        soft = releases.register(tx, "lung_nodule", "2.0.0", "soft", [], NOON, ["B30f"])
        releases.activate(tx, soft)
    preferred = released(desk, series=1, convolution_kernel="B30f\\3")
    desk.clock.advance(10)
    desk.judge(preferred)
    sharp = desk.receive_scan(12, series=2, convolution_kernel="B70f").series_id  # with more slices
    desk.clock.advance(60)

    assert desk.judge(sharp) == []
    assert desk.rows("run")[1]["reason_detail"].endswith("is read: a kernel that the detector prefers")


def test_of_two_whole_series_a_better_one_that_comes_later_is_read_as_well(desk: Desk) -> None:
    derived = released(desk, series=1, image_type=("DERIVED", "PRIMARY", "AXIAL"))
    desk.clock.advance(10)
    desk.judge(derived)
    original = desk.receive_scan(10, series=2).series_id
    desk.clock.advance(60)

    assert len(desk.judge(original)) == 1


def test_a_series_without_images_for_a_detector_only_settles(desk: Desk) -> None:
    taken = desk.receive(modality="MR", sop_class_uid="1.2.840.10008.5.1.4.1.1.4")
    desk.clock.advance(60)

    assert desk.judge(taken.series_id) == []
    assert desk.rows("series")[0]["state"] == "complete" and desk.rows("run") == []


def test_a_scan_fetched_only_to_compare_is_never_analysed(desk: Desk) -> None:
    with desk.database.write() as tx:
        assert pulls.mark_prior(tx, uid(1), desk.clock())
    series_id = released(desk)
    desk.clock.advance(60)

    assert desk.judge(series_id) == []
    assert desk.rows("series")[0]["complete_because"] == "prior" and desk.rows("run") == []
