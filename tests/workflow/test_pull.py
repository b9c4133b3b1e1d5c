"""Archives are asked and fetched from: the cursor and the wanted list are rows, priors are no studies to read."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from tests.dicom.builders import ct_slices, film, save
from tests.workflow.desk import Desk
from triage.dicom.archive import Dimse, FoundSeries, FoundStudy, Take
from triage.dicom.archive_web import Web
from triage.domain.errors import Misconfigured, Unavailable
from triage.settings import PullSettings, Settings
from triage.store import peers, pulls
from triage.workflow.inlet import Inlet
from triage.workflow.parts.collector import pulling
from triage.workflow.pull import GIVE_UP_AFTER, CurrentArchive, Puller, archive_of, is_chest


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
        assert (
            pulls.wanted(tx, "pacs", desk.clock()) == []
            and pulls.failing(tx, "pacs", desk.clock())[0]["detail"] == "down"
        )
    desk.clock.advance(61)
    shelf.down = False
    assert one.turn() == 1 and desk.item()["ai_status"] == "requested"
    shelf.down = True
    for _ in range(GIVE_UP_AFTER):
        one._fetch({**row, "attempts": GIVE_UP_AFTER - 1})
    with desk.database.read() as tx:
        assert [r["state"] for r in pulls.failing(tx, "pacs", desk.clock() - timedelta(days=1))] == ["failed"]


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


# --- where an archive is, and who asks it ------------------------------------------------------------------------


def test_an_archive_is_its_peer_or_its_address_and_what_is_missing_is_named(
    desk: Desk, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path)
    by_peer = PullSettings(name="pacs", peer="pacs")
    with pytest.raises(Misconfigured, match="triage peer add pacs"):
        archive_of(settings, by_peer, desk.database)
    with desk.database.write() as tx:
        peers.add(tx, "pacs", "ARCHIVE", "10.0.0.5", 104, tls=False)
    found = archive_of(settings, by_peer, desk.database)
    assert isinstance(found, Dimse)
    assert (found.host, found.port, found.called, found.method) == ("10.0.0.5", 104, "ARCHIVE", "cmove")

    token = tmp_path / "token"
    by_web = PullSettings(
        name="cloud", method="wado", url="https://pacs.example/dicom-web/", token_file=token
    )
    with pytest.raises(Misconfigured, match="pull cloud: token_file"):
        archive_of(settings, by_web, desk.database)
    token.write_text("secret\n")
    found = archive_of(settings, by_web, desk.database)
    assert isinstance(found, Web)
    assert (found.url, found.token) == ("https://pacs.example/dicom-web", "secret")


@pytest.mark.parametrize(
    ("day", "patient_id"),
    [("", "P1"), ("2026", "P1"), (None, ""), (None, "P*"), (None, "P?1"), (None, "P\\Q")],
)
def test_without_a_day_or_an_id_that_means_one_person_nobodys_priors_are_asked_for(
    desk: Desk, shelf: Shelf, puller: Any, day: str | None, patient_id: str
) -> None:
    found = FoundStudy(
        study_instance_uid="1.2.3", patient_id=patient_id, issuer_of_patient_id="",
        study_date=f"{desk.clock():%Y%m%d}" if day is None else day,
    )  # fmt: skip
    puller(priors_months=12)._ask_priors(found)
    assert shelf.asked == []


def test_a_prior_that_is_here_as_a_study_to_read_stays_one(desk: Desk, shelf: Shelf, puller: Any) -> None:
    old = film(StudyDate="20251101")
    desk.receive(study_instance_uid=old.StudyInstanceUID)
    shelf.objects = [old]
    (found,) = shelf.studies(date(2025, 1, 1), date(2026, 1, 1))
    assert not puller(priors_months=12)._note(found, prior=True)
    with desk.database.read() as tx:
        assert pulls.wanted(tx, "pacs", desk.clock()) == []


def test_one_object_that_cannot_be_taken_costs_no_other_of_its_series(
    desk: Desk, shelf: Shelf, puller: Any
) -> None:
    slices = [of_today(desk, ds) for ds in ct_slices(3)]
    slices[1].SOPClassUID = ""
    shelf.objects = slices
    assert puller().turn() == 1
    assert desk.rows("series")[0]["instance_count"] == 2


def test_the_end_of_a_transfer_that_cannot_be_noted_undoes_no_fetch(
    desk: Desk, shelf: Shelf, puller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.objects = [of_today(desk, film())]

    def away(*_: object, **__: object) -> None:
        raise Unavailable("the database does not answer")

    monkeypatch.setattr(Inlet, "end", away)
    assert puller().turn() == 1
    assert desk.rows("series")[0]["instance_count"] == 1


def test_a_pull_that_is_told_to_stop_ends_within_its_turn() -> None:
    class Endless:
        """A puller whose turn goes on while it may."""

        pull, begun = PullSettings(name="pacs", peer="pacs"), threading.Event()

        def turn(self, may_go_on: Callable[[], bool]) -> int:
            self.begun.set()
            while may_go_on():
                time.sleep(0.001)
            return 0

    thread = pulling(Endless(), lambda: True)  # type: ignore[arg-type]
    thread.start()
    assert Endless.begun.wait(20)
    thread.stopping.set()
    thread.join(20)
    assert not thread.is_alive()


def test_a_peer_that_comes_or_moves_while_we_run_is_asked_where_it_is(desk: Desk, tmp_path: Path) -> None:
    archive = CurrentArchive(
        Settings(home=tmp_path), PullSettings(name="main", peer="pacs", timeout_seconds=2), desk.database
    )
    with pytest.raises(Misconfigured, match="triage peer add pacs"):
        archive.series("1.2")
    with desk.database.write() as tx:
        peers.add(tx, "pacs", "PACS", "127.0.0.1", 1, tls=False)
    with pytest.raises(Unavailable, match="PACS does not take our call"):
        archive.series("1.2")
