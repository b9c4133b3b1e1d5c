"""Acknowledged objects reach the index: in groups, once, and after any crash between the steps."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tests.dicom import builders
from tests.workflow.desk import Desk as Department
from triage.dicom.folder import IncomingFolder, abandoned
from triage.dicom.header import check_header
from triage.dicom.receiver_config import ReceivedObject
from triage.domain.errors import Unavailable
from triage.store import schema
from triage.store.spool import Spool
from triage.workflow import indexer
from triage.workflow.indexer import Desk, Indexer, index, recover, settle
from triage.workflow.parts.receiver import seal


class Calls:
    def __init__(self) -> None:
        self.made: list[tuple[int, str]] = []

    def wake(self, calls: list[tuple[int, str]]) -> None:
        self.made += calls


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool")
    made.prepare()
    return made


@pytest.fixture
def table(desk: Department, spool: Spool) -> Desk:
    return desk_of(desk, spool)


def desk_of(department: Department, spool: Spool) -> Desk:
    return Desk(
        database=department.database,
        spool=spool,
        site=department.site,
        waker=Calls(),  # type: ignore[arg-type]
        clock=department.clock,
        receiver_id="here/1",
    )


def ignore(_: bool) -> None:
    """Nobody asks whether the index follows."""


def acknowledged(
    spool: Spool, source: Path, name: str = "1-x.0.part", association: str = "a"
) -> ReceivedObject:
    """The file as the receiver leaves it when it has answered 0000."""
    data = source.read_bytes()
    path = spool.incoming / name
    path.write_bytes(data)
    received = ReceivedObject(
        path,
        hashlib.sha256(data).hexdigest(),
        len(data),
        check_header(path),
        "CT1",
        "TRIAGE",
        association,
        "127.0.0.1",
    )
    with path.open("ab") as file:
        file.write(seal(received))
    return received


def count(table: Desk, of) -> int:  # type: ignore[no-untyped-def]
    with table.database.read() as tx:
        return int(tx.execute(select(func.count()).select_from(of)).scalar_one())


def is_ours(table: Desk, received: ReceivedObject) -> bool:
    """On disk under its digest, whole, without seal, and nothing left in the incoming folder."""
    data = table.spool.path(received.digest).read_bytes()
    return hashlib.sha256(data).hexdigest() == received.digest and not received.path.exists()


def test_a_group_becomes_rows_and_files_in_one_transaction(table: Desk, tmp_path: Path) -> None:
    slices = builders.save_all(builders.ct_slices(5), tmp_path / "ct")
    objects = [acknowledged(table.spool, s, f"1-x.{n}.part") for n, s in enumerate(slices)]
    settle(table.spool, index(table, objects))
    assert count(table, schema.instance) == 5
    assert all(is_ours(table, o) for o in objects)


def test_the_same_object_twice_is_one_row(table: Desk, tmp_path: Path) -> None:
    film = builders.save(builders.film(), tmp_path / "film.dcm")
    twins = [acknowledged(table.spool, film, f"1-x.{n}.part") for n in range(2)]
    settle(table.spool, index(table, twins))
    settle(table.spool, index(table, [acknowledged(table.spool, film, "1-x.2.part")]))
    assert count(table, schema.instance) == 1
    assert count(table, schema.quarantine) == 0
    assert all(is_ours(table, o) for o in twins)
    assert table.waker.made, "a film asks for its run"  # type: ignore[attr-defined]


def test_the_same_uid_with_other_bytes_is_kept_aside(table: Desk, tmp_path: Path) -> None:
    first = acknowledged(table.spool, builders.save(builders.film(), tmp_path / "a.dcm"), "1-x.0.part")
    other = builders.save(builders.film(ImageComments="other"), tmp_path / "b.dcm")
    second = acknowledged(table.spool, other, "1-x.1.part")
    settle(table.spool, index(table, [first, second]))
    assert count(table, schema.instance) == 1
    assert count(table, schema.quarantine) == 1
    assert is_ours(table, first) and is_ours(table, second)


@pytest.mark.parametrize(
    "crash_in", ["os.link", "_commit", "os.truncate", "Spool.sync_objects", "Path.unlink"]
)
def test_a_crash_between_any_two_steps_is_made_good_at_the_next_start(
    crash_in: str, table: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies in the step named; what the kernel has done stays, the next one recovers."""
    slices = builders.save_all(builders.ct_slices(3), tmp_path / "ct")
    objects = [acknowledged(table.spool, s, f"999-dead.{n}.part") for n, s in enumerate(slices)]

    class Killed(BaseException):
        pass

    def dies(*_: object, **__: object) -> None:
        raise Killed

    owner, name = crash_in.split(".") if "." in crash_in else ("", crash_in)
    place = {"os": os, "Spool": Spool, "Path": Path, "": indexer}[owner]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, dies)
        with pytest.raises(Killed):
            settle(table.spool, index(table, objects))
    with abandoned(table.spool.incoming) as left:
        recover(table, left)
    assert count(table, schema.instance) == 3
    for received in objects:
        assert is_ours(table, received)
    assert list(table.spool.incoming.iterdir()) == []


