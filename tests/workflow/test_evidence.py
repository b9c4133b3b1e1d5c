"""MPPS and IAN over real associations: exact lists make a series whole at once, or say what is still missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from tests.factories import a_finding, uid
from tests.workflow.desk import Desk
from tests.workflow.door import Door, listed, open_door
from triage.dicom.ian import IAN
from triage.dicom.mpps import MPPS
from triage.store import evidence

STEP = uid("step")


@pytest.fixture
def door(desk: Desk, tmp_path: Path) -> Iterator[Door]:
    with open_door(desk.database, tmp_path, desk.site, desk.clock) as found:
        yield found


def begin(state: str = "IN PROGRESS", study: object = 1) -> Dataset:
    ds, scheduled = Dataset(), Dataset()
    scheduled.StudyInstanceUID = uid(study)
    ds.ScheduledStepAttributesSequence = Items([scheduled])
    ds.PerformedProcedureStepID, ds.PerformedStationAETitle, ds.Modality = "PPS1", "CT1", "CT"
    ds.PerformedProcedureStepStatus = state
    ds.PerformedSeriesSequence = Items([])
    return ds


def end(state: str = "COMPLETED", slices: int = 10, **series: Any) -> Dataset:
    ds, made = Dataset(), Dataset()
    ds.PerformedProcedureStepStatus = state
    made.SeriesInstanceUID = uid(1, 1)
    made.ReferencedImageSequence = listed(*(uid(1, 1, i) for i in range(slices)))
    ds.PerformedSeriesSequence = Items([made])
    for name, value in series.items():
        setattr(ds, name, value)
    return ds


def create(door: Door, ds: Dataset, step: str | None = STEP) -> Any:
    with door.calling(MPPS) as association:
        return association.send_n_create(ds, MPPS, step)


def change(door: Door, ds: Dataset, step: str = STEP) -> Dataset:
    with door.calling(MPPS) as association:
        return association.send_n_set(ds, MPPS, step)[0]  # type: ignore[no-any-return]


def test_the_end_of_a_step_makes_its_series_whole_while_the_association_is_open(
    desk: Desk, door: Door
) -> None:
    desk.receive_scan(10, association_id="node:1")
    assert create(door, begin())[0].Status == 0
    assert door.woken == []
    assert change(door, end()).Status == 0
    assert door.woken == [(1, "routine")]
    row = desk.rows("series")[0]
    assert (row["complete_because"], row["expected_count"]) == ("every listed instance is here", 10)
    assert "step.completed" in desk.acts()


def test_a_step_that_ends_before_its_images_come_is_kept_for_them(desk: Desk, door: Door) -> None:
    create(door, begin())
    change(door, end(slices=12))
    series_id = desk.receive_scan(11).series_id
    desk.clock.advance(60)  # by quiet time alone it would be whole
    assert desk.judge(series_id) == []
    assert desk.rows("series")[0]["state"] == "receiving"
    desk.receive(modality="CT", instance=11)
    assert desk.rows("series")[0]["judge_at"] == desk.clock()
    assert desk.judge(series_id) == [(1, "routine")]


def test_as_many_as_listed_but_not_the_listed_ones_is_not_whole(desk: Desk, door: Door) -> None:
    create(door, begin())
    change(door, end(slices=10))
    for number in range(1, 11):  # ten, but the first of the list is missing and one stands in no list
        series_id = desk.receive(modality="CT", instance=number).series_id
    assert desk.judge(series_id) == []
    desk.clock.advance(120)
    desk.judge(series_id)
    assert desk.item()["ai_reason"] == "INCOMPLETE_AT_LIMIT"


def test_statuses_of_a_step(desk: Desk, door: Door) -> None:
    assert create(door, begin("COMPLETED"))[0].Status == 0x0106
    without = begin()
    del without.ScheduledStepAttributesSequence
    assert create(door, without)[0].Status == 0x0120
    assert change(door, end()).Status == 0x0112
    assert create(door, begin())[0].Status == 0
    assert create(door, begin())[0].Status == 0  # said again, word for word
    assert create(door, begin(study=2))[0].Status == 0x0111
    assert change(door, end("DONE")).Status == 0x0106
    assert change(door, end("DISCONTINUED")).Status == 0
    assert change(door, end("DISCONTINUED")).Status == 0
    late = change(door, end("COMPLETED"))
    assert (late.Status, late.ErrorID) == (0x0110, 0xA710)
    assert [r["state"] for r in desk.rows("performed_step")] == ["DISCONTINUED"]
    status, _ = create(door, begin(study=3), None)
    assert status.Status == 0 and len(desk.rows("performed_step")) == 2


def test_a_modality_that_lists_nothing_says_nothing(desk: Desk, door: Door) -> None:
    create(door, begin())
    assert change(door, end(slices=0)).Status == 0
    series_id = desk.receive_scan(10).series_id
    desk.judge(series_id)
    assert desk.rows("series")[0]["expected_count"] is None


def notice(study: object = 1, *, here: range = range(10), gone: range = range(0)) -> Dataset:
    ds, series = Dataset(), Dataset()
    ds.ReferencedPerformedProcedureStepSequence = Items([])
    ds.StudyInstanceUID, series.SeriesInstanceUID = uid(study), uid(1, 1)
    series.ReferencedSOPSequence = listed(*(uid(1, 1, i) for i in (*here, *gone)))
    for number, item in zip((*here, *gone), series.ReferencedSOPSequence, strict=True):
        item.InstanceAvailability = "UNAVAILABLE" if number in gone else "ONLINE"
        item.RetrieveAETitle = "PACS"
    ds.ReferencedSeriesSequence = Items([series])
    return ds


def notify(door: Door, ds: Dataset, notice_uid: str | None = uid("notice")) -> int:
    with door.calling(IAN, aet="PACS") as association:
        return int(association.send_n_create(ds, IAN, notice_uid)[0].Status)


def test_what_the_archive_has_ends_the_waiting(desk: Desk, door: Door) -> None:
    desk.receive_scan(10, association_id="node:1")
    assert notify(door, notice()) == 0
    assert door.woken == [(1, "routine")]
    assert notify(door, notice()) == 0  # said again
    assert notify(door, notice(here=range(9))) == 0x0111
    assert len(desk.rows("listed_series")) == 1
    assert desk.acts().count("availability.heard") == 1


def test_what_the_archive_can_no_longer_give_is_not_waited_for(desk: Desk, door: Door) -> None:
    assert notify(door, notice(here=range(12)), None) == 0
    series_id = desk.receive_scan(10).series_id
    desk.clock.advance(60)
    assert desk.judge(series_id) == []
    assert notify(door, notice(here=range(0), gone=range(10, 12)), None) == 0
    assert door.woken == [(1, "routine")]
    assert desk.rows("series")[0]["expected_count"] == 10


def test_a_notification_without_study_or_instances_is_refused(door: Door) -> None:
    nameless, empty = notice(), notice()
    del nameless.StudyInstanceUID
    empty.ReferencedSeriesSequence = Items([])
    assert notify(door, nameless) == 0x0120
    assert notify(door, empty) == 0x0121


def test_lists_of_a_study_that_never_comes_are_forgotten(desk: Desk, door: Door) -> None:
    create(door, begin())
    change(door, end())
    with desk.database.write() as tx:
        evidence.forget(tx, desk.clock())
        assert evidence.listed(tx, uid(1, 1)) is not None
        evidence.forget(tx, desk.clock.advance(1))
        assert evidence.listed(tx, uid(1, 1)) is None
    assert desk.rows("performed_step") == []


def test_a_step_under_another_patients_entry_stops_its_alerts(desk: Desk, door: Door) -> None:
    film = desk.flagged(a_finding("pneumothorax", 0.95))
    assert film == 1 and desk.alerts()[0]["state"] == "open"
    wrong = Dataset()
    wrong.CodeValue, wrong.CodingSchemeDesignator, wrong.CodeMeaning = (
        "110514",
        "DCM",
        "Incorrect worklist entry",
    )
    create(door, begin())
    ended = end(
        "DISCONTINUED", slices=2, PerformedProcedureStepDiscontinuationReasonCodeSequence=Items([wrong])
    )
    assert change(door, ended).Status == 0
    assert desk.alerts()[0]["state"] == "withdrawn"
    assert desk.item()["state"] == "withdrawn" and "instances.rejected" in desk.acts()


def test_a_step_that_goes_on_ends_no_waiting(desk: Desk, door: Door) -> None:
    desk.receive_scan(10)
    create(door, begin())
    assert change(door, end("IN PROGRESS")).Status == 0
    assert door.woken == [] and desk.rows("series")[0]["expected_count"] is None
    assert "step.completed" not in desk.acts()


def test_an_archive_that_has_nothing_of_a_series_does_not_end_its_waiting(desk: Desk, door: Door) -> None:
    desk.receive_scan(10)
    assert notify(door, notice(here=range(0), gone=range(10))) == 0
    assert door.woken == [] and desk.rows("series")[0]["expected_count"] is None
