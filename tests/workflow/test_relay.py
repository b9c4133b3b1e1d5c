"""Delivery at least once, under one key for life, and only a right answer counts (P9, P10)."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.factories import NOON, a_finding
from tests.workflow.desk import Desk
from triage.channels.protocol import Answer, Outcome
from triage.domain.alerting import AlertState, DeliveryState
from triage.domain.errors import Unavailable
from triage.domain.finding import Location, Mode
from triage.settings import RouteSettings
from triage.store import alerts, constancy, deliveries, orders, runs
from triage.store.database import Database
from triage.workflow import relay
from triage.workflow.alert import withdraw
from triage.workflow.relay import RouteThread, deliver_next, notice_of, prepare, record, tell_operator

HL7 = RouteSettings(name="hl7", kind="mllp", host="localhost", port=2575)
HOOK = RouteSettings(name="hook", kind="webhook", url="https://hook", secret_file=Path("key"), operator=True)
CRITICAL = a_finding("pneumothorax", location=Location((), "left", "apex"))
DELIVERED, RETRY = Answer(Outcome.DELIVERED, "AA"), Answer(Outcome.RETRY, "no answer")


class Peer:
    """A channel that keeps what it was sent and answers as it is told, the last answer for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.heard, self.closed = list(answers), [], threading.Event()

    def send(self, payload: bytes, control_id: str) -> Answer:
        self.heard.append((payload, control_id))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        self.closed.set()


def deliver(desk: Desk, peer: Peer, route: RouteSettings = HL7) -> bool:
    return deliver_next(desk.database, route, peer, desk.site, desk.clock, lambda: 0.5)


def test_a_delivery_is_sent_once_and_marked_after_the_answer(any_desk: Desk) -> None:
    any_desk.flagged(CRITICAL)
    peer = Peer(DELIVERED)

    assert deliver(any_desk, peer) and not deliver(any_desk, peer)

    assert len(peer.heard) == 1
    assert any_desk.deliveries()[0]["state"] == "delivered"
    assert any_desk.acts()[-1] == "delivery.delivered"


def test_no_answer_sends_the_same_bytes_under_the_same_key_later(any_desk: Desk) -> None:
    any_desk.flagged(CRITICAL)
    peer = Peer(RETRY, RETRY, DELIVERED)

    assert deliver(any_desk, peer)
    assert not deliver(any_desk, peer)  # not before two seconds and a bit
    for seconds in (3, 5):
        any_desk.clock.advance(seconds)
        assert deliver(any_desk, peer)

    assert len(set(peer.heard)) == 1 and len(peer.heard) == 3
    assert any_desk.deliveries()[0]["attempts"] == 3
    assert [a["outcome"] for a in any_desk.rows("delivery_attempt")] == ["retry", "retry", "delivered"]


def test_a_crash_between_sending_and_recording_sends_the_same_again(desk: Desk) -> None:
    desk.flagged(CRITICAL)
    with desk.database.write() as tx:
        first = prepare(tx, HL7, desk.site, desk.clock())
    with desk.database.write() as tx:
        again = prepare(tx, HL7, desk.site, desk.clock())

    assert first is not None and again is not None
    assert (first["control_id"], first["payload"]) == (again["control_id"], bytes(again["payload"]))


def test_what_a_peer_refuses_is_parked_with_its_reason(desk: Desk) -> None:
    desk.flagged(CRITICAL)
    deliver(desk, Peer(Answer(Outcome.REFUSED, "AE")))

    assert (desk.deliveries()[0]["state"], desk.deliveries()[0]["detail"]) == ("parked", "AE")
    assert not deliver(desk, Peer(DELIVERED))


def test_what_a_peer_refuses_rings_the_operator(desk: Desk) -> None:
    desk.flagged(CRITICAL)
    peer = Peer(Answer(Outcome.REFUSED, "AE"))
    deliver_next(desk.database, HL7, peer, desk.site, desk.clock, lambda: 0.5, operators=("hook",))

    (notice,) = desk.rows("operator_notice")
    assert (notice["kind"], notice["route"]) == ("delivery.parked", "hook") and "AE" in notice["text"]


