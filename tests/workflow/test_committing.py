"""Storage commitment as SCP: who asks whether we hold an object hears the truth, on one association or another."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association

from tests.factories import NOON, Clock, an_arrival, digest_of, uid
from tests.interop.programs import an_orthanc
from tests.system.product import wait_until
from tests.workflow.door import Door, open_door
from triage.dicom import commitment
from triage.dicom.commitment import STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE, Asked, Report, read_report
from triage.domain.errors import Unavailable
from triage.settings import Settings
from triage.store import audit, commitments, peers, registration
from triage.store.database import Database
from triage.store.schema import commitment as commitment_table
from triage.store.spool import Spool
from triage.workflow import committing
from triage.workflow.committing import CommitDesk, CommitmentReports
from triage.workflow.site import Site

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"


def hold(database: Database, spool: Spool, number: int) -> str:
    """An object in index and spool; its UID."""
    arrival = an_arrival(modality="CT", instance=number)
    with database.write() as tx:
        registration.register(tx, arrival, "SITE", 10, NOON)
    file = spool.path(arrival.digest)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x")
    return arrival.header.sop_instance_uid


def request(transaction_uid: str, objects: Sequence[tuple[str, str]]) -> Dataset:
    return commitment._request(transaction_uid, objects)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def door(database: Database, tmp_path: Path) -> Iterator[Door]:
    with open_door(database, tmp_path, Site(), Clock()) as opened:
        yield opened


def ask(
    door: Door, ds: Dataset, action: int = 1, instance: str = WELL_KNOWN_INSTANCE, wait: float = 8
) -> tuple[int, list[Report]]:
    """(status of the request, reports heard on its association)"""
    heard, told = threading.Event(), []

    def hear(event: evt.Event) -> tuple[int, None]:
        told.append((event.event_type, read_report(event.event_information)))
        heard.set()
        return 0, None

    with door.calling(STORAGE_COMMITMENT, evt_handlers=[(evt.EVT_N_EVENT_REPORT, hear)]) as association:
        status, _ = association.send_n_action(ds, action, STORAGE_COMMITMENT, instance)
        if status.Status == 0 and wait:
            assert heard.wait(wait)
    for kind, report in told:
        assert kind == (2 if report.failed else 1)
    return status.Status, [report for _, report in told]


def test_what_we_hold_is_committed_on_the_association_that_asks(
    database: Database, door: Door, spool: Spool
) -> None:
    ours = [hold(database, spool, n) for n in (1, 2)]
    status, (report,) = ask(door, request("1.2.3", [(CT, u) for u in ours]))
    assert status == 0
    assert report == Report("1.2.3", frozenset(ours), {})
    wait_until(lambda: _row(database)["told_at"] is not None, 5, "noted")
    with database.read() as tx:
        assert "commitment.told" in [e["act"] for e in audit.events(tx)]


def test_of_the_rest_the_truth_is_told(
    database: Database, door: Door, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "ON_THE_SAME_SECONDS", 0.3)
    ours, gone = hold(database, spool, 1), hold(database, spool, 2)
    spool.path(digest_of(gone)).unlink()  # indexed, and its bytes are lost
    _, (report,) = ask(
        door, request("1.2.3", [(CT, ours), (CT, gone), (CT, uid(9)), (MR, hold(database, spool, 3))])
    )
    assert report.committed == {ours}
    assert report.failed == {gone: 0x0112, uid(9): 0x0112, uid(1, 1, 3): 0x0119}


def test_what_is_indexed_a_moment_later_is_committed(database: Database, door: Door, spool: Spool) -> None:
    late = uid(1, 1, 1)
    timer = threading.Timer(0.6, hold, (database, spool, 1))
    timer.start()
    _, (report,) = ask(door, request("1.2.3", [(CT, late)]))
    timer.join()
    assert report.committed == {late}


def test_requests_that_are_none_are_answered_with_their_status(
    database: Database, door: Door, spool: Spool
) -> None:
    ours = hold(database, spool, 1)
    whole = request("1.2.3", [(CT, ours)])
    assert ask(door, whole, action=2)[0] == 0x0123
    assert ask(door, whole, instance="1.2.9")[0] == 0x0112
    assert ask(door, request("1.2.3", []))[0] == 0x0120
    assert ask(door, request("", [(CT, ours)]))[0] == 0x0120
    for wrong in ("", "1.2/../3"):
        assert ask(door, request("1.2.3", [(wrong, ours)]))[0] == 0x0106
    assert ask(door, whole)[0] == 0
    assert ask(door, request("1.2.3", [(CT, uid(9))]))[0] == 0x0110  # its UID stands for another request
    assert len(ask(door, whole)[1]) == 1  # word for word again: told again


def test_who_hangs_up_is_called_for_as_long_as_it_takes(
    database: Database, door: Door, spool: Spool, tmp_path: Path
) -> None:
    ours = hold(database, spool, 1)
    clock = Clock()
    heard: list[Report] = []
    reports = CommitmentReports(database, spool, Settings(home=tmp_path), clock)
    assert ask(door, request("1.2.3", [(CT, ours)]), wait=0) == (0, [])
    wait_until(lambda: reports.turn() == 1, 5, "the desk sees that nobody listens")
    assert "no peer has the AE title CT1" in _row(database)["detail"]
    server = commitment.serve("127.0.0.1", 0, "CT1", lambda report: heard.append(report) is None)
    try:
        with database.write() as tx:
            peers.add(tx, "CT", "CT1", "127.0.0.1", server.server_address[1], tls=False)
        clock.advance(11)
        assert reports.turn() == 1
    finally:
        server.shutdown()
    assert heard == [Report("1.2.3", frozenset({ours}), {})]
    assert _row(database)["told_at"] == clock()
    clock.advance(31 * 86_400)
    assert reports.turn() == 0 and _rows(database) == []  # forgotten, though nothing was due


@pytest.fixture
def reports(database: Database, spool: Spool, tmp_path: Path) -> CommitmentReports:
    return CommitmentReports(database, spool, Settings(home=tmp_path), Clock())


def wait_for(database: Database, *names: str) -> None:
    """Requests of these peers whose reports are due."""
    for number, name in enumerate(names):
        with database.write() as tx:
            commitments.begin(tx, name, f"1.2.{number + 1}", [(CT, uid(9))], NOON, NOON)


def test_reports_are_told_one_after_another_by_one_thread(database: Database, spool: Spool) -> None:
    desk, go = CommitDesk(database, spool, Clock()), threading.Event()
    telling, most = [], []

    def tell(*_: Any) -> bool:
        telling.append(1)
        most.append(len(telling))
        go.wait(10)
        telling.pop()
        return True

    ours, before = hold(database, spool, 1), threading.active_count()
    for number in range(1, 7):
        desk.take("CT1", Asked(f"1.2.{number}", ((CT, ours),)), tell)
    wait_until(lambda: bool(most), 5, "the first is told")
    assert threading.active_count() == before + 1
    go.set()
    wait_until(lambda: all(r["told_at"] for r in _rows(database)), 10, "all are told")
    assert most == [1] * 6


def test_more_requests_than_wait_for_their_turn_are_left_to_the_relay(
    database: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "MOST_AT_ONCE", 1)
    desk, go, ours = CommitDesk(database, spool, Clock()), threading.Event(), hold(database, spool, 1)
    for number in range(1, 5):
        desk.take("CT1", Asked(f"1.2.{number}", ((CT, ours),)), lambda *_: go.wait(10))
    go.set()
    wait_until(lambda: any(r["told_at"] for r in _rows(database)), 10, "the first is told")
    with database.read() as tx:
        due = commitments.due(tx, NOON + committing.BY_CALL_AFTER, 9)
    assert "1.2.4" in {row["transaction_uid"] for row in due}


def test_a_report_over_an_association_that_ends_meanwhile_comes_back(
    database: Database, door: Door, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_by: list[Any] = []
    monkeypatch.setattr(commitment, "_on_this", lambda a: asked_by.append(a) or (lambda *_: False))
    ask(door, request("1.2.3", [(CT, hold(database, spool, 1))]), wait=0)
    (association,) = asked_by
    association.join(10)
    # What a sender sees that looked a moment before the peer's release was read.
    association.is_established, association._is_paused = True, False
    monkeypatch.undo()
    done: list[bool] = []
    tell = commitment._on_this(association)
    thread = threading.Thread(target=lambda: done.append(tell(1, Dataset())), daemon=True)
    thread.start()
    thread.join(5)
    association._is_paused = True  # ends what spins, should it
    assert done == [False]


def test_an_attempt_that_fails_revives_no_transaction_that_was_told_meanwhile(
    database: Database, reports: CommitmentReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as tx:
        peers.add(tx, "CT", "CT1", "127.0.0.1", 1, tls=False)
    wait_for(database, "CT1")

    def told_on_its_association(*_: Any) -> None:
        with database.write() as tx:
            commitments.keep(tx, _row(database)["id"], told_at=NOON, next_attempt_at=None)
        raise Unavailable("away")

    monkeypatch.setattr(committing, "tell_by_call", told_on_its_association)
    assert reports.turn() == 1
    assert _row(database)["next_attempt_at"] is None and reports.turn() == 0


def test_who_asks_again_after_we_gave_up_is_called_as_often_as_before(
    database: Database, spool: Spool
) -> None:
    wait_for(database, "CT1")
    with database.write() as tx:
        commitments.keep(tx, _row(database)["id"], attempts=48, next_attempt_at=None, told_at=NOON)
    desk = CommitDesk(database, spool, Clock())
    desk.take("CT1", Asked("1.2.1", ((CT, uid(9)),)), lambda *_: False)
    row = _row(database)
    assert (row["attempts"], row["told_at"]) == (0, None) and row["next_attempt_at"] > NOON


def test_a_peer_that_is_down_is_called_once_a_turn_and_holds_up_no_other(
    database: Database, reports: CommitmentReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def call(remote: Any, *_: Any) -> None:
        called.append(remote.called)
        if remote.called == "DOWN":
            raise Unavailable("away")

    monkeypatch.setattr(committing, "tell_by_call", call)
    with database.write() as tx:
        for name in ("DOWN", "CT1"):
            peers.add(tx, name, name, "127.0.0.1", 1, tls=False)
    wait_for(database, "DOWN", "DOWN", "DOWN", "CT1")
    assert reports.turn() == 4
    assert called == ["DOWN", "CT1"]
    down = [r for r in _rows(database) if r["ae_title"] == "DOWN"]
    assert {r["attempts"] for r in down} == {1} and all(r["next_attempt_at"] > NOON for r in down)


@pytest.mark.parametrize("error", [RuntimeError("not established"), ValueError("cannot be encoded")])
def test_a_report_that_cannot_be_sent_stops_no_other(
    database: Database, reports: CommitmentReports, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Association, "send_n_event_report", fails)
    server = commitment.serve("127.0.0.1", 0, "CT1", lambda _: True)
    try:
        with database.write() as tx:
            peers.add(tx, "CT", "CT1", "127.0.0.1", server.server_address[1], tls=False)
        wait_for(database, "CT1", "CT2")
        assert reports.turn() == 2
    finally:
        server.shutdown()
    assert [r["attempts"] for r in _rows(database)] == [1, 1]


@pytest.mark.interop
def test_orthanc_asks_us_and_hears(database: Database, door: Door, spool: Spool, tmp_path: Path) -> None:
    ours = hold(database, spool, 1)
    clock = Clock()
    reports = CommitmentReports(database, spool, Settings(home=tmp_path), clock)
    with an_orthanc(tmp_path / "orthanc", door.port, web=False) as orthanc:
        with database.write() as tx:
            peers.add(tx, "ORTHANC", "ORTHANC", "127.0.0.1", orthanc.dicom_port, tls=False)
        for wanted, end in (([ours], "Success"), ([ours, uid(9)], "Failure")):
            body = {"DicomInstances": [{"SOPClassUID": CT, "SOPInstanceUID": u} for u in wanted]}
            begun = httpx.post(
                f"{orthanc.address}/modalities/triage/storage-commitment", json=body, timeout=20, trust_env=False
            ).raise_for_status().json()  # fmt: skip

            path = f"{orthanc.address}{begun['Path']}"

            def state(path: str = path) -> str:
                clock.advance(11)
                reports.turn()
                return str(httpx.get(path, timeout=10, trust_env=False).json()["Status"])

            wait_until(lambda state=state: state() != "Pending", 30, "Orthanc hears")
            assert state() == end


def _row(database: Database) -> dict[str, Any]:
    (row,) = _rows(database)
    return row


def _rows(database: Database) -> list[dict[str, Any]]:
    with database.read() as tx:
        return [dict(r) for r in tx.execute(commitment_table.select()).mappings()]
