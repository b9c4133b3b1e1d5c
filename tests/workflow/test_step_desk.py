"""The reading list as UPS over DIMSE: found, read, claimed, reported, followed; by a workstation of pynetdicom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import AE, evt

from tests.factories import a_finding, uid
from tests.workflow.desk import Desk
from tests.workflow.door import Door, open_door
from tests.workflow.test_reconcile import merge, who
from triage.dicom.ups import PULL, WATCH, read_query
from triage.dicom.workitem import UPS_EVENT, UPS_PUSH
from triage.settings import Settings
from triage.store import peers, worklist
from triage.store import subscriptions as store
from triage.store.subscriptions import FILTERED, GLOBAL
from triage.workflow import subscriptions, workitems
from triage.workflow.read import claims
from triage.workflow.step_events import StepEvents

MINE, OTHER = "1.2.3.4", "1.2.3.5"


@pytest.fixture
def door(desk: Desk, tmp_path: Path) -> Iterator[Door]:
    desk.flagged(a_finding("pneumothorax", 0.95))
    desk.flagged(study=2)
    with open_door(desk.database, tmp_path, desk.site, desk.clock) as found:
        yield found


def found(door: Door, **keys: Any) -> list[Dataset]:
    query = Dataset()
    for keyword, value in {"ProcedureStepState": "", "StudyInstanceUID": "", **keys}.items():
        setattr(query, keyword, value)
    with door.calling(PULL) as association:
        answers = list(association.send_c_find(query, PULL))
    assert answers[-1][0].Status == 0
    return [ds for _, ds in answers[:-1]]


def act(door: Door, step: str, kind: int, context: str = PULL, **said: Any) -> int:
    ds = Dataset()
    for keyword, value in said.items():
        setattr(ds, keyword, value)
    with door.calling(context, aet="WS1") as association:
        status, _ = association.send_n_action(ds or None, kind, UPS_PUSH, step, meta_uid=context)
    return int(status.Status)


def state(door: Door, step: str, wanted: str, transaction: str = MINE) -> int:
    return act(door, step, 1, ProcedureStepState=wanted, TransactionUID=transaction)


def say(door: Door, step: str, ds: Dataset) -> int:
    with door.calling(PULL, aet="WS1") as association:
        return int(association.send_n_set(ds, UPS_PUSH, step, meta_uid=PULL)[0].Status)


def performed(transaction: str = MINE) -> Dataset:
    ds, done, code = Dataset(), Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "WS1", "L", "workstation 1"
    done.PerformedStationNameCodeSequence = done.PerformedWorkitemCodeSequence = Items([code])
    done.PerformedProcedureStepStartDateTime = done.PerformedProcedureStepEndDateTime = "20260314120000"
    done.OutputInformationSequence = Items([])
    ds.TransactionUID, ds.UnifiedProcedureStepPerformedProcedureSequence = transaction, Items([done])
    return ds


def test_the_list_is_found_in_its_order_with_what_was_asked(door: Door) -> None:
    every = found(door, ScheduledProcedureStepPriority="")
    assert [ds.ScheduledProcedureStepPriority for ds in every] == ["HIGH", "MEDIUM"]
    assert [ds.StudyInstanceUID for ds in every] == [uid(1), uid(2)]
    assert all("PatientName" not in ds and "TransactionUID" not in ds for ds in every)
    assert [ds.StudyInstanceUID for ds in found(door, PatientID="P2")] == [uid(2)]
    request = Dataset()
    request.AccessionNumber = "A1"
    assert [ds.StudyInstanceUID for ds in found(door, ReferencedRequestSequence=Items([request]))] == [uid(1)]
    assert found(door, ProcedureStepState="COMPLETED") == []
    with door.calling(WATCH) as association:
        step = every[0].SOPInstanceUID
        status, ds = association.send_n_get([0x00100010], UPS_PUSH, step, meta_uid=WATCH)
        assert status.Status == 0 and ds.PatientName == "Doe^Jane" and "StudyInstanceUID" not in ds
        assert association.send_n_get([], UPS_PUSH, "1.2.9", meta_uid=WATCH)[0].Status == 0xC307


def test_a_key_that_is_not_matched_is_said() -> None:
    query = Dataset()
    query.ProcedureStepState, query.WorklistLabel = ["SCHEDULED", "IN PROGRESS"], "mine"
    query.PatientID = "*"
    asked = read_query(query)
    assert asked.ignored and asked.matches == {"states": ["SCHEDULED", "IN PROGRESS"]}


def test_a_step_is_claimed_reported_and_final(desk: Desk, door: Door) -> None:
    step = found(door)[0].SOPInstanceUID
    assert say(door, step, performed()) == 0xC310
    assert state(door, step, "COMPLETED") == 0xC310
    assert state(door, step, "SCHEDULED") == 0xC303
    assert state(door, step, "IN PROGRESS") == 0
    assert desk.item()["state"] == "claimed"
    assert state(door, step, "IN PROGRESS") == 0xC302
    assert state(door, step, "IN PROGRESS", OTHER) == 0xC302
    assert state(door, step, "COMPLETED", OTHER) == 0xC301
    assert state(door, step, "COMPLETED") == 0xC304
    assert say(door, step, performed(OTHER)) == 0xC301
    assert say(door, step, performed()) == 0
    assert act(door, step, 2, WATCH) == 0  # somebody asks its performer to stop
    assert state(door, step, "COMPLETED") == 0
    assert (desk.item()["state"], desk.item()["report_state"]) == ("read", "final")
    assert state(door, step, "COMPLETED") == 0xB306
    assert state(door, step, "CANCELED") == 0xC300
    assert act(door, step, 2, WATCH) == 0xC311
    assert act(door, step, 9) == 0x0123
    assert act(door, step, 1) == 0x0120


@contextmanager
def a_listener() -> Iterator[tuple[int, list[tuple[int, str, str]]]]:
    """(port, what it heard) of a workstation that takes events."""
    heard: list[tuple[int, str, str]] = []

    def hear(event: Any) -> tuple[int, None]:
        request, ds = event.request, event.event_information
        heard.append((request.EventTypeID, request.AffectedSOPInstanceUID, ds.ProcedureStepState))
        return 0, None

    ae = AE("WS1")
    ae.add_supported_context(UPS_EVENT, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, hear)])
    try:
        yield server.server_address[1], heard
    finally:
        server.shutdown()


def test_a_workstation_that_subscribed_is_called_and_nothing_is_lost_while_it_is_away(
    desk: Desk, door: Door, tmp_path: Path
) -> None:
    first, second = (ds.SOPInstanceUID for ds in found(door))
    seconds = [0.0]
    events = StepEvents(desk.database, Settings(home=tmp_path), desk.clock, lambda: seconds[0])
    assert act(door, GLOBAL, 3, WATCH, ReceivingAE="WS1", DeletionLock="FALSE") == 0xC308
    assert act(door, GLOBAL, 3, WATCH, DeletionLock="FALSE") == 0x0120
    with a_listener() as (port, heard):
        with desk.database.write() as tx:
            peers.add(tx, "ws1", "WS1", "127.0.0.1", port, tls=False)
        assert act(door, GLOBAL, 3, WATCH, ReceivingAE="WS1", DeletionLock="TRUE") == 0xB301
        assert events.turn() == 2
        assert {h[1] for h in heard} == {first, second} and {h[2] for h in heard} == {"SCHEDULED"}
        assert events.turn() == 0
    state(door, first, "IN PROGRESS")
    assert events.turn() == 0  # nobody answers
    with a_listener() as (port, heard):
        with desk.database.write() as tx:
            peers.remove(tx, "ws1")
            peers.add(tx, "ws1", "WS1", "127.0.0.1", port, tls=False)
        assert events.turn() == 0  # it is not asked again each second
        seconds[0] = 61.0
        assert events.turn() == 1 and heard == [(1, first, "IN PROGRESS")]
        assert act(door, first, 5, WATCH, ReceivingAE="WS1") == 0xC314
        assert act(door, GLOBAL, 5, WATCH, ReceivingAE="WS1") == 0
        assert act(door, second, 4, WATCH, ReceivingAE="WS1") == 0
        state(door, second, "IN PROGRESS", OTHER)
        assert events.turn() == 0
        assert act(door, GLOBAL, 4, WATCH, ReceivingAE="WS1") == 0


def test_a_step_that_waits_cannot_be_stopped_nor_put_into_a_state_that_there_is_not(
    desk: Desk, door: Door
) -> None:
    step = found(door)[0].SOPInstanceUID
    assert act(door, step, 2, WATCH) == 0xC313  # nobody performs it
    assert state(door, step, "DONE") == 0x0106
    assert say(door, step, nameless()) == 0xC310
    assert state(door, step, "IN PROGRESS") == 0
    assert say(door, step, nameless()) == 0xC301  # whose is it?
    assert state(door, step, "CANCELED") == 0
    assert act(door, step, 2, WATCH) == 0xB304
    assert desk.item()["state"] == "to_read"


def nameless() -> Dataset:
    ds = performed()
    del ds.TransactionUID
    return ds


def test_a_study_that_a_reader_has_just_taken_is_not_claimed_over_dimse(
    desk: Desk, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = found(door)[0].SOPInstanceUID
    with desk.database.write() as tx:
        claims.claim(tx, uid(1), "ann", desk.clock())
    monkeypatch.setattr(workitems, "BATCH", 0)  # the steps lag behind the list
    assert state(door, step, "IN PROGRESS") == 0xC302
    with desk.database.read() as tx:
        held = worklist.live_claim(tx, 1, desk.clock())
    assert held is not None and held["reader"] == "ann"


def test_a_workstation_holds_no_more_studies_than_a_reader(desk: Desk, door: Door) -> None:
    for study in range(3, 7):
        desk.flagged(study=study)
    answers = [state(door, ds.SOPInstanceUID, "IN PROGRESS") for ds in found(door)]
    assert answers == [0, 0, 0, 0, 0, 0xC314]


def test_what_was_never_subscribed_is_left(desk: Desk, door: Door) -> None:
    with desk.database.write() as tx:
        peers.add(tx, "ws1", "WS1", "127.0.0.1", 1, tls=False)
    step = found(door)[0].SOPInstanceUID
    assert act(door, GLOBAL, 5, WATCH, ReceivingAE="WS1") == 0
    assert act(door, step, 3, WATCH, ReceivingAE="WS1", DeletionLock="FALSE") == 0
    assert act(door, step, 4, WATCH, ReceivingAE="WS1") == 0
    assert act(door, "1.2.9", 3, WATCH, ReceivingAE="WS1", DeletionLock="FALSE") == 0xC307


def test_a_filter_over_dimse_takes_later_steps_keeps_them_and_refuses_other_keys(
    desk: Desk, door: Door, tmp_path: Path
) -> None:
    first, second = (ds.SOPInstanceUID for ds in found(door))
    events = StepEvents(desk.database, Settings(home=tmp_path), desk.clock)
    asks = {"ReceivingAE": "WS1", "DeletionLock": "FALSE"}
    with a_listener() as (port, heard):
        with desk.database.write() as tx:
            peers.add(tx, "ws1", "WS1", "127.0.0.1", port, tls=False)
        assert act(door, FILTERED, 3, WATCH, **asks) == 0x0120
        assert act(door, FILTERED, 3, WATCH, **asks, PatientID="") == 0x0120
        assert act(door, FILTERED, 3, WATCH, **asks, PatientID="P2", WorklistLabel="mine") == 0xC314
        assert act(door, FILTERED, 3, WATCH, **asks, PatientID="P*") == 0xC314
        assert events.turn() == 0
        assert act(door, FILTERED, 3, WATCH, **asks, ProcedureStepState=["IN PROGRESS", "COMPLETED"]) == 0
        assert events.turn() == 0  # nothing matches yet
        state(door, second, "IN PROGRESS")
        state(door, second, "CANCELED")  # between two looks, and to a state that matches no more
        assert events.turn() == 2
        assert heard == [(1, second, "IN PROGRESS"), (1, second, "CANCELED")]
        assert act(door, FILTERED, 4, WATCH, ReceivingAE="WS1") == 0
        state(door, first, "IN PROGRESS")
        assert events.turn() == 0


def test_a_step_that_matches_by_another_patient_id_is_told_to_whom_it_concerns(
    desk: Desk, door: Door
) -> None:
    step = found(door)[1].SOPInstanceUID
    with desk.database.write() as tx:
        subscriptions.subscribe(tx, "VIEWER", FILTERED, "viewer", desk.clock(), {"patient_id": "P9"})
    merge(desk, who(2), who(9))
    with desk.database.write() as tx:
        workitems.follow(tx, desk.clock())
        workitems.follow(tx, desk.clock())
    with desk.database.read() as tx:
        events, _ = store.events_for(tx, "VIEWER", 0)
    assert [(e["sop_instance_uid"], e["receiver"]) for e in events][-1:] == [(step, "VIEWER")]
    assert {e["sop_instance_uid"] for e in events} == {step}
