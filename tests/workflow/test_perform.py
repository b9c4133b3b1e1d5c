"""Work items of an outside UPS server, by DIMSE or UPS-RS: claimed once, performed, and ended, over restarts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import AE, evt

from tests.factories import a_finding, uid
from tests.workflow.desk import Desk
from tests.workflow.door import listed
from triage.dicom.ups import PULL
from triage.domain.errors import Unavailable
from triage.domain.suitability import NotSuitable, ReasonCode
from triage.settings import PerformSettings, PullSettings, Settings
from triage.store import outputs, peers, pulls, tasks
from triage.workflow import perform
from triage.workflow.perform import Performer

CAD = "110004"


class Manager:
    """A UPS server of a few lines that keeps to the rules of claims and final states; how it is asked is a subclass's."""

    def __init__(self) -> None:
        self.steps: dict[str, Dataset] = {}
        self.claims: dict[str, str] = {}
        self.unreadable: set[str] = set()  # steps that it fails to give to whoever retrieves them
        self.forgets_to_answer = 0  # claims that are taken and answered as if they had failed

    def add(
        self, number: int, *, code: str = CAD, series: object = 1, instances: int = 1, study: object = 1
    ) -> str:
        ds, kind, item = Dataset(), Dataset(), Dataset()
        ds.SOPInstanceUID = uid("step", number)
        ds.ProcedureStepState, ds.InputReadinessState = "SCHEDULED", "READY"
        kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning = code, "DCM", "CAD"
        ds.ScheduledWorkitemCodeSequence = Items([kind])
        ds.StudyInstanceUID = item.StudyInstanceUID = uid(study)
        item.SeriesInstanceUID = uid(study, series)
        item.ReferencedSOPSequence = listed(*(uid(study, series, i + 1) for i in range(instances)))
        ds.InputInformationSequence = Items([item])
        self.steps[ds.SOPInstanceUID] = ds
        return str(ds.SOPInstanceUID)

    def in_state(self, wanted: str) -> list[Dataset]:
        return [ds for ds in list(self.steps.values()) if ds.ProcedureStepState == wanted]

    def set_values(self, step: str, said: Dataset) -> int:
        if self.claims.get(step) != said.TransactionUID:
            return 0xC301
        del said.TransactionUID
        self.steps[step].update(said)
        return 0

    def set_state(self, step: str, said: Dataset) -> int:
        ds = self.steps[step]
        if said.ProcedureStepState == "IN PROGRESS":
            if ds.ProcedureStepState != "SCHEDULED":
                return 0xC302
            self.claims[step] = said.TransactionUID
        elif self.claims.get(step) != said.TransactionUID:
            return 0xC301
        elif (
            said.ProcedureStepState == "COMPLETED"
            and "UnifiedProcedureStepPerformedProcedureSequence" not in ds
        ):
            return 0xC304
        ds.ProcedureStepState = said.ProcedureStepState
        return 0

    def forgets(self) -> bool:
        forgets = self.forgets_to_answer > 0
        self.forgets_to_answer -= forgets
        return forgets


class DimseManager(Manager):
    def __init__(self) -> None:
        super().__init__()
        ae = AE("MANAGER")
        ae.add_supported_context(PULL)
        handlers = [
            (evt.EVT_C_FIND, self.find), (evt.EVT_N_GET, self.get), (evt.EVT_N_SET, self.set),
            (evt.EVT_N_ACTION, self.act),
        ]  # fmt: skip
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.address = {"peer": "ris"}

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for ds in self.in_state(event.identifier.ProcedureStepState):
            yield 0xFF00, ds

    def get(self, event: Any) -> tuple[int, Dataset | None]:
        step = str(event.request.RequestedSOPInstanceUID)
        if step in self.unreadable:
            return 0x0110, None
        ds = self.steps.get(step)
        return (0, ds) if ds is not None else (0xC307, None)

    def set(self, event: Any) -> tuple[int, None]:
        return self.set_values(str(event.request.RequestedSOPInstanceUID), event.modification_list), None

    def act(self, event: Any) -> tuple[int, None]:
        status = self.set_state(str(event.request.RequestedSOPInstanceUID), event.action_information)
        if self.forgets():
            event.assoc.abort()
        return status, None


