"""What may be in an archive is taken back, however the attempts after it ended; a note names its whole set once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.pacs import a_pacs
from tests.workflow.test_named_anew import merge, named, notes, states
from tests.workflow.test_sending import Way
from triage.dicom import stow_send
from triage.domain.dispatch import SEND_ATTEMPTS_MAX
from triage.store import dispatches, schema
from triage.store.database import Database
from triage.store.dispatches import Due
from triage.workflow import taking_back


def at_port(database: Database, port: int) -> None:
    with database.write() as tx:
        tx.execute(schema.peer.update().values(port=port))


@pytest.mark.parametrize("next_time", ["away", "full"])
def test_what_an_archive_stored_without_a_word_is_taken_back_after_an_attempt_in_vain(
    database: Database, tmp_path: Path, next_time: str
) -> None:
    with a_pacs(mute=1) as pacs:
        way = Way(database, tmp_path, pacs.port, objects=("sr",), rejection_notes=True)
        way.sender.turn()
        (stored,) = pacs.stored
        way.clock.advance(20)
        if next_time == "away":
            at_port(database, 1)
        else:
            pacs.statuses += [0xA700]
        way.sender.turn()
        at_port(database, pacs.port)
        merge(database)
        way.bench.publisher.turn()
        for _ in range(3):
            way.clock.advance(100)
            way.sender.turn()
        (note,) = notes(pacs)
        assert named(note) == {stored}
        assert states(way)[0] == ("sr", 0, "withdrawn")


def test_what_was_given_up_and_may_be_there_is_taken_back(database: Database, tmp_path: Path) -> None:
    with a_pacs(mute=1) as pacs:
        way = Way(database, tmp_path, pacs.port, objects=("sr",), rejection_notes=True)
        way.sender._want()
        with database.write() as tx:
            tx.execute(schema.dispatch.update().values(attempts=SEND_ATTEMPTS_MAX - 1))
        way.sender.turn()
        assert [s for _, _, s in states(way)] == ["parked"]
        (stored,) = pacs.stored
        merge(database)
        way.bench.publisher.turn()
        way.sender.turn()
        way.sender.turn()
        (note,) = notes(pacs)
        assert named(note) == {stored}


def test_what_a_web_service_took_without_a_word_on_it_may_be_there(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stow_send, "request", lambda *_: (200, b"{}"))
    way = Way(database, tmp_path, 1, by="stow", url="http://127.0.0.1:1/dicom-web")
    way.sender.turn()
    assert all(row["begun_at"] is not None and row["state"] == "wanted" for row in way.rows().values())


def test_a_note_names_all_of_its_set_however_much_a_turn_takes(
    any_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking_back, "BATCH", 1)
    with a_pacs() as pacs:
        way = Way(any_database, tmp_path, pacs.port, rejection_notes=True)
        way.bench.completed(2)
        way.bench.publisher.turn()
        way.sender.turn()
        old = set(pacs.stored)
        merge(any_database)
        merge(any_database, "P2", "P8", key="m2")
        way.bench.publisher.turn()
        for _ in range(3):
            way.sender.turn()
        assert len(old) == 4 and [len(named(n)) for n in notes(pacs)] == [2, 2]
        assert set().union(*map(named, notes(pacs))) == old


def test_a_report_that_comes_while_the_note_is_made_costs_a_turn_and_not_its_completeness(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = taking_back._note

    def overtaken(database: Database, settings: Any, peer: str, there: Sequence[Due], *more: Any) -> Any:
        with database.write() as tx:
            dispatches.move(tx, there[1], "committed")
        monkeypatch.undo()
        return make(database, settings, peer, there, *more)

    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port, rejection_notes=True)
        way.sender.turn()
        old = set(pacs.stored)
        merge(database)
        way.bench.publisher.turn()
        monkeypatch.setattr(taking_back, "_note", overtaken)
        way.sender.turn()
        assert [s for _, _, s in states(way)][:2] == ["sent", "committed"]
        assert not list(way.settings.outputs.rglob("note-*"))
        way.sender.turn()
        assert [s for _, _, s in states(way)][:2] == ["withdrawn", "withdrawn"]
        (note,) = notes(pacs)
        assert named(note) == old
