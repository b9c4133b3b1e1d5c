"""The indexer as a process of its own: what it is given it indexes, also at the end, and its death is seen."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import ImplicitVRLittleEndian
from sqlalchemy import func, select

from tests.dicom import builders
from tests.workflow.desk import Desk as Department
from tests.workflow.test_indexer import acknowledged, desk_of, is_ours
from triage.dicom.elements import MAX_VALUE_BYTES
from triage.domain.errors import Unavailable
from triage.store import schema
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow import indexer
from triage.workflow.indexer import Desk, recover
from triage.workflow.indexing import IndexerProcess

_TEXTS = ("ProtocolName", "SeriesDescription", "StudyDescription")  # together beyond what a socket buffers


@pytest.fixture
def table(desk: Department, tmp_path: Path) -> Desk:
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    return desk_of(desk, spool)


@pytest.fixture
def working(table: Desk) -> Iterator[IndexerProcess]:
    url = table.database.url
    table.database.engine.dispose()  # no connection may cross a fork

    def make_desk() -> Desk:
        return Desk(**{**vars(table), "database": Database(url)})

    made = IndexerProcess(make_desk)
    yield made
    made.close()


def rows(table: Desk) -> int:
    with table.database.read() as tx:
        return int(tx.execute(select(func.count()).select_from(schema.instance)).scalar_one())


def wait_for_end(working: IndexerProcess) -> int:
    deadline = time.monotonic() + 10
    while working.exit_code is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return working.exit_code


def test_what_was_handed_over_is_indexed_before_the_end(
    table: Desk, working: IndexerProcess, tmp_path: Path
) -> None:
    slices = builders.save_all(builders.ct_slices(5), tmp_path / "ct")
    objects = [acknowledged(table.spool, s, f"1-x.{n}.part") for n, s in enumerate(slices)]
    for received in objects:
        working.put(received)
    working.ended("a", aborted=False)
    working.close()
    assert rows(table) == 5
    assert all(is_ours(table, received) for received in objects)
    with table.database.read() as tx:
        assert tx.execute(select(schema.series.c.open_association)).scalars().all() == [""]


def test_a_signal_that_is_meant_for_the_receiver_does_not_end_it(
    table: Desk, working: IndexerProcess, tmp_path: Path
) -> None:
    film = builders.save(builders.film(), tmp_path / "film.dcm")
    for number in range(2):
        working.put(acknowledged(table.spool, film, f"1-x.{number}.part"))
        time.sleep(0.5)
        os.kill(working.pid, signal.SIGTERM)
    working.close()
    assert rows(table) == 1


def test_a_killed_indexer_is_seen_and_takes_no_more(
    table: Desk, working: IndexerProcess, tmp_path: Path
) -> None:
    received = acknowledged(table.spool, builders.save(builders.film(), tmp_path / "film.dcm"))
    os.kill(working.pid, signal.SIGKILL)
    assert wait_for_end(working) == -signal.SIGKILL
    with pytest.raises(Unavailable):
        working.put(received)
    assert recover(table, [received.path]) == 1  # sealed, so nothing is lost


def test_while_the_index_is_too_far_behind_nothing_more_is_promised(
    table: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = tmp_path / "away"
    away.touch()
    sound = indexer._commit

    def commit(desk: Desk, group):  # type: ignore[no-untyped-def]
        if away.exists():
            raise Unavailable("the database does not answer")
        return sound(desk, group)

    monkeypatch.setattr(indexer, "_commit", commit)
    monkeypatch.setattr(indexer, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(indexer, "BEHIND", 2)
    url = table.database.url
    table.database.engine.dispose()
    working = IndexerProcess(lambda: Desk(**{**vars(table), "database": Database(url)}))
    slices = builders.save_all(builders.ct_slices(3), tmp_path / "ct")
    objects = [acknowledged(table.spool, s, f"1-x.{n}.part") for n, s in enumerate(slices)]
    working.put(objects[0])
    working.put(objects[1])
    _until(lambda: _refused(working, objects[2]))
    away.unlink()
    _until(lambda: not _refused(working, objects[2]))
    working.close()
    assert rows(table) == 3


def test_a_disk_that_cannot_be_flushed_ends_it_with_its_code(
    table: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(Spool, "sync_objects", broken)
    monkeypatch.setattr(indexer, "SETTLE_SECONDS", 0.1)
    url = table.database.url
    table.database.engine.dispose()
    working = IndexerProcess(lambda: Desk(**{**vars(table), "database": Database(url)}))
    received = acknowledged(table.spool, builders.save(builders.film(), tmp_path / "film.dcm"))
    working.put(received)
    assert wait_for_end(working) == 3
    working.close()
    monkeypatch.undo()
    assert recover(table, [received.path]) == 1


@pytest.mark.filterwarnings("ignore:The value length")  # the point of it
def test_a_header_longer_than_a_message_is_read_again_where_it_lies(
    table: Desk, working: IndexerProcess, tmp_path: Path
) -> None:
    longest = "x" * MAX_VALUE_BYTES
    for number, changes in enumerate([{"ProtocolName": longest}, dict.fromkeys(_TEXTS, longest)]):
        film = builders.film(SOPInstanceUID=f"{builders.ROOT}.1.1.{number + 1}", **changes)
        path = builders.save(
            film, tmp_path / "film.dcm", ImplicitVRLittleEndian
        )  # no 64 KiB limit of short VRs
        working.put(acknowledged(table.spool, path, f"1-x.{number}.part"))
    working.close()
    assert working.exit_code == 0
    assert rows(table) == 2


def test_an_error_that_nobody_foresaw_ends_it_so_that_the_receiver_sees_it(
    table: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise KeyError("what no rule foresaw")

    monkeypatch.setattr(indexer.completeness, "association_ended", failing)
    url = table.database.url
    table.database.engine.dispose()
    working = IndexerProcess(lambda: Desk(**{**vars(table), "database": Database(url)}))
    working.ended("a", aborted=False)
    assert wait_for_end(working) == 1
    received = acknowledged(table.spool, builders.save(builders.film(), tmp_path / "film.dcm"))
    assert _refused(working, received)
    working.close()
    assert recover(table, [received.path]) == 1


def _refused(working: IndexerProcess, received) -> bool:  # type: ignore[no-untyped-def]
    try:
        working.put(received)
    except Unavailable:
        return True
    return False


def _until(condition) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