def test_power_lost_before_a_place_was_durable(table: Desk, tmp_path: Path) -> None:
    """The rows were committed and the seal is off, but the name by content never reached the disk."""
    received = acknowledged(
        table.spool, builders.save(builders.film(), tmp_path / "f.dcm"), "999-dead.0.part"
    )
    index(table, [received])
    table.spool.path(received.digest).unlink()
    with abandoned(table.spool.incoming) as left:
        assert recover(table, left) == 1
    assert is_ours(table, received)


def test_what_was_never_acknowledged_is_not_recovered(table: Desk, tmp_path: Path) -> None:
    film = builders.save(builders.film(), tmp_path / "film.dcm")
    shutil.copy(film, table.spool.incoming / "999-dead.0.part")
    torn = acknowledged(table.spool, film, "999-dead.1.part")
    with torn.path.open("r+b") as file:
        file.seek(1000)
        file.write(b"\0" * 512)
    with abandoned(table.spool.incoming) as left:
        assert recover(table, left) == 0
    assert count(table, schema.instance) == 0
    assert list(table.spool.incoming.iterdir()) == []


def test_files_of_a_living_process_are_its_own(table: Desk, tmp_path: Path) -> None:
    sibling = IncomingFolder(table.spool.incoming)
    film = builders.save(builders.film(), tmp_path / "film.dcm")
    theirs = acknowledged(table.spool, film, sibling.new_file().name)
    with abandoned(table.spool.incoming) as left:
        assert recover(table, left) == 0
    assert theirs.path.exists()
    sibling.close()


