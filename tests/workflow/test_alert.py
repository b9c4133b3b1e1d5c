"""Alerts equal findings, climb every rung once, and end only by a person or a recall (P9, I8, I9, I12)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, update

from tests.factories import a_finding
from tests.workflow.desk import LADDER, Desk
from triage.channels.protocol import Answer, Outcome
from triage.domain.alerting import AlertState
from triage.domain.errors import Unavailable
from triage.domain.study import CONSTANCY_PATIENT_PREFIX
from triage.store import alerts, audit, deliveries, schema
from triage.workflow import alert as alert_steps
from triage.workflow import relay, sweep
from triage.workflow.alert import close_alerts, withdraw
from triage.workflow.sweep import climb_due

CRITICAL = a_finding("pneumothorax")


def climb(desk: Desk) -> int:
    return climb_due(desk.database, desk.site, desk.clock, desk.ids)


def test_only_a_critical_finding_calls_somebody(desk: Desk) -> None:
    desk.flagged(a_finding("consolidation"), a_finding("pneumothorax", 0.4))

    assert desk.alerts() == [] and desk.item()["priority_class"] == 2


def test_a_second_film_confirms_the_alert_and_calls_nobody_again(any_desk: Desk) -> None:
    any_desk.flagged(a_finding(probability=0.8), instance=1)
    any_desk.flagged(a_finding(probability=0.95), instance=2)

    (alert,) = any_desk.alerts()
    assert (alert["run_id"], alert["probability"]) == (2, 0.95)
    assert len(any_desk.deliveries()) == 2


def test_the_ladder_climbs_one_rung_at_a_time_and_is_exhausted_at_the_end(any_desk: Desk) -> None:
    any_desk.flagged(CRITICAL)
    assert climb(any_desk) == 0
    any_desk.clock.advance(3 * 60)
    assert climb(any_desk) == 1 and climb(any_desk) == 0
    assert [d["route"] for d in any_desk.deliveries()] == ["hl7", "hook", "pager"]
    any_desk.clock.advance(60 * 60)
    assert [climb(any_desk) for _ in range(3)] == [1, 1, 0]

    assert any_desk.alerts()[0]["state"] == "exhausted" and any_desk.alerts()[0]["step"] == 2
    assert any_desk.acts()[2:] == ["alert.escalated", "alert.escalated", "alert.exhausted"]


def test_an_exhausted_alert_can_still_be_acknowledged_and_an_acknowledged_one_climbs_no_more(
    desk: Desk,
) -> None:
    desk.flagged(CRITICAL)
    with desk.database.write() as tx:
        assert alerts.move(tx, 1, AlertState.EXHAUSTED, desk.clock())
        assert alerts.move(tx, 1, AlertState.ACKNOWLEDGED, desk.clock(), by="Dr. X")
        assert not alerts.move(tx, 1, AlertState.ACKNOWLEDGED, desk.clock(), by="Dr. Y")
    desk.clock.advance(600)

    assert climb(desk) == 0 and desk.alerts()[0]["acknowledged_by"] == "Dr. X"


def test_a_move_by_an_old_version_is_refused(desk: Desk) -> None:
    desk.flagged(CRITICAL)
    with desk.database.write() as tx:
        assert not alerts.move(tx, 1, AlertState.ACKNOWLEDGED, desk.clock(), by="X", version=99)
        assert alerts.move(tx, 1, AlertState.ACKNOWLEDGED, desk.clock(), by="X", version=1)


def test_who_climbs_at_the_same_time_climbs_once(desk: Desk) -> None:
    """The ladder is read, then stepped: a rung that another climbed meanwhile is left alone."""
    desk.flagged(CRITICAL)
    desk.clock.advance(600)
    with desk.database.write() as tx:
        seen = alerts.open_alerts(tx)
        assert alerts.climb(tx, 1, 1, desk.clock())
        assert not alerts.climb(tx, 1, 1, desk.clock())
    assert seen[0]["step"] == 0


def test_a_newer_run_without_the_finding_recalls_its_alert(any_desk: Desk) -> None:
    for slices in (10, 11):
        series_id = any_desk.receive_scan(slices).series_id
        any_desk.clock.advance(60)
        ((run_id, _),) = any_desk.judge(series_id)
        any_desk.analyse(run_id, *([CRITICAL] if slices == 10 else []))

    assert [a["state"] for a in any_desk.alerts()] == ["withdrawn"]
    assert any_desk.item()["priority_class"] == 0


def test_an_alert_that_ended_meanwhile_is_neither_climbed_nor_closed_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the step somebody else was faster: the row count says so."""
    study_id = desk.flagged(CRITICAL)
    monkeypatch.setattr(alerts, "climb", lambda *_: False)
    monkeypatch.setattr(alerts, "move", lambda *_, **__: False)
    desk.clock.advance(3 * 60)
    assert climb(desk) == 0
    with desk.database.write() as tx:
        tx.execute(update(schema.alert).values(step=2))
        assert close_alerts(tx, study_id, "Dr. X", "final report", desk.clock()) == 0
    desk.clock.advance(60 * 60)

    assert climb(desk) == 0 and desk.acts() == ["alert.raised", "run.completed"]


