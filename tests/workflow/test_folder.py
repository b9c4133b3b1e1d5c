"""Files in a folder: taken when their size rests, moved where their sender sees what became of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dicom.builders import ct_slices, film, save, save_all
from tests.workflow.desk import Desk
from triage.domain.errors import Unavailable
from triage.settings import Settings
from triage.workflow import folder as watched
from triage.workflow.folder import IDLE_LOOKS, WatchedFolder
from triage.workflow.inlet import Inlet


@pytest.fixture
def folder(desk: Desk, tmp_path: Path) -> WatchedFolder:
    settings = Settings(home=tmp_path / "home")
    inlet = Inlet(settings, desk.database, desk.clock, "folder", wake=lambda _: None)
    (tmp_path / "in").mkdir()
    return WatchedFolder(tmp_path / "in", inlet, 2.0, desk.clock)


def test_a_file_is_taken_when_it_rests_and_not_before(
    folder: WatchedFolder, desk: Desk, tmp_path: Path
) -> None:
    whole = save(film(), tmp_path / "film.dcm").read_bytes()
    path = folder.path / "sub" / "film.dcm"
    path.parent.mkdir()
    path.write_bytes(whole[:1000])
    assert folder.look() == 0
    desk.clock.advance(1.5)
    path.write_bytes(whole)  # still being copied
    assert folder.look() == 0
    desk.clock.advance(1.5)
    assert folder.look() == 0
    desk.clock.advance(1)
    assert folder.look() == 1

    assert not path.exists() and (folder.path / "done" / "sub" / "film.dcm").read_bytes() == whole
    assert len(desk.rows("instance")) == 1 and desk.item()["ai_status"] == "requested"
    assert folder.look() == 0


def test_what_is_refused_says_why_and_half_copied_names_are_left(folder: WatchedFolder, desk: Desk) -> None:
    (folder.path / "notes.txt").write_text("no DICOM")
    (folder.path / ".hidden").write_text("")
    (folder.path / "half.part").write_text("")
    (folder.path / "link").symlink_to("/etc/hostname")
    folder.look()
    desk.clock.advance(2)
    assert folder.look() == 1
    assert "not a DICOM file" in (folder.path / "refused" / "notes.txt.reason.txt").read_text()
    assert {p.name for p in folder.path.iterdir()} == {".hidden", "half.part", "link", "refused"}
    (folder.path / "notes.txt").write_text("again")
    folder.look()
    desk.clock.advance(2)
    folder.look()
    assert len(list((folder.path / "refused").glob("notes*.txt"))) == 4  # both, each with its reason


def test_a_scan_in_a_folder_is_judged_when_no_more_comes(folder: WatchedFolder, desk: Desk) -> None:
    save_all(ct_slices(), folder.path / "scan")
    folder.look()
    desk.clock.advance(2)
    assert folder.look() == 12
    assert desk.rows("series")[0]["open_association"].startswith("folder:")
    for _ in range(IDLE_LOOKS):
        desk.clock.advance(1)
        folder.look()
    assert desk.rows("series")[0]["open_association"] == ""


def test_what_cannot_be_kept_now_stays_where_it_is(
    folder: WatchedFolder, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(film(), folder.path / "film.dcm")
    folder.look()
    desk.clock.advance(2)
    monkeypatch.setattr(folder._inlet._spool, "_reserve_bytes", 1 << 60)
    with pytest.raises(Unavailable):
        folder.look()
    assert path.exists() and tmp_path.exists()
    monkeypatch.setattr(folder._inlet._spool, "_reserve_bytes", 0)
    desk.clock.advance(2)
    folder.look()
    desk.clock.advance(2)
    folder.look()
    assert not path.exists() and len(desk.rows("instance")) == 1


def test_a_great_heap_of_files_is_taken_in_portions(
    folder: WatchedFolder, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "MOST_FILES", 3)
    for name in ("a", "b", "c"):
        for number in (1, 2):
            (folder.path / name).mkdir(exist_ok=True)
            (folder.path / name / f"{number}.txt").write_text("no DICOM")
    taken = []
    for _ in range(3):
        folder.look()
        desk.clock.advance(2)
        taken.append(folder.look())
    assert taken == [3, 3, 0] and len(list((folder.path / "refused").rglob("*.reason.txt"))) == 6


def test_a_file_that_its_sender_takes_away_while_we_look_is_forgotten(
    folder: WatchedFolder, desk: Desk, tmp_path: Path
) -> None:
    class Hasty(WatchedFolder):
        def _files(self) -> list[Path]:
            found = super()._files()
            found[0].unlink()
            return found

    (folder.path / "film.dcm").write_text("soon gone")
    assert Hasty(folder.path, folder._inlet, 0.0, desk.clock).look() == 0
    assert folder.look() == 0 and list(folder.path.iterdir()) == []


def test_an_outage_at_the_end_of_a_transfer_stops_no_later_one(
    folder: WatchedFolder, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise Unavailable("the database does not answer")

    def bring(*paths: Path) -> None:
        folder.look()
        desk.clock.advance(2)
        assert folder.look() == len(paths)
        for _ in range(IDLE_LOOKS):
            folder.look()

    slices = ct_slices()
    with monkeypatch.context() as outage:
        outage.setattr(folder._inlet, "end", away)
        bring(*save_all(slices[:6], folder.path / "first"))
    assert desk.rows("series")[0]["open_association"] != ""  # the quiet time ends it then
    bring(*save_all(slices[6:], folder.path / "second"))
    assert desk.rows("series")[0]["open_association"] == "" and len(desk.rows("instance")) == 12
