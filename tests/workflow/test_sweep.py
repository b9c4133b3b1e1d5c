"""With the broker gone the sweeper alone runs the product (P18), and a wrong clock delays nothing (P17)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from tests.factories import NOON, a_finding
from tests.workflow.desk import Desk
from triage.domain.errors import Unavailable
from triage.store import audit, events, run_queue, worklist
from triage.workflow import sweep as steps
from triage.workflow.read import claims
from triage.workflow.sweep import PATIENCE, climb_due, judge_due, sweep

DAY = timedelta(days=1)


def swept(desk: Desk) -> list[tuple[int, str]]:
    climb_due(desk.database, desk.site, desk.clock, desk.ids)
    with desk.database.write() as tx:
        return sweep(tx, desk.site, desk.ids, desk.clock())


def test_a_run_whose_call_was_lost_is_called_again(any_desk: Desk) -> None:
    any_desk.receive()

    assert swept(any_desk) == [(1, "stat")]
    assert swept(any_desk) == []
    any_desk.clock.advance(PATIENCE.total_seconds() + 1)
    assert swept(any_desk) == [(1, "stat")]
    any_desk.lease(1)
    any_desk.clock.advance(61)  # its worker died
    assert swept(any_desk) == [(1, "stat")]


def test_series_whose_time_has_come_are_judged_one_by_one(desk: Desk) -> None:
    desk.receive_scan(study=1)
    desk.receive_scan(study=2)
    desk.clock.advance(60)

    wake = judge_due(desk.database, desk.site, desk.clock, desk.ids)

    assert sorted(run for run, _ in wake) == [1, 2]
    assert judge_due(desk.database, desk.site, desk.clock) == []


def test_a_claim_that_ran_out_frees_the_study_and_leaves_a_trail(any_desk: Desk) -> None:
    uid = _study_uid(any_desk, any_desk.flagged())
    with any_desk.database.write() as tx:
        claims.claim(tx, uid, "Dr. X", any_desk.clock())
    assert any_desk.item()["state"] == "claimed"
    any_desk.clock.advance(601)
    swept(any_desk)

    assert any_desk.item()["state"] == "to_read"
    with any_desk.database.read() as tx:
        assert [e["act"] for e in audit.events(tx, object_id=uid)][-1] == "claim.expired"
        assert worklist.live_claim(tx, 1, any_desk.clock()) is None


def test_the_feed_is_kept_for_an_hour(desk: Desk) -> None:
    desk.receive()
    desk.clock.advance(3601)
    newest = desk.rows("event")[-1]["id"]
    swept(desk)

    assert [e["id"] for e in desk.rows("event")] == [newest]  # the newest stays: pages resume by id


def _study_uid(desk: Desk, study_id: int) -> str:
    return str(next(s["study_instance_uid"] for s in desk.rows("study") if s["id"] == study_id))


def test_a_series_that_cannot_be_judged_stops_no_other_and_is_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = desk.receive_scan(study=1).series_id
    desk.receive_scan(study=2)
    desk.clock.advance(60)
    judge = steps.complete_series

    def fails(tx: Connection, series_id: int, *rest: Any) -> Any:
        if series_id == broken:
            raise ZeroDivisionError("a header nobody thought of")
        return judge(tx, series_id, *rest)

    monkeypatch.setattr(steps, "complete_series", fails)
    assert len(judge_due(desk.database, desk.site, desk.clock)) == 1
    monkeypatch.setattr(steps, "complete_series", judge)
    assert judge_due(desk.database, desk.site, desk.clock) == []
    desk.clock.advance(60)
    assert len(judge_due(desk.database, desk.site, desk.clock)) == 1


def test_an_outage_while_judging_is_told_to_the_caller(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.receive_scan()
    desk.clock.advance(60)

    def away(*_: Any) -> Any:
        raise Unavailable("the database does not answer")

    monkeypatch.setattr(steps, "complete_series", away)
    with pytest.raises(Unavailable):
        judge_due(desk.database, desk.site, desk.clock)


# --- a clock that was a day ahead, and is set right ----------------------------------------------------------


def test_a_series_that_came_in_the_future_is_judged_in_time(any_desk: Desk) -> None:
    any_desk.clock.now = NOON + DAY
    series_id = any_desk.receive_scan().series_id
    any_desk.judge(series_id)
    any_desk.clock.now = NOON
    swept(any_desk)
    any_desk.clock.advance(60)

    assert judge_due(any_desk.database, any_desk.site, any_desk.clock) == [(1, "routine")]
    assert any_desk.rows("series")[0]["first_instance_at"] == NOON


def test_the_run_of_a_dead_worker_from_the_future_is_taken_by_another(any_desk: Desk) -> None:
    any_desk.clock.now = NOON + DAY
    run_id = any_desk.receive().wake[0][0]
    any_desk.lease(run_id)
    any_desk.clock.now = NOON
    swept(any_desk)
    any_desk.clock.advance(61)

    assert any_desk.lease(run_id) is not None


def test_an_alert_from_the_future_climbs_in_time(any_desk: Desk) -> None:
    any_desk.clock.now = NOON + DAY
    any_desk.flagged(a_finding("pneumothorax"))
    any_desk.clock.now = NOON
    swept(any_desk)
    any_desk.clock.advance(3 * 60)
    swept(any_desk)

    assert any_desk.alerts()[0]["step"] == 1
    assert {
        d["next_attempt_at"] <= any_desk.clock() + timedelta(minutes=7) for d in any_desk.deliveries()
    } == {True}


def test_a_study_that_arrived_in_the_future_stands_where_it_would_have(any_desk: Desk) -> None:
    any_desk.clock.now = NOON + DAY
    any_desk.receive()
    any_desk.clock.now = NOON
    swept(any_desk)

    assert any_desk.item()["arrived_at"] == NOON
    assert any_desk.item()["bound_at"] == NOON + DAY


def test_a_claim_from_the_future_ends_within_its_length(any_desk: Desk) -> None:
    uid = _study_uid(any_desk, any_desk.flagged())
    any_desk.clock.now = NOON + DAY
    with any_desk.database.write() as tx:
        claims.claim(tx, uid, "Dr. X", any_desk.clock())
    any_desk.clock.now = NOON
    swept(any_desk)
    any_desk.clock.advance(601)
    swept(any_desk)

    assert any_desk.rows("claim") == []


def test_the_lease_of_a_leader_from_the_future_is_taken_over(any_desk: Desk) -> None:
    length = timedelta(seconds=10)
    with any_desk.database.write() as tx:
        assert events.take_lease(tx, "relay", "dead", NOON + DAY, length) == 1
        assert events.take_lease(tx, "relay", "new", NOON, length) == 2
        assert events.take_lease(tx, "relay", "other", NOON, length) is None
        assert events.take_lease(tx, "relay", "new", NOON + length / 2, length) == 2
        assert events.take_lease(tx, "relay", "other", NOON + 3 * length, length) == 3


@pytest.mark.parametrize("seconds", [0, 4])
def test_machines_that_differ_by_seconds_change_nothing(desk: Desk, seconds: int) -> None:
    desk.clock.now = NOON + timedelta(seconds=seconds)
    desk.receive_scan()
    before = desk.rows("series")
    desk.clock.now = NOON
    swept(desk)

    assert desk.rows("series") == before


def test_rows_that_wait_while_nobody_takes_them_are_noticed(desk: Desk) -> None:
    patience = timedelta(seconds=60)
    with desk.database.read() as tx:
        assert not run_queue.nobody_takes(tx, NOON, patience)
    desk.receive()
    desk.clock.advance(61)
    with desk.database.read() as tx:
        assert run_queue.nobody_takes(tx, desk.clock(), patience)
    desk.lease(1)
    with desk.database.read() as tx:
        assert not run_queue.nobody_takes(tx, desk.clock(), patience)
        assert tx.execute(text("SELECT count(*) FROM run")).scalar_one() == 1