def test_one_that_cannot_be_indexed_holds_up_no_other_and_is_kept(
    table: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = builders.save_all(builders.ct_slices(3), tmp_path / "ct")
    objects = [acknowledged(table.spool, s, f"1-x.{n}.part") for n, s in enumerate(slices)]
    sound = indexer.intake_group

    def picky(tx, arrivals, *rest):  # type: ignore[no-untyped-def]
        if any(arrival.digest == objects[1].digest for arrival in arrivals):
            raise KeyError("a bug")
        return sound(tx, arrivals, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(indexer, "intake_group", picky)
        index(table, objects)
    assert count(table, schema.instance) == 2
    assert [p.name for p in table.spool.aside.iterdir()] == [f"{objects[1].digest}.dcm"]
    assert recover(table, []) == 1  # the next version has no such bug
    assert count(table, schema.instance) == 3
    assert list(table.spool.aside.iterdir()) == []


def test_a_database_that_is_away_delays_and_then_refuses_new_promises(
    table: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = builders.save_all(builders.ct_slices(4), tmp_path / "ct")
    objects = [acknowledged(table.spool, s, f"1-x.{n}.part") for n, s in enumerate(slices)]
    away, tried = [True], threading.Event()
    sound = indexer._commit

    def commit(desk: Desk, group):  # type: ignore[no-untyped-def]
        if away[0]:
            tried.set()
            raise Unavailable("the database does not answer")
        return sound(desk, group)

    monkeypatch.setattr(indexer, "_commit", commit)
    monkeypatch.setattr(indexer, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(indexer, "BEHIND", 3)
    said: list[bool] = []
    working = Indexer(table, pytest.fail, said.append)
    for received in objects[:3]:
        working.put(received)
    assert True in said, "no more may be promised"
    assert tried.wait(10)
    away[0] = False
    deadline = time.monotonic() + 30
    while said[-1]:  # the rows are there a moment before it is said
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert count(table, schema.instance) == 3
    working.put(objects[3])
    working.ended("a", aborted=False)
    working.close()
    assert count(table, schema.instance) == 4
    with table.database.read() as tx:
        assert tx.execute(select(schema.series.c.open_association)).scalars().all() == [""]


def test_a_folder_that_cannot_be_flushed_ends_the_process_and_loses_nothing(
    table: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = acknowledged(table.spool, builders.save(builders.film(), tmp_path / "film.dcm"))
    told: list[Exception] = []

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "sync_objects", broken)
        working = Indexer(table, told.append, ignore)
        working.put(received)
        working.close()
    assert [getattr(error, "errno", None) for error in told] == [errno.EIO]
    with abandoned(table.spool.incoming) as left:
        assert recover(table, left) == 1
    assert is_ours(table, received)


# --- the odd ends of a transfer ----------------------------------------------------------------------------------


def test_a_series_that_cannot_be_judged_at_its_end_costs_no_other_and_no_index(
    table: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = builders.ct_slices(4)
    for number, ds in enumerate(slices):  # two series of two
        ds.SeriesInstanceUID = f"{ds.StudyInstanceUID}.{5 + number // 2}"
    paths = builders.save_all(slices, tmp_path / "ct")
    index(table, [acknowledged(table.spool, path, f"1-x.{n}.part") for n, path in enumerate(paths)])
    judged = []
    sound = indexer.complete_series

    def judge(tx, series_id, *rest):  # type: ignore[no-untyped-def]
        judged.append(series_id)
        if len(judged) == 1:
            raise KeyError("what no rule foresaw")
        return sound(tx, series_id, *rest)

    monkeypatch.setattr(indexer, "complete_series", judge)
    working = Indexer(table, pytest.fail, ignore)
    working.ended("a", aborted=False)
    working.close()
    assert len(judged) == 2


def test_an_error_that_nobody_foresaw_is_told_and_loses_nothing(
    table: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = acknowledged(table.spool, builders.save(builders.film(), tmp_path / "film.dcm"))
    told: list[Exception] = []

    def failing(*_: object) -> None:
        raise KeyError("what no rule foresaw")

    with monkeypatch.context() as patch:
        patch.setattr(indexer.completeness, "association_ended", failing)
        working = Indexer(table, told.append, ignore)
        working.put(received)
        working.ended("a", aborted=False)
        working.close()
    assert [type(error) for error in told] == [KeyError]
    with abandoned(table.spool.incoming) as left:
        assert recover(table, left) == 1
    assert is_ours(table, received)


def test_who_is_asked_to_stop_while_the_database_is_away_stops_and_leaves_the_seals(
    table: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = builders.save_all(builders.ct_slices(1), tmp_path / "ct")
    received = acknowledged(table.spool, source)
    tried = threading.Event()

    def away(*_: object) -> None:
        tried.set()
        raise Unavailable("the database does not answer")

    monkeypatch.setattr(indexer, "_commit", away)
    working = Indexer(table, pytest.fail, ignore)
    working.put(received)
    assert tried.wait(20)
    working.close()
    monkeypatch.undo()
    assert count(table, schema.instance) == 0
    assert recover(table, [received.path]) == 1 == count(table, schema.instance)


def test_a_sealed_file_that_cannot_be_read_is_kept_under_another_name(table: Desk, tmp_path: Path) -> None:
    """Sealed by other code than ours, or read by a version that knew more."""
    (source,) = builders.save_all(builders.ct_slices(1), tmp_path / "ct")
    data = b"no DICOM at all" * 20
    strange = replace(
        acknowledged(table.spool, source), digest=hashlib.sha256(data).hexdigest(), size=len(data)
    )
    strange.path.write_bytes(data + seal(strange))
    assert recover(table, [strange.path]) == 0
    assert [p.name for p in table.spool.aside.iterdir()] == [f"{strange.digest}.unreadable"]


def test_where_nothing_is_to_settle_nothing_is_flushed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spool, "sync_objects", lambda _: pytest.fail("a flush for nothing"))
    settle(spool, [])


def test_an_empty_file_was_never_acknowledged(table: Desk) -> None:
    empty = table.spool.incoming / "1-x.0.part"
    empty.touch()
    assert recover(table, [empty]) == 0 == count(table, schema.instance)


def test_the_end_of_a_transfer_that_brought_nothing_changes_nothing(table: Desk) -> None:
    working = Indexer(table, pytest.fail, ignore)
    working.ended("nobody", aborted=True)
    working.close()
    assert count(table, schema.series) == 0


def test_a_film_waits_for_no_slice_that_came_after_it(
    table: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both come while the indexer is at work: the last of them alone must not decide for how long it gathers."""
    films = [builders.save(builders.film(SOPInstanceUID=f"1.2.3.{n}"), tmp_path / f"{n}.dcm") for n in (1, 2)]
    (of_ct,) = builders.save_all(builders.ct_slices(1), tmp_path / "ct")
    objects = [acknowledged(table.spool, s, f"1-x.{n}.part") for n, s in enumerate((*films, of_ct))]
    at_work, go_on = threading.Event(), threading.Event()
    sound = indexer._commit

    def commit(desk: Desk, group):  # type: ignore[no-untyped-def]
        at_work.set()
        assert go_on.wait(60)
        return sound(desk, group)

    monkeypatch.setattr(indexer, "_commit", commit)
    monkeypatch.setattr(indexer, "GATHER_SECONDS", 3_600.0)
    working = Indexer(table, pytest.fail, ignore)
    working.put(objects[0])
    assert at_work.wait(60)
    working.put(objects[1])
    working.put(objects[2])
    go_on.set()
    deadline = time.monotonic() + 30
    while count(table, schema.instance) < 3:
        assert time.monotonic() < deadline, "the film waits for the neighbours of a slice"
        time.sleep(0.02)
    working.close()