class WebManager(Manager):
    """As UPS-RS origin server (PS3.18 11): pages of two, and errors by HTTP's numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        manager = self

        class Asked(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                manager.asked.append(self.headers.get("Authorization", ""))
                path, _, query = self.path.partition("?")
                step = path.removeprefix("/dicom-web/workitems").strip("/")
                if step:
                    if step in manager.unreadable:
                        return self.answer(500, [])
                    ds = manager.steps.get(step)
                    return self.answer(*((200, [ds]) if ds is not None else (404, [])))
                asked = parse_qs(query)
                found = manager.in_state(asked["ProcedureStepState"][0])[int(asked["offset"][0]) :]
                return self.answer(206 if len(found) > 2 else 200 if found else 204, found[:2])

            def do_POST(self) -> None:
                path, _, query = self.path.partition("?")
                said = self.said()
                assert parse_qs(query)["transaction"] == [said.TransactionUID]
                self.judged(manager.set_values(path.rpartition("/")[2], said))

            def do_PUT(self) -> None:
                status = manager.set_state(self.path.split("/")[-2], self.said())
                if manager.forgets():
                    self.close_connection = True
                    self.connection.close()
                    return
                self.judged(status)

            def said(self) -> Dataset:
                assert self.headers["Content-Type"] == "application/dicom+json"
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                return Dataset.from_json(json.loads(body)[0])

            def judged(self, status: int) -> None:
                self.answer(200 if status == 0 else 409 if status == 0xC302 else 400, [])

            def answer(self, status: int, found: list[Dataset]) -> None:
                body = json.dumps([ds.to_json_dict() for ds in found]).encode() if found else b""
                self.send_response(status)
                self.send_header("Content-Type", "application/dicom+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self.server.server_address[1]}/dicom-web"
        self.address = {"by": "rs", "url": url}


@pytest.fixture(params=[DimseManager, WebManager])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    made = request.param()
    yield made
    made.server.shutdown()


@pytest.fixture
def performer(desk: Desk, manager: Manager, tmp_path: Path) -> Performer:
    with desk.database.write() as tx:
        peers.add(tx, "ris", "MANAGER", "127.0.0.1", manager.server.server_address[1], tls=False)
    return a_performer(desk, tmp_path, manager)


def a_performer(desk: Desk, home: Path, manager: Manager, **values: Any) -> Performer:
    config = PerformSettings(name="ris", timeout_seconds=5, **manager.address, **values)
    pull = (PullSettings(name="main", peer="PACS"),)
    return Performer(desk.database, Settings(home=home, pull=pull, perform=(config,)), config, desk.clock)


def turn(desk: Desk, performer: Performer) -> None:
    desk.clock.advance(16)
    performer.turn()


def published(desk: Desk, run: int) -> None:
    with desk.database.write() as tx:
        outputs.record(tx, run, "sr", uid("sr", run), desk.clock(), path="x")


def test_a_step_is_claimed_performed_and_completed_with_its_outputs(
    desk: Desk, manager: Manager, performer: Performer
) -> None:
    step = manager.add(1)
    other = manager.add(2, code="110005")  # a human's
    ((run, _),) = desk.receive().wake
    turn(desk, performer)
    assert manager.steps[step].ProcedureStepState == "IN PROGRESS"
    turn(desk, performer)
    progress = manager.steps[step].ProcedureStepProgressInformationSequence[0]
    assert progress.ProcedureStepProgress == 50
    desk.analyse(run, a_finding())
    turn(desk, performer)
    assert manager.steps[step].ProcedureStepProgressInformationSequence[0].ProcedureStepProgress == 90
    published(desk, run)
    turn(desk, performer)
    ds = manager.steps[step]
    assert ds.ProcedureStepState == "COMPLETED"
    done = ds.UnifiedProcedureStepPerformedProcedureSequence[0]
    (made,) = done.OutputInformationSequence
    assert made.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == uid("sr", run)
    assert made.DICOMRetrievalSequence[0].RetrieveAETitle == "TRIAGE"
    assert done.PerformedProcedureStepStartDateTime < done.PerformedProcedureStepEndDateTime
    assert manager.steps[other].ProcedureStepState == "SCHEDULED"
    assert {"task.claimed", "task.completed"} <= set(desk.acts())
    turn(desk, performer)
    assert [r["state"] for r in desk.rows("task")] == ["completed"]


def test_more_steps_than_a_page_and_a_server_that_wants_a_token(desk: Desk, tmp_path: Path) -> None:
    manager = WebManager()
    try:
        secret = tmp_path / "token"
        secret.write_text("s3cret")
        steps = {manager.add(n) for n in range(5)}
        a_performer(desk, tmp_path, manager, token_file=secret).turn()
        assert {r["sop_instance_uid"]: r["state"] for r in desk.rows("task")} == dict.fromkeys(
            steps, "claimed"
        )
        assert set(manager.asked) == {"Bearer s3cret"}
    finally:
        manager.server.shutdown()


@pytest.mark.parametrize(("status", "body"), [(401, b""), (500, b""), (200, b"<html>"), (200, b'[{"x": 1}]')])
def test_a_web_server_that_is_none_is_waited_for(
    desk: Desk, tmp_path: Path, status: int, body: bytes
) -> None:
    class Odd(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    manager = WebManager()
    manager.server.RequestHandlerClass = Odd
    try:
        with pytest.raises(Unavailable, match="answer"):
            a_performer(desk, tmp_path, manager).turn()
        assert desk.rows("task") == []
    finally:
        manager.server.shutdown()


def test_pages_of_other_steps_do_not_hide_ours(desk: Desk, tmp_path: Path) -> None:
    manager = WebManager()
    try:
        first = manager.add(0)
        for number in range(1, 6):
            manager.add(number, code="110005")
        last = manager.add(6)
        a_performer(desk, tmp_path, manager).turn()
        assert {r["sop_instance_uid"] for r in desk.rows("task")} == {first, last}
    finally:
        manager.server.shutdown()


def test_a_step_that_fails_each_time_holds_up_no_other_and_is_given_back(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perform, "MOST_ATTEMPTS", 3)
    manager = WebManager()
    try:
        odd, sound = manager.add(1), manager.add(2, study=2)
        manager.unreadable.add(odd)
        performer = a_performer(desk, tmp_path, manager, patience_minutes=60)
        for attempt in range(1, 4):
            with pytest.raises(Unavailable, match="500"):
                performer.turn()
            assert desk.rows("task")[1]["state"] == "claimed"
            assert desk.rows("task")[0]["attempts"] == attempt
            performer.turn()  # not due yet: nothing fails
            desk.clock.advance(900)
        assert desk.rows("task")[0]["state"] == "canceled" and "task.canceled" in desk.acts()
        assert manager.steps[odd].ProcedureStepState == "CANCELED"
        assert manager.steps[sound].ProcedureStepState == "IN PROGRESS"
    finally:
        manager.server.shutdown()


def test_a_claimed_step_that_nobody_can_read_is_given_back(desk: Desk, tmp_path: Path) -> None:
    manager = DimseManager()
    try:
        with desk.database.write() as tx:
            peers.add(tx, "ris", "MANAGER", "127.0.0.1", manager.server.server_address[1], tls=False)
        step = manager.add(1)
        manager.unreadable.add(step)
        a_performer(desk, tmp_path, manager).turn()
        assert manager.steps[step].ProcedureStepState == "CANCELED"
        assert [r["state"] for r in desk.rows("task")] == ["canceled"]
    finally:
        manager.server.shutdown()


def test_another_performer_was_faster(desk: Desk, manager: Manager, performer: Performer) -> None:
    step = manager.add(1)
    performer.turn()  # ours now
    rows = desk.rows("task")
    second = manager.add(2)
    manager.claims[second] = "1.2.3"
    manager.steps[second].ProcedureStepState = "IN PROGRESS"
    with desk.database.write() as tx:
        tasks.note(tx, "ris", second, "1.2.9", desk.clock())
    performer.turn()
    assert rows[0]["sop_instance_uid"] == step
    assert {r["sop_instance_uid"]: r["state"] for r in desk.rows("task")} == {step: "claimed", second: "lost"}


def test_a_claim_whose_answer_was_lost_is_still_ours_after_a_restart(
    desk: Desk, manager: Manager, performer: Performer, tmp_path: Path
) -> None:
    step = manager.add(1)
    manager.forgets_to_answer = 1
    with pytest.raises(Exception, match="answer"):
        performer.turn()
    assert desk.rows("task")[0]["state"] == "wanted"
    again = a_performer(desk, tmp_path, manager)
    turn(desk, again)
    assert desk.rows("task")[0]["state"] == "claimed"
    assert manager.claims[step] == desk.rows("task")[0]["transaction_uid"]


def test_what_is_missing_is_fetched_and_given_back_when_it_never_comes(
    desk: Desk, manager: Manager, performer: Performer, tmp_path: Path
) -> None:
    step = manager.add(1, instances=3)
    asking = a_performer(desk, tmp_path, manager, pull="main", patience_minutes=5)
    turn(desk, asking)
    turn(desk, asking)
    with desk.database.read() as tx:
        (wanted,) = pulls.wanted(tx, "main", desk.clock())
    assert wanted["series_instance_uid"] == uid(1, 1) and wanted["instances"] == 3
    desk.clock.advance(301)
    asking.turn()
    ds = manager.steps[step]
    assert ds.ProcedureStepState == "CANCELED"
    why = ds.ProcedureStepProgressInformationSequence[0].ProcedureStepDiscontinuationReasonCodeSequence[0]
    assert (why.CodeValue, why.CodingSchemeDesignator) == ("110523", "DCM")


def test_what_no_detector_reads_is_given_back_with_the_reason(
    desk: Desk, manager: Manager, performer: Performer
) -> None:
    step = manager.add(1)
    ((run, _),) = desk.receive().wake
    desk.analyse(run, why_not=NotSuitable(ReasonCode.OUT_OF_AGE))
    turn(desk, performer)
    turn(desk, performer)
    ds = manager.steps[step]
    why = ds.ProcedureStepProgressInformationSequence[0]
    assert ds.ProcedureStepState == "CANCELED" and why.ReasonForCancellation == "not analysed: OUT_OF_AGE"
    assert why.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110522"


def test_a_step_that_was_taken_away_is_lost_and_said_so(
    desk: Desk, manager: Manager, performer: Performer
) -> None:
    step = manager.add(1)
    turn(desk, performer)
    manager.claims[step] = "9.9"
    ((run, _),) = desk.receive().wake
    desk.analyse(run)
    published(desk, run)
    turn(desk, performer)
    assert desk.rows("task")[0]["state"] == "lost" and "task.lost" in desk.acts()


def test_a_step_that_still_waits_is_told_how_far_it_is_once(
    desk: Desk, manager: Manager, performer: Performer
) -> None:
    step = manager.add(1)
    turn(desk, performer)
    desk.receive()
    for _ in range(2):
        turn(desk, performer)
    (row,) = desk.rows("task")
    told = manager.steps[step].ProcedureStepProgressInformationSequence[0]
    assert row["state"] == "claimed" and row["percent"] == int(told.ProcedureStepProgress) > 0
    assert manager.steps[step].ProcedureStepState == "IN PROGRESS"


def test_a_step_without_a_list_of_its_images_means_the_whole_study(
    desk: Desk, manager: Manager, tmp_path: Path, performer: Performer
) -> None:
    step = manager.add(1)
    del manager.steps[step].InputInformationSequence
    asking = a_performer(desk, tmp_path, manager, pull="main")
    turn(desk, asking)
    turn(desk, asking)
    with desk.database.read() as tx:
        (wanted,) = pulls.wanted(tx, "main", desk.clock())
    assert wanted["study_instance_uid"] == wanted["series_instance_uid"] == uid(1)
    ((run, _),) = desk.receive().wake
    desk.analyse(run)
    published(desk, run)
    turn(desk, asking)
    assert manager.steps[step].ProcedureStepState == "COMPLETED"


def test_a_report_of_a_run_that_was_overtaken_meanwhile_is_not_shown(
    desk: Desk, manager: Manager, performer: Performer, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = manager.add(1)
    ((run, _),) = desk.receive().wake
    desk.analyse(run)
    published(desk, run)
    monkeypatch.setattr(outputs, "completed", lambda *_: None)
    turn(desk, performer)
    turn(desk, performer)
    ds = manager.steps[step]
    assert ds.ProcedureStepState == "COMPLETED"
    assert not ds.UnifiedProcedureStepPerformedProcedureSequence[0].OutputInformationSequence
