"""Archives are asked and fetched from: the cursor and the wanted list are rows, priors are no studies to read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from tests.dicom.builders import ct_slices, film, save
from tests.workflow.desk import Desk
from triage.dicom.archive import FoundSeries, FoundStudy, Take
from triage.domain.errors import Unavailable
from triage.settings import PullSettings, Settings
from triage.store import pulls
from triage.workflow.inlet import Inlet
from triage.workflow.pull import GIVE_UP_AFTER, Puller, is_chest


class Shelf:
    """An archive in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.objects = folder, list[Dataset]()
        self.down = False
        self.asked: list[tuple[date, date, str, str]] = []
        self.fetched: list[str] = []

    def studies(
        self, since: date, until: date, *, modality: str = "", patient_id: str = ""
    ) -> list[FoundStudy]:
        if self.down:
            raise Unavailable("down")
        self.asked.append((since, until, modality, patient_id))
        return list({
            ds.StudyInstanceUID: FoundStudy(
                study_instance_uid=ds.StudyInstanceUID, patient_id=ds.PatientID, issuer_of_patient_id="",
                study_date=ds.StudyDate,
            )
            for ds in self.objects
            if f"{since:%Y%m%d}" <= ds.StudyDate <= f"{until:%Y%m%d}" and ds.Modality == (modality or ds.Modality)
            and ds.PatientID == (patient_id or ds.PatientID)
        }.values())  # fmt: skip

    def series(self, study_instance_uid: str) -> list[FoundSeries]:
        found: dict[str, FoundSeries] = {}
        for ds in self.objects:
            if ds.StudyInstanceUID == study_instance_uid:
                count = sum(o.SeriesInstanceUID == ds.SeriesInstanceUID for o in self.objects)
                found[ds.SeriesInstanceUID] = FoundSeries(
                    study_instance_uid=study_instance_uid, series_instance_uid=ds.SeriesInstanceUID,
                    modality=ds.Modality, body_part_examined=ds.BodyPartExamined, series_description="", instances=count,
                )  # fmt: skip
        return list(found.values())

    def fetch(self, series: FoundSeries, take: Take) -> int:
        if self.down:
            raise Unavailable("down")
        mine = [ds for ds in self.objects if ds.SeriesInstanceUID == series.series_instance_uid]
        for ds in mine:
            take(save(ds, self.folder / "one.dcm"))
        self.fetched.append(series.series_instance_uid)
        return len(mine)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    folder = tmp_path / "shelf"
    folder.mkdir()
    return Shelf(folder)


@pytest.fixture
def puller(desk: Desk, tmp_path: Path, shelf: Shelf) -> Callable[..., Puller]:
    def make(**values: Any) -> Puller:
        inlet = Inlet(
            Settings(home=tmp_path / "home"), desk.database, desk.clock, "pull", wake=lambda _: None
        )
        return Puller(
            PullSettings(name="pacs", peer="pacs", **values), shelf, desk.database, inlet, desk.clock
        )

    yield make
    shutil.rmtree(tmp_path / "home", ignore_errors=True)


def of_today(desk: Desk, ds: Dataset) -> Dataset:
    ds.StudyDate = f"{desk.clock():%Y%m%d}"
    return ds


def test_a_new_study_is_fetched_once_and_again_when_it_grows(desk: Desk, shelf: Shelf, puller: Any) -> None:
    slices = [of_today(desk, ds) for ds in ct_slices(14)]
    shelf.objects = slices[:12]
    one = puller()
    assert one.turn() == 1
    desk.clock.advance(60)
    assert one.turn() == 0  # the windows overlap
    assert desk.rows("series")[0]["instance_count"] == 12 and desk.rows("series")[0]["open_association"] == ""
    shelf.objects = slices
    assert puller().turn() == 1  # after a restart
    assert desk.rows("series")[0]["instance_count"] == 14
    assert desk.item()["state"] in ("arriving", "to_read")


