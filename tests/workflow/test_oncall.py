"""The ladder calls who is on call then and there; a part that fell silent is told to operators once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.factories import NOON, a_finding
from tests.workflow.desk import Desk
from triage.domain.alerting import Rung
from triage.domain.errors import Conflict, Refused
from triage.settings import RouteSettings
from triage.store import constancy, deliveries, events, users
from triage.store.database import Database
from triage.workflow.oncall import add_duty, remove_duty
from triage.workflow.read.answers import hand_over
from triage.workflow.read.row import NotFound
from triage.workflow.relay import notice_of, park_removed
from triage.workflow.routes import letterhead
from triage.workflow.sweep import climb_due
from triage.workflow.watch import ring_for_silence

LADDER = (
    Rung(timedelta(0), ("hook",)),
    Rung(timedelta(minutes=5), ("pager",), on_call=1),
    Rung(timedelta(minutes=10), ("pager",), on_call=2),
)
HOURS = timedelta(hours=8)


@pytest.fixture
def desk(database: Database) -> Desk:
    made = Desk(database)
    with database.write() as tx:
        for name in ("anna", "berta", "carla"):
            users.add_user(tx, name, "reader", "x", NOON)
    return made


def duty(
    desk: Desk, person: str, place: int = 1, *, site: str = "SITE", contact: str = "", later: float = 0.0
) -> int:
    starts = NOON - timedelta(hours=1) + timedelta(hours=later)
    with desk.database.write() as tx:
        return add_duty(
            tx, site=site, place=place, person=person, contact=contact, starts_at=starts, ends_at=starts + HOURS,
            by="admin", now=NOON,
        )  # fmt: skip


def climb(desk: Desk, minutes: float) -> None:
    desk.clock.advance(60 * minutes)
    climb_due(desk.database, replace(desk.site, ladder=LADDER), desk.clock, desk.ids)


def test_the_ladder_comes_to_the_first_then_the_second_on_call_of_that_site_and_time(desk: Desk) -> None:
    duty(desk, "anna", contact="anna@hospital.example")
    duty(desk, "berta", 2, contact="berta@hospital.example")
    duty(desk, "carla", site="OTHER")
    duty(desk, "carla", later=8)
    desk.flagged(a_finding())
    seen = []
    for _ in range(2):
        climb(desk, 5)
        seen.append(desk.alerts()[0]["assigned_to"])
    assert seen == ["anna", "berta"]
    called = {d["rung"]: d["recipient"] for d in desk.deliveries() if d["route"] == "pager"}
    assert called == {1: "anna@hospital.example", 2: "berta@hospital.example"}
    assert desk.acts().count("alert.called") == 2
    route = RouteSettings(name="pager", kind="mail", host="localhost", port=25, sender="t@h.example")
    with desk.database.read() as tx:
        row = next(d for d in desk.deliveries() if d["rung"] == 1)
        assert letterhead(route, notice_of(tx, row, desk.site).recipient).recipients == (
            "anna@hospital.example",
        )


def test_whom_a_person_chose_keeps_it_until_the_second_is_called(desk: Desk) -> None:
    duty(desk, "anna")
    duty(desk, "berta", 2)
    desk.flagged(a_finding())
    with desk.database.write() as tx:
        hand_over(tx, 1, "anna", "carla", desk.clock())
    climb(desk, 5)
    assert desk.alerts()[0]["assigned_to"] == "carla"
    climb(desk, 5)
    assert desk.alerts()[0]["assigned_to"] == "berta"


def test_with_nobody_on_call_the_ladder_climbs_all_the_same(desk: Desk) -> None:
    desk.flagged(a_finding())
    climb(desk, 5)
    assert desk.alerts()[0]["step"] == 1 and desk.alerts()[0]["assigned_to"] == ""


def test_a_place_has_one_person_at_a_time(desk: Desk) -> None:
    first = duty(desk, "anna")
    with pytest.raises(Conflict):
        duty(desk, "berta")
    with pytest.raises(Refused, match="reader or lead"):
        duty(desk, "nobody", later=8)
    with desk.database.write() as tx:
        remove_duty(tx, first, "admin", NOON)
        with pytest.raises(NotFound):
            remove_duty(tx, first, "admin", NOON)
    duty(desk, "berta")


def test_a_silent_part_rings_once_for_each_silence(desk: Desk) -> None:
    def ring() -> int:
        with desk.database.write() as tx:
            return ring_for_silence(tx, ["hook"], desk.ids, desk.clock())

    for expected in (1, 1):
        with desk.database.write() as tx:
            events.beat(tx, "scheduler@a", 1, desk.clock())
        assert ring() == 0
        desk.clock.advance(31)
        assert ring() == expected and ring() == 0
    with desk.database.read() as tx:
        told = constancy.due_notice(tx, "hook", desk.clock())
    assert told is not None and told["kind"] == "part.silent" and "scheduler@a" in told["text"]


def test_what_waits_for_a_route_that_is_gone_is_parked_with_the_reason(desk: Desk) -> None:

    desk.flagged(a_finding())
    with desk.database.write() as tx:
        deliveries.sync_routes(tx, [("hook", "webhook")])
        assert park_removed(tx, desk.clock()) == 1
        assert park_removed(tx, desk.clock()) == 0
    states = {d["route"]: (d["state"], d["detail"]) for d in desk.deliveries()}
    assert states["hl7"] == ("parked", "the route was removed from the settings")
    assert states["hook"][0] == "waiting" and "delivery.parked" in desk.acts()


@pytest.mark.parametrize("length", [timedelta(0), timedelta(hours=-1), timedelta(days=32)])
def test_a_duty_ends_after_it_begins_and_within_a_month(desk: Desk, length: timedelta) -> None:
    with desk.database.write() as tx, pytest.raises(Refused, match="within 31 days"):
        add_duty(
            tx, site="SITE", place=1, person="anna", contact="", starts_at=NOON, ends_at=NOON + length, by="admin",
            now=NOON,
        )  # fmt: skip