def test_a_recall_stops_what_was_not_sent_and_corrects_what_was(any_desk: Desk) -> None:
    any_desk.flagged(CRITICAL)
    with any_desk.database.write() as tx:
        deliveries.keep_payload(tx, 1, b"sent to hl7")
        withdraw(tx, 1, 1, "no longer found", any_desk.ids, any_desk.clock())
        withdraw(tx, 1, 1, "a second time", any_desk.ids, any_desk.clock())

    told = [(d["route"], d["kind"], d["state"]) for d in any_desk.deliveries()]
    assert told == [
        ("hl7", "result", "waiting"), ("hook", "result", "cancelled"), ("hl7", "withdrawal", "waiting"),
    ]  # fmt: skip
    with any_desk.database.read() as tx:
        assert deliveries.due(tx, "hl7", any_desk.clock())["kind"] == "result"  # type: ignore[index]


def test_a_report_closes_the_alert_and_the_same_finding_calls_nobody_again(desk: Desk) -> None:
    study_id = desk.flagged(CRITICAL)
    with desk.database.write() as tx:
        assert close_alerts(tx, study_id, "Dr. X", "final report", desk.clock()) == 1
        assert close_alerts(tx, study_id, "Dr. X", "final report", desk.clock()) == 0
    desk.flagged(CRITICAL, instance=2)

    assert [a["state"] for a in desk.alerts()] == ["closed"]


def test_the_alert_of_a_constancy_study_is_told_to_nobody(desk: Desk) -> None:
    desk.flagged(CRITICAL, patient_id=f"{CONSTANCY_PATIENT_PREFIX}-DX", quality_control_image="YES")
    desk.clock.advance(600)

    assert desk.alerts()[0]["state"] == "open" and desk.deliveries() == []
    assert climb(desk) == 0
    with desk.database.read() as tx:
        assert alerts.listing(tx) == []


def test_a_route_that_is_no_longer_configured_is_switched_off(desk: Desk) -> None:
    with desk.database.write() as tx:
        deliveries.sync_routes(tx, [("hook", "mllp")])

    assert {r["name"]: (r["kind"], r["enabled"]) for r in desk.rows("route")} == {
        "hook": ("mllp", True), "hl7": ("webhook", False), "pager": ("webhook", False),
    }  # fmt: skip


def test_an_alert_that_cannot_be_climbed_stops_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.flagged(CRITICAL, study=1)
    desk.flagged(CRITICAL, study=2)
    desk.clock.advance(3 * 60)
    climb_one = sweep.climb

    def fails(tx: Connection, alert_id: int, *rest: Any) -> bool:
        if alert_id == 1:
            raise ZeroDivisionError("a row that nobody thought of")
        return climb_one(tx, alert_id, *rest)

    monkeypatch.setattr(sweep, "climb", fails)
    assert climb(desk) == 1
    assert [desk.alerts(study)[0]["step"] for study in (1, 2)] == [0, 1]
    monkeypatch.setattr(sweep, "climb", climb_one)
    assert climb(desk) == 1


def test_an_outage_while_climbing_is_told_to_the_caller(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.flagged(CRITICAL)
    desk.clock.advance(3 * 60)

    def away(*_: Any) -> bool:
        raise Unavailable("the database does not answer")

    monkeypatch.setattr(sweep, "climb", away)
    with pytest.raises(Unavailable):
        climb(desk)


def test_who_refuses_for_good_is_not_waited_for(any_desk: Desk) -> None:
    any_desk.flagged(CRITICAL)
    refuse(any_desk, "hl7")
    assert any_desk.alerts()[0]["step"] == 1
    assert [d["route"] for d in any_desk.deliveries()] == ["hl7", "hook", "pager"]
    refuse(any_desk, "hook")  # of the rung that was left already: one rung for all that failed on it
    assert any_desk.alerts()[0]["step"] == 1
    with any_desk.database.read() as tx:
        said = [e["detail"] for e in audit.events(tx) if e["act"] == "alert.escalated"]
    assert said == [{"step": 1, "why": "route hl7 failed for good"}]
    any_desk.clock.advance(5 * 60)
    assert climb(any_desk) == 1  # later rungs keep their times


def test_nobody_is_called_for_a_refused_word_about_an_alert_that_somebody_took(desk: Desk) -> None:
    desk.flagged(CRITICAL)
    with desk.database.write() as tx:
        alerts.move(tx, 1, AlertState.ACKNOWLEDGED, desk.clock(), by="Dr. X")
    refuse(desk, "hl7")
    assert desk.alerts()[0]["step"] == 0


def refuse(desk: Desk, route: str) -> None:
    row = next(d for d in desk.deliveries() if d["route"] == route and d["state"] == "waiting")
    with desk.database.write() as tx:
        relay.record(
            tx, row, Answer(Outcome.REFUSED, "AE"), 0.0, desk.clock(), ids=desk.ids, ladder=desk.site.ladder
        )


def test_an_alert_whose_time_has_not_come_stays_on_its_rung(desk: Desk) -> None:
    desk.flagged(CRITICAL)
    with desk.database.write() as tx:
        for alert_id in (1, 99):  # one that waits, one that is not there
            assert not alert_steps.climb(tx, alert_id, LADDER, timedelta(0), desk.ids, desk.clock())

    assert desk.alerts()[0]["step"] == 0 and len(desk.deliveries()) == 2


def test_a_correction_that_was_not_sent_yet_says_the_newest_by_itself(desk: Desk) -> None:
    study_id = desk.flagged(CRITICAL)
    with desk.database.write() as tx:
        deliveries.keep_payload(tx, 1, b"sent to hl7")
        for _ in range(2):
            alert_steps.correct(tx, 1, study_id, "open", desk.ids, desk.clock())

    assert [d["route"] for d in desk.deliveries() if d["kind"] == "correction"] == ["hl7"]
