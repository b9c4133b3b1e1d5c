"""A unit of work commits whole or not at all, on both databases."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from tests.factories import NOON
from triage.domain.errors import ReadOnly, Unavailable
from triage.store import events
from triage.store.database import Database


def test_a_unit_of_work_that_raises_leaves_nothing(any_database: Database) -> None:
    with pytest.raises(RuntimeError), any_database.write() as tx:
        events.publish(tx, NOON, "health")
        raise RuntimeError("the process dies here")

    with any_database.read() as tx:
        assert events.last_event_id(tx) == 0


def test_what_was_committed_is_there_for_another_process(any_database: Database) -> None:
    with any_database.write() as tx:
        events.publish(tx, NOON, "health", ok=True)

    other = Database(any_database.url)
    with other.read() as tx:
        assert [e.data for e in events.since(tx, 0)] == [{"ok": True}]
    other.close()


def test_two_writers_at_once_both_succeed(any_database: Database) -> None:
    """A read that turns into a write would fail at once with BUSY_SNAPSHOT; BEGIN IMMEDIATE waits instead."""
    together = threading.Barrier(8)

    def write() -> None:
        together.wait()
        for _ in range(5):
            with any_database.write() as tx:
                events.last_event_id(tx)
                events.publish(tx, NOON, "health")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with any_database.read() as tx:
        assert len(events.since(tx, 0)) == 40


@pytest.mark.postgres
def test_a_number_that_was_asked_for_first_and_committed_last_is_not_missed(
    postgres_database: Database,
) -> None:
    """Whoever resumes after the newest event hears of the unit of work that was still open then (P12)."""
    with postgres_database.write() as slow:
        events.publish(slow, NOON, "health", who="slow")
        with postgres_database.write() as quick:
            events.publish(quick, NOON, "health", who="quick")
        with postgres_database.read() as tx:
            heard = events.since(tx, 0)
        assert [e.data["who"] for e in heard] == ["quick"]

    with postgres_database.read() as tx:
        assert [e.data["who"] for e in events.since(tx, heard[-1].id)] == ["slow"]


@pytest.mark.postgres
def test_of_many_writers_a_page_that_resumes_hears_each_event_once_in_order(
    postgres_database: Database,
) -> None:
    def write(writer: int) -> None:
        for number in range(40):
            with postgres_database.write() as tx:
                events.publish(tx, NOON, "health", writer=writer, number=number)
                tx.execute(text("SELECT pg_sleep(:s)"), {"s": 0.001 * ((writer * 7 + number * 3) % 5)})

    writers = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in writers:
        thread.start()
    heard: list[events.Event] = []
    while True:
        over = not any(thread.is_alive() for thread in writers)
        with postgres_database.read() as tx:
            heard += events.since(tx, heard[-1].id if heard else 0)
        if over:
            break
    assert sorted((e.data["writer"], e.data["number"]) for e in heard) == [
        (w, n) for w in range(6) for n in range(40)
    ]


def test_a_database_that_is_not_there_is_unavailable_without_its_address(tmp_path: Path) -> None:
    nowhere = Database(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}")

    with pytest.raises(Unavailable) as caught, nowhere.read() as tx:
        tx.execute(text("SELECT 1"))

    assert "folder.db" not in str(caught.value)


def test_a_database_that_takes_no_writes_says_so_and_can_be_read(any_database: Database) -> None:
    refuse = "PRAGMA query_only=ON" if any_database.is_sqlite else "SET TRANSACTION READ ONLY"

    def rest(connection: Any, *_: Any) -> None:
        connection.cursor().execute(refuse)

    event.listen(any_database.engine, "checkout", rest)
    with pytest.raises(ReadOnly, match="nothing was changed"), any_database.write() as tx:
        events.publish(tx, NOON, "health")
    assert any_database.read_only_since is not None
    with any_database.read() as tx:
        assert events.last_event_id(tx) == 0
    event.remove(any_database.engine, "checkout", rest)
    any_database.engine.dispose()
    with any_database.write() as tx:
        events.publish(tx, NOON, "health")
    assert any_database.read_only_since is None
