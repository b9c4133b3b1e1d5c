"""What may be in an archive is taken back, however the attempts after it ended; a note names its whole set once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pacs import a_pacs
from tests.workflow.test_named_anew import merge, named, notes, states
from tests.workflow.test_sending import Way
from triage.dicom import stow_send
from triage.domain.dispatch import SEND_ATTEMPTS_MAX
from triage.store import schema
from triage.store.database import Database


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
