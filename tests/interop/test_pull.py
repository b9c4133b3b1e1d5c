"""Archives that are asked: Orthanc and dcmqrscp by C-FIND with C-GET and C-MOVE, Orthanc by QIDO-RS with WADO-RS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pydicom
import pytest

from tests.dicom.builders import ct_slices, film, save, save_all
from tests.dicom.hospital import Hospital
from tests.interop.programs import a_dcmqrscp, a_storescp, an_orthanc, run
from tests.system.product import wait_until
from tests.workflow.desk import Desk
from triage.cli.up import free_port
from triage.dicom.archive import Archive, Dimse
from triage.dicom.archive_web import Web
from triage.dicom.receiver_config import ReceiverLimits
from triage.dicom.send import send
from triage.domain.errors import Unavailable
from triage.settings import PullSettings, Settings
from triage.store import pulls
from triage.store.database import Database
from triage.workflow.inlet import Inlet
from triage.workflow.pull import Puller

pytestmark = [pytest.mark.interop]
SLICES = 5


def scan() -> list[pydicom.Dataset]:
    return ct_slices(SLICES, StudyDate="20260311")


def objects(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [save(film(StudyDate="20260310"), folder / "film.dcm"), *save_all(scan(), folder / "scan")]


@dataclass(frozen=True)
class Shelf:
    """A foreign archive with a film and a scan; moved: where its C-MOVE to TRIAGE arrives."""

    title: str
    dicom_port: int
    moved: Path
    dicomweb: str = ""

    def asked_by(self, method: str) -> Archive:
        if method == "wado":
            return Web(url=self.dicomweb)
        return Dimse(
            host="127.0.0.1", port=self.dicom_port, calling="TRIAGE", called=self.title, method=method
        )


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder = tmp_path_factory.mktemp("orthanc")
    with (
        a_storescp(folder / "scp", title="TRIAGE") as (port, moved),
        an_orthanc(folder, port) as running,
    ):
        running.put(objects(folder))
        yield Shelf("ORTHANC", running.dicom_port, moved, running.dicomweb)


@pytest.fixture(scope="module")
def dcmqrscp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder = tmp_path_factory.mktemp("dcmqrscp")
    with a_storescp(folder / "scp", title="TRIAGE") as (port, moved), a_dcmqrscp(folder, port) as archive:
        sent = send(objects(folder), host="127.0.0.1", port=archive, called="ARCHIVE")
        assert all(s.ok for s in sent)
        yield Shelf("ARCHIVE", archive, moved)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("orthanc", "cget"),
        ("orthanc", "cmove"),
        ("orthanc", "wado"),
        ("dcmqrscp", "cget"),
        ("dcmqrscp", "cmove"),
    ],
)
def test_asked_and_fetched(name: str, method: str, request: pytest.FixtureRequest) -> None:
    shelf: Shelf = request.getfixturevalue(name)
    asked = shelf.asked_by(method)
    (found,) = asked.studies(date(2026, 3, 11), date(2026, 3, 12), modality="CT")
    assert found.study_date == "20260311" and found.patient_id
    assert asked.studies(date(2026, 4, 1), date(2026, 4, 2), modality="CT") == []
    assert len(asked.studies(date(2026, 3, 1), date(2026, 3, 31), patient_id=found.patient_id)) == 2
    (series,) = asked.series(found.study_instance_uid)
    counted = SLICES if name == "orthanc" else 0  # dcmtk does not say how many a series has
    assert (series.modality, series.instances) == ("CT", counted)
    taken: list[str] = []

    count = asked.fetch(series, lambda path: taken.append(pydicom.dcmread(path).SOPInstanceUID))

    if method == "cmove":
        wait_until(lambda: len(list(shelf.moved.iterdir())) == SLICES, 20, "every slice moved")
    else:
        assert sorted(taken) == sorted(ds.SOPInstanceUID for ds in scan())
    assert count == SLICES
    with pytest.raises(Unavailable):
        asked.fetch(type(series)(**{**series.__dict__, "series_instance_uid": "1.2.3"}), lambda _: None)


def test_the_puller_has_dcmqrscp_move_to_our_receiver(database: Database, tmp_path: Path) -> None:
    """The whole way: C-FIND, the wanted list, C-MOVE, and what arrives lies in our folder byte for byte."""
    desk, hospital = Desk(database), Hospital(tmp_path, ReceiverLimits())
    try:
        with a_dcmqrscp(tmp_path / "archive", hospital.port) as port:
            today = f"{desk.clock():%Y%m%d}"
            files = save_all(ct_slices(SLICES, StudyDate=today), tmp_path / "scan")
            assert all(s.ok for s in send(files, host="127.0.0.1", port=port, called="ARCHIVE"))
            archive = Dimse(host="127.0.0.1", port=port, calling="TRIAGE", called="ARCHIVE", method="cmove")
            inlet = Inlet(Settings(home=tmp_path), database, desk.clock, "pull", wake=lambda _: None)
            pull = PullSettings(name="pacs", peer="pacs", modalities=("CT",))
            puller = Puller(pull, archive, database, inlet, desk.clock)
            assert puller.turn() == 1
            assert puller.turn() == 0  # the cursor and the list are rows: nothing is moved twice
    finally:
        hospital.receiver.stop(grace_seconds=2)
    assert {r.sop_instance_uid for r in hospital.received} == {ds.SOPInstanceUID for ds in scan()}
    assert {r.calling_ae_title for r in hospital.received} == {"ARCHIVE"}
    with database.read() as tx:
        assert pulls.wanted(tx, "pacs", desk.clock()) == []


def test_an_archive_that_does_not_know_us_is_told_apart_and_the_error_says_what_to_enter(
    dcmqrscp: Shelf,
) -> None:
    stranger = Dimse(
        host="127.0.0.1", port=dcmqrscp.dicom_port, calling="NEWCOMER", called="ARCHIVE", method="cmove"
    )
    (found,) = stranger.studies(date(2026, 3, 11), date(2026, 3, 12), modality="CT")
    (series,) = stranger.series(found.study_instance_uid)
    with pytest.raises(Unavailable, match=r"A801.*it does not know where NEWCOMER is: enter our host"):
        stranger.fetch(series, lambda _: None)


def test_dcmtk_finds_gets_and_moves_what_we_sent(dcmqrscp: Shelf, tmp_path: Path) -> None:
    """findscu, getscu and movescu as a foreign reader of an archive that our sender filled."""
    hospital = Hospital(tmp_path, ReceiverLimits())
    (tmp_path / "got").mkdir()
    to = ["-aet", "TRIAGE", "-aec", "ARCHIVE", "127.0.0.1", str(dcmqrscp.dicom_port)]
    series = scan()[0].SeriesInstanceUID
    wanted = ["-S", "-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={scan()[0].StudyInstanceUID}"]
    try:
        found = run("findscu", *wanted, "-k", "SeriesInstanceUID", "-k", "Modality=CT", *to)
        assert series in found
        run("getscu", *wanted, "-k", f"SeriesInstanceUID={series}", "-od", str(tmp_path / "got"), *to)
        assert len(list((tmp_path / "got").iterdir())) == SLICES
        with a_dcmqrscp(tmp_path / "second", hospital.port) as port:
            files = save_all(scan(), tmp_path / "scan")
            assert all(s.ok for s in send(files, host="127.0.0.1", port=port, called="ARCHIVE"))
            to[-1] = str(port)
            run("movescu", *wanted, "-k", f"SeriesInstanceUID={series}", "-aem", "TRIAGE", *to)
    finally:
        hospital.receiver.stop(grace_seconds=2)
    got = {pydicom.dcmread(p).SOPInstanceUID for p in (tmp_path / "got").iterdir()}
    assert got == {ds.SOPInstanceUID for ds in scan()} == {r.sop_instance_uid for r in hospital.received}


@pytest.mark.parametrize("client", ["findscu", "getscu", "movescu"])
def test_who_asks_us_for_query_and_retrieve_is_told_that_we_do_not_and_nothing_is_held_up(
    client: str, tmp_path: Path
) -> None:
    hospital = Hospital(tmp_path, ReceiverLimits())
    (tmp_path / "got").mkdir()
    options = {"findscu": [], "getscu": ["-od", str(tmp_path / "got")], "movescu": ["-aem", "ANY"]}[client]
    try:
        said = run(
            client, "-S", *options, "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3",
            "-aec", "TRIAGE", "127.0.0.1", str(hospital.port), fails=True,
        )  # fmt: skip
        assert "presentation context" in said.lower()
        assert hospital.echo() < 2
    finally:
        hospital.receiver.stop(grace_seconds=2)


def test_an_archive_that_is_not_there_is_said_in_time() -> None:
    port = free_port()
    for asked in (
        Dimse(host="127.0.0.1", port=port, calling="T", called="X", method="cget", timeout_seconds=2),
        Web(url=f"http://127.0.0.1:{port}", timeout_seconds=2),
    ):
        with pytest.raises(Unavailable):
            asked.studies(date(2026, 3, 11), date(2026, 3, 12))