def test_what_an_archive_does_not_give_is_tried_again_ever_more_slowly_and_then_left(
    desk: Desk, shelf: Shelf, puller: Any
) -> None:
    shelf.objects = [of_today(desk, film())]
    one = puller()
    one._ask()
    shelf.down = True
    with desk.database.read() as tx:
        (row,) = pulls.wanted(tx, "pacs", desk.clock())
    assert not one._fetch(row)
    with desk.database.read() as tx:
        assert pulls.wanted(tx, "pacs", desk.clock()) == [] and pulls.failing(tx)[0]["detail"] == "down"
    desk.clock.advance(61)
    shelf.down = False
    assert one.turn() == 1 and desk.item()["ai_status"] == "requested"
    shelf.down = True
    for _ in range(GIVE_UP_AFTER):
        one._fetch({**row, "attempts": GIVE_UP_AFTER - 1})
    with desk.database.read() as tx:
        assert [r["state"] for r in pulls.failing(tx)] == ["failed"]


def test_an_archive_that_is_away_leaves_the_cursor_so_that_nothing_is_missed(
    desk: Desk, shelf: Shelf, puller: Any
) -> None:
    one = puller(overlap_minutes=0)
    one.turn()
    first = desk.clock()
    shelf.down = True
    for _ in range(3):
        desk.clock.advance(86_400)
        with pytest.raises(Unavailable):
            one.turn()
    shelf.down = False
    shelf.asked.clear()
    puller(overlap_minutes=0).turn()
    assert {asked[0] for asked in shelf.asked} == {first.astimezone().date()}
    assert {asked[2] for asked in shelf.asked} == {"CR", "DX", "CT"}


def test_priors_come_for_comparison_and_are_not_read_or_analysed(
    desk: Desk, shelf: Shelf, puller: Any
) -> None:
    def another(number: int, day: str, **values: Any) -> Dataset:
        uid = f"1.2.826.0.1.3680043.10.9999.{number}"
        return film(
            StudyInstanceUID=uid,
            SeriesInstanceUID=uid + ".1",
            SOPInstanceUID=uid + ".1.1",
            StudyDate=day,
            **values,
        )

    today = f"{desk.clock():%Y%m%d}"
    shelf.objects = [
        another(10, today), another(11, "20251101"), another(12, "20251001"), another(13, "20250901"),
        another(14, "20251101", PatientID="SOMEBODY ELSE"), another(15, "20100101"),
    ]  # fmt: skip

    assert puller(priors_months=12).turn() == 3

    with desk.database.read() as tx:
        held = {r["study_instance_uid"].rsplit(".", 1)[1]: r["id"] for r in desk.rows("study")}
        assert set(held) == {"10", "11", "12"}  # the two latest of the same person
        assert [pulls.is_prior(tx, f"1.2.826.0.1.3680043.10.9999.{n}") for n in (10, 11)] == [False, True]
    assert [i["study_id"] for i in desk.rows("worklist_item")] == [held["10"]]
    assert {r["study_id"] for r in desk.rows("run")} == {held["10"]}
    assert {s["complete_because"] for s in desk.rows("series") if s["study_id"] != held["10"]} == {"prior"}


@pytest.mark.parametrize(
    ("part", "described", "wanted"),
    [
        ("CHEST", "", True),
        ("ABDOMEN", "", False),
        ("", "CT CHEST LUNG", True),
        ("", "BRAIN", True),
        ("", "", True),
    ],
)
def test_chest_by_part_else_by_description(part: str, described: str, wanted: bool) -> None:
    one = FoundSeries(
        study_instance_uid="1", series_instance_uid="1", modality="CT", body_part_examined=part,
        series_description=described, instances=1,
    )  # fmt: skip
    assert is_chest(one, ()) is wanted
    if not part and described == "BRAIN":
        assert not is_chest(one, ("CHEST",))