def test_a_message_that_cannot_be_built_waits_and_lets_others_pass(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.flagged(CRITICAL, study=1)
    desk.clock.advance(1)
    desk.flagged(CRITICAL, study=2)
    build = relay.build

    def fails(route: RouteSettings, notice: Any, mode: Mode, site: str) -> bytes:
        if notice.accession_number == "A1":
            raise KeyError("a name nobody thought of")
        return build(route, notice, mode, site)

    monkeypatch.setattr(relay, "build", fails)
    peer = Peer(DELIVERED)

    assert deliver(desk, peer) and deliver(desk, peer)

    states = [(d["state"], d["attempts"]) for d in desk.deliveries() if d["route"] == "hl7"]
    assert states == [("waiting", 1), ("delivered", 1)] and len(peer.heard) == 1


def test_an_outage_while_preparing_is_told_to_the_caller(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.flagged(CRITICAL)

    def away(*_: Any) -> Any:
        raise Unavailable("the database does not answer")

    monkeypatch.setattr(relay, "prepare", away)
    with pytest.raises(Unavailable):
        deliver(desk, Peer(DELIVERED))


def test_an_answer_that_comes_after_a_recall_still_counts_as_delivered(desk: Desk) -> None:
    desk.flagged(CRITICAL)
    with desk.database.write() as tx:
        row = prepare(tx, HL7, desk.site, desk.clock())
        assert row is not None
        withdraw(tx, 1, 1, "no longer found", desk.ids, desk.clock())
        assert record(tx, row, DELIVERED, 0.0, desk.clock()) is DeliveryState.DELIVERED
    peer = Peer(DELIVERED)
    deliver(desk, peer)

    assert [d["kind"] for d in desk.deliveries()] == ["result", "result", "withdrawal"]
    assert desk.deliveries()[2]["state"] == "delivered"


def test_what_was_cancelled_while_it_was_prepared_is_not_sent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL a recall may commit between the look and the keeping of the bytes."""
    desk.flagged(CRITICAL)
    build = relay.build

    def recalled_meanwhile(*args: Any) -> bytes:
        deliveries.cancel_waiting(writer, 1, relay.MessageKind.RESULT)
        return build(*args)

    monkeypatch.setattr(relay, "build", recalled_meanwhile)
    peer = Peer(DELIVERED)
    with desk.database.write() as writer:
        assert prepare(writer, HL7, desk.site, desk.clock()) is None
    assert not deliver(desk, peer) and peer.heard == []


def test_a_delivery_that_ends_between_look_and_preparation_is_left_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.flagged(CRITICAL)
    monkeypatch.setattr(relay, "prepare", lambda *_: None)

    assert not deliver(desk, Peer(DELIVERED))


@pytest.mark.parametrize(("mode", "side"), [(Mode.TRIAGE_ONLY, ""), (Mode.OVERLAY, "left")])
def test_a_notice_says_where_only_in_overlay_mode(desk: Desk, mode: Mode, side: str) -> None:
    with desk.database.write() as tx:
        orders.add(tx, NOON, accession_number="A1", priority="URGENT", placer_order_number="PL7")
    desk.flagged(a_finding("effusion"), CRITICAL)
    with desk.database.read() as tx:
        notice = notice_of(tx, deliveries.rows(tx)[0], replace(desk.site, mode=mode))

    assert notice.finding_side == side
    assert (notice.patient_id, notice.accession_number, notice.placer_order_number) == ("P1", "A1", "PL7")
    assert notice.detector_release == "chest_xray 1.0.0" and notice.ordered_priority == "URGENT"


def test_the_notice_of_a_recall_names_the_run_that_had_found_it(desk: Desk) -> None:
    desk.flagged(CRITICAL)
    deliver(desk, Peer(DELIVERED))
    with desk.database.write() as tx:
        withdraw(tx, 1, 1, "no longer found", desk.ids, desk.clock())
        alerts.confirm(tx, 1, 1, 0.9, "high")
    peer = Peer(DELIVERED)
    deliver(desk, peer)

    assert len(peer.heard) == 1 and peer.heard[0][0] != b""


def test_an_alert_whose_run_has_no_such_finding_has_no_place(desk: Desk) -> None:
    desk.flagged(CRITICAL)
    empty = desk.receive(instance=2).wake[0][0]
    with desk.database.write() as tx:
        alerts.confirm(tx, 1, empty, 0.9, "high")
        notice = notice_of(tx, deliveries.rows(tx)[0], replace(desk.site, mode=Mode.OVERLAY))
        assert runs.get_run(tx, empty)["finished_at"] is None

    assert notice.finding_side == "" and notice.detected_at == desk.alerts()[0]["raised_at"]


def test_an_operator_is_told_until_the_peer_answers(desk: Desk) -> None:
    with desk.database.write() as tx:
        constancy.add_notice(tx, "constancy.missed", "Triage is not working", "hook", "OP1", desk.clock())
    peer = Peer(RETRY, DELIVERED)

    assert tell_operator(desk.database, HOOK, peer, desk.clock)
    assert not tell_operator(desk.database, HOOK, peer, desk.clock)
    desk.clock.advance(2)
    assert tell_operator(desk.database, HOOK, peer, desk.clock)
    desk.clock.advance(3600)
    assert not tell_operator(desk.database, HOOK, peer, desk.clock)

    assert json.loads(peer.heard[0][0])["text"] == "Triage is not working"
    assert [key for _, key in peer.heard] == ["OP1", "OP1"]


def test_a_route_delivers_while_it_leads_and_survives_whatever_a_peer_or_the_database_does(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("POLL_SECONDS", "REST_SECONDS"):
        monkeypatch.setattr(relay, pause, 0.005)
    desk.flagged(CRITICAL)
    with desk.database.write() as tx:
        constancy.add_notice(tx, "constancy.missed", "Triage is not working", "hook", "OP1", desk.clock())
    peer = Peer(Unavailable("the database is away"), RuntimeError("a bug"), DELIVERED)
    leads = threading.Event()
    thread = RouteThread(desk.database, HOOK, peer, desk.site, desk.clock, leads.is_set)
    thread.start()
    assert peer.heard == []

    leads.set()
    _until(lambda: len(peer.heard) == 4)  # twice in vain, the alert, the operator
    thread.stopping.set()
    thread.join(10)

    assert peer.closed.is_set() and not thread.is_alive()
    assert {d["route"]: d["state"] for d in desk.deliveries()}["hook"] == "delivered"


def test_a_route_for_alerts_alone_tells_no_operator(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "POLL_SECONDS", 0.005)
    asked = threading.Event()
    thread = RouteThread(
        desk.database, HL7, Peer(DELIVERED), desk.site, desk.clock, lambda: asked.set() or True
    )
    thread.start()
    assert asked.wait(10)
    thread.stopping.set()
    thread.join(10)
    assert not thread.is_alive()


def _until(done: Any) -> None:
    deadline = threading.Event()
    for _ in range(2000):
        if done():
            return
        deadline.wait(0.005)
    raise AssertionError("it did not come about in ten seconds")


def test_a_delivery_of_a_peer_far_behind_waits_its_turn(any_database: Database) -> None:
    """The oldest first, and none before its time."""
    desk = Desk(any_database)
    desk.flagged(CRITICAL, study=1)
    desk.clock.advance(1)
    desk.flagged(CRITICAL, study=2)
    with any_database.write() as tx:
        first = deliveries.due(tx, "hl7", desk.clock())
        assert first is not None and first["alert_id"] == 1
        wait = desk.clock() + timedelta(seconds=10)
        deliveries.record_attempt(tx, first["id"], desk.clock(), "retry", "", DeliveryState.WAITING, wait)
        assert deliveries.due(tx, "hl7", desk.clock())["alert_id"] == 2  # type: ignore[index]
        assert alerts.move(tx, 2, AlertState.CLOSED, desk.clock())
