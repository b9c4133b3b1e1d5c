"""Steps follow the list: what a reader takes or gives back there, and what a performer says of its work."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import text

from tests.dicom.hospital import eventually
from tests.factories import uid
from tests.workflow.desk import Desk
from triage.dicom.workitem import PROGRESS
from triage.domain.workitem import StepState
from triage.store import workitems as store
from triage.store.database import Database
from triage.workflow import workitems
from triage.workflow.read import claims

MINE, OTHER = "1.2.3.4", "1.2.3.5"


def steps(desk: Desk) -> list[dict[str, Any]]:
    with desk.database.write() as tx:
        workitems.follow(tx, desk.clock())
    return desk.rows("workitem")


def test_what_a_reader_gives_back_is_canceled_and_scheduled_anew(desk: Desk) -> None:
    desk.flagged()
    assert [s["state"] for s in steps(desk)] == ["SCHEDULED"]
    with desk.database.write() as tx:
        claims.claim(tx, uid(1), "ann", desk.clock())
    assert [s["state"] for s in steps(desk)] == ["IN PROGRESS"]
    with desk.database.write() as tx:
        claims.release(tx, uid(1), "ann", desk.clock())

    old, new = steps(desk)

    assert (old["state"], new["state"]) == ("CANCELED", "SCHEDULED")
    assert old["sop_instance_uid"] != new["sop_instance_uid"]


def test_only_what_is_in_progress_can_be_asked_to_stop(desk: Desk) -> None:
    desk.flagged()
    (step,) = steps(desk)
    with desk.database.write() as tx:
        with pytest.raises(workitems.WrongState, match="nothing is in progress"):
            workitems.ask_cancel(tx, step["sop_instance_uid"], "ben", "mine", desk.clock())
        workitems.start(tx, step["sop_instance_uid"], MINE, "ann", desk.clock())
        workitems.ask_cancel(tx, step["sop_instance_uid"], "ben", "mine", desk.clock())
    assert desk.acts()[-1] == "workitem.cancel_asked"


def test_what_a_performer_says_of_its_progress_is_kept(desk: Desk) -> None:
    desk.flagged()
    (step,) = steps(desk)
    half = {"vr": "SQ", "Value": [{"00741004": {"vr": "DS", "Value": [50]}}]}
    with desk.database.write() as tx:
        workitems.start(tx, step["sop_instance_uid"], MINE, "ann", desk.clock())
        workitems.note(tx, step["sop_instance_uid"], MINE, {PROGRESS: half}, desk.clock())
        assert workitems.finish(tx, step["sop_instance_uid"], MINE, StepState.CANCELED, desk.clock())
        assert not workitems.finish(tx, step["sop_instance_uid"], MINE, StepState.CANCELED, desk.clock())
    assert desk.rows("workitem")[0]["performed"] == {PROGRESS: half}
    assert desk.item()["state"] == "to_read"


@pytest.mark.postgres
def test_of_two_windows_of_one_workstation_that_claim_at_once_one_has_the_step(
    postgres_database: Database,
) -> None:
    desk = Desk(postgres_database)
    desk.flagged()
    (step,) = steps(desk)
    refused: list[str] = []

    def claim_too() -> None:
        with pytest.raises(workitems.WrongState) as why, desk.database.write() as tx:
            workitems.start(tx, step["sop_instance_uid"], OTHER, "dicom:WS1", desk.clock())
        refused.append(str(why.value))

    def waits() -> bool:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with desk.database.read() as tx:
            return bool(tx.execute(query).scalar())

    other = threading.Thread(target=claim_too)
    with desk.database.write() as tx:
        assert workitems.start(tx, step["sop_instance_uid"], MINE, "dicom:WS1", desk.clock())
        other.start()
        eventually(waits)
    other.join(20)

    assert refused == ["the work item was claimed just now"]
    with desk.database.read() as tx:
        held = store.find(tx, step["sop_instance_uid"])
    assert held is not None and held["transaction_uid"] == MINE
