"""Messages that are worked once more, by a person or after an outage; answers that nobody asked for; orders that ask for
nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hl7.messages import an_orm, message, msh, pid
from tests.workflow.desk import Desk
from tests.workflow.test_inbox import error_of, inbox, kept, order_of, send
from triage.domain.errors import Refused, Unavailable
from triage.store import audit, messages
from triage.store.database import Database


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def replay(desk: Desk, message_id: int) -> None:
    with desk.database.write() as tx:
        inbox(desk).work_in(tx, message_id, "ada")


def parked(desk: Desk, monkeypatch: pytest.MonkeyPatch, raw: bytes) -> int:
    """A message that a mistake of ours stopped, which is mended by now; its row."""
    with monkeypatch.context() as patch:
        patch.setattr("triage.workflow.inbox.orders_of", lambda _: 1 / 0)
        send(desk, raw)
    return int(kept(desk, states=("parked",))[0]["id"])


def test_a_person_has_a_parked_message_worked_and_the_trail_says_who(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay(desk, parked(desk, monkeypatch, an_orm()))
    assert order_of(desk)["priority"] == "STAT" and kept(desk)[0]["state"] == "applied"
    with desk.database.read() as tx:
        (event,) = [e for e in audit.events(tx) if e["act"] == "message.replayed"]
    assert event["actor"] == "ada"


def test_what_still_stands_against_a_message_is_told_and_nothing_changes(desk: Desk) -> None:
    send(desk, message(msh("ORM^O01"), pid(), "ORC|QQ|1"))
    (row,) = kept(desk)
    with pytest.raises(Refused, match="order control"):
        replay(desk, row["id"])
    assert kept(desk) == [row]


def test_a_message_that_is_not_there_is_refused(desk: Desk) -> None:
    with pytest.raises(Refused, match="no such message"):
        inbox(desk).work_again(7)
    with pytest.raises(Refused, match="no such message"):
        replay(desk, 7)


def test_what_could_never_be_read_is_refused_again_and_not_worked(desk: Desk) -> None:
    send(desk, message(msh("RDS^O13"), pid()))  # a kind that we do not take
    (row,) = kept(desk)
    verdict = inbox(desk).work_again(row["id"])
    assert (verdict.state, verdict.code.value) == ("refused", "AR")
    assert kept(desk)[0]["state"] == "refused"


def test_a_database_that_is_away_leaves_the_message_to_be_worked_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Any) -> None:
        raise Unavailable("the database does not answer")

    with monkeypatch.context() as patch:
        patch.setattr("triage.workflow.inbox.orders_of", away)
        assert error_of(desk, an_orm())[0] == "AR"
    assert kept(desk)[0]["state"] == "received"
    desk.clock.advance(61)
    assert inbox(desk).work_left() == 1
    assert order_of(desk)["priority"] == "STAT"


def test_a_connection_hands_its_frames_over_with_the_address_they_came_from(desk: Desk) -> None:
    (answer,) = inbox(desk).of_peer("10.0.0.9")(an_orm())
    assert b"|AA|" in answer.replace(b"\r", b"|")
    with desk.database.read() as tx:
        row = messages.get(tx, kept(desk)[0]["id"])
    assert row is not None and row["address"] == "10.0.0.9"


def test_a_sender_that_wants_no_answer_gets_none_alone_and_in_a_batch(desk: Desk) -> None:
    assert send(desk, message(msh("RDS^O13", more="|||NE|NE"), pid())) == []
    batch = b"BHS|^~\\&|RIS\r" + an_orm(more="|||NE|NE") + b"BTS|1\r"
    assert list(inbox(desk).answers(batch)) == []
    assert order_of(desk)["priority"] == "STAT"


def test_an_order_without_a_patient_is_an_order_all_the_same(desk: Desk) -> None:
    lines = [line for line in an_orm().decode().split("\r") if line and not line.startswith("PID")]
    assert send(desk, message(*lines)) == ["AA"]
    assert order_of(desk)["priority"] == "STAT" and order_of(desk)["patient_id"] is None


def test_an_order_control_that_asks_for_nothing_makes_no_order(desk: Desk) -> None:
    assert send(desk, an_orm("HD")) == ["AA"]
    assert kept(desk)[0]["state"] == "ignored" and desk.rows("order") == []
