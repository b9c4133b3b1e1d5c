"""A drill walks the real ladder over the real routes, is answered like an alert, and stands in no list or figure."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.factories import NOON, a_finding
from tests.workflow.desk import Desk
from triage.channels.protocol import Answer, Outcome
from triage.domain.alerting import AlertState
from triage.domain.errors import Conflict, Refused
from triage.domain.study import DRILL_PATIENT_ID
from triage.settings import RouteSettings
from triage.store import alerts, constancy, deliveries, drills, measures, reading, users, worklist
from triage.store.removal import aged
from triage.workflow import drill, relay
from triage.workflow.read import answers
from triage.workflow.sweep import climb_due, sweep

HL7 = RouteSettings(name="hl7", kind="mllp", host="localhost", port=2575)


def begin(desk: Desk) -> int:
    with desk.database.write() as tx:
        return drill.begin(tx, desk.site, "admin", desk.ids, desk.clock())


def climb(desk: Desk, minutes: float) -> int:
    desk.clock.advance(60 * minutes)
    return climb_due(desk.database, desk.site, desk.clock, desk.ids)


def report(desk: Desk, alert_id: int) -> dict[str, object]:
    with desk.database.read() as tx:
        held = alerts.get(tx, alert_id)
        assert held is not None
        return drill.report(tx, held)


def test_a_drill_climbs_the_ladder_and_its_acknowledgement_ends_it(any_desk: Desk) -> None:
    alert_id = begin(any_desk)
    assert climb(any_desk, 3) == 1
    with any_desk.database.write() as tx:
        row = next(d for d in deliveries.rows(tx) if d["route"] == "hl7")
        relay.record(tx, row, Answer(Outcome.DELIVERED, "AA"), 0.0, any_desk.clock(), ids=any_desk.ids)
        users.add_user(tx, "ann", "reader", "x", NOON)
        answers.acknowledge(tx, alert_id, "ann", any_desk.clock())
    assert climb(any_desk, 60) == 0

    said = report(any_desk, alert_id)
    assert (said["state"], said["started_by"], said["ended_by"], said["seconds"]) == (
        "acknowledged", "admin", "ann", 180.0,
    )  # fmt: skip
    steps = said["steps"]
    assert isinstance(steps, list)
    assert [(s["step"], [(r["route"], r["state"]) for r in s["routes"]]) for s in steps] == [
        (0, [("hl7", "delivered"), ("hook", "cancelled")]), (1, [("pager", "cancelled")]),
    ]  # fmt: skip
    assert any_desk.acts() == ["drill.started", "alert.escalated", "delivery.delivered", "alert.acknowledged"]


def test_a_drill_is_hidden_wherever_a_phantom_is_but_shown_as_an_open_alert(any_desk: Desk) -> None:
    any_desk.flagged(a_finding())
    alert_id = begin(any_desk)
    end = any_desk.clock() + timedelta(hours=1)
    with any_desk.database.read() as tx:
        assert [a["id"] for a in alerts.listing(tx) if a["drill"]] == [alert_id]
        assert [a["drill"] for a in alerts.listing(tx, drills=False)] == [False]
        assert len(measures.alerts_between(tx, NOON - timedelta(days=1), end)) == 1
        assert [
            s for s in measures.studies_between(tx, NOON - timedelta(days=1), end) if s.study_id != 1
        ] == []
        assert sum(reading.figures(tx)["alerts"].values()) == 1
        assert reading.figures(tx)["studies"] == 1
        assert reading.tab_counts(tx, any_desk.clock())["alerts"] == 1
        assert worklist.find_item(tx, 2) is None
        assert constancy.left_open(tx) == []
        assert all(
            e["study_instance_uid"] is None
            for e in reading.feed(tx, 0)
            if e["data"].get("alert_id") == alert_id
        )
        assert any(e["data"].get("alert_id") == alert_id for e in reading.feed(tx, 0))


def test_its_messages_say_that_it_is_one(desk: Desk) -> None:
    begin(desk)
    with desk.database.write() as tx:
        row = relay.prepare(tx, HL7, replace(desk.site, name="NORTH"), desk.clock())
    assert row is not None
    payload = row["payload"].decode()
    assert "|T|2.5.1" in payload and "DRILL, no patient" in payload and DRILL_PATIENT_ID in payload
    assert "|TRIAGE|NORTH|" in payload  # the receiver sees which site it comes from
    with desk.database.read() as tx:
        assert [d["drill"] for d in deliveries.listing(tx)] == [True, True]


def test_a_drill_that_nobody_answers_is_over_after_the_last_step(desk: Desk) -> None:
    alert_id = begin(desk)
    assert [climb(desk, 60) for _ in range(4)] == [1, 1, 1, 0]
    assert report(desk, alert_id)["state"] == "nobody_answered"
    with desk.database.read() as tx:
        assert alerts.listing(tx) == [] and drills.running(tx) is None


def test_one_drill_at_a_time_and_it_can_be_called_off(desk: Desk) -> None:
    alert_id = begin(desk)
    with pytest.raises(Conflict), desk.database.write() as tx:
        drill.begin(tx, desk.site, "admin", desk.ids, desk.clock())
    with desk.database.write() as tx:
        drill.end(tx, alert_id, "admin", desk.clock())
    with pytest.raises(Refused), desk.database.write() as tx:
        drill.end(tx, alert_id, "admin", desk.clock())
    assert report(desk, alert_id)["state"] == "ended"
    assert {d["state"] for d in desk.deliveries()} == {"cancelled"}
    begin(desk)


def test_a_drill_is_of_a_finding_that_calls_and_an_alert_is_no_drill(desk: Desk) -> None:
    desk.flagged(a_finding())
    with pytest.raises(Refused), desk.database.write() as tx:
        drill.begin(tx, desk.site, "admin", desk.ids, desk.clock(), "nodule")
    with pytest.raises(Refused), desk.database.write() as tx:
        drill.end(tx, 1, "admin", desk.clock())


def test_a_site_without_a_release_cannot_drill_yet(desk: Desk) -> None:
    with desk.database.write() as tx:
        tx.exec_driver_sql("DELETE FROM release")
    with pytest.raises(Refused, match="release"):
        begin(desk)


def test_the_sweeper_and_retention_leave_a_drill_alone_until_it_has_aged(desk: Desk) -> None:
    alert_id = begin(desk)
    with desk.database.write() as tx:
        sweep(tx, desk.site, desk.ids, desk.clock())
        assert alerts.move(tx, alert_id, AlertState.CLOSED, desk.clock())
        assert aged(tx, desk.clock(), 10) == []
        assert aged(tx, desk.clock() + timedelta(seconds=1), 10) == [1]
