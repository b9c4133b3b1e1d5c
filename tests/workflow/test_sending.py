"""Objects on their way: taken, refused for good or for now, committed on either association, one peer beside another."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.factories import Clock
from tests.pacs import a_pacs
from tests.workflow.door import open_door
from tests.workflow.test_publish import Bench
from triage.dicom import commitment
from triage.dicom.commitment import Report
from triage.dicom.objects import kos, sr
from triage.domain.dispatch import COMMIT_RETRY, SEND_ATTEMPTS_MAX
from triage.domain.errors import Misconfigured
from triage.settings import OutletSettings, Settings
from triage.store import audit, dispatches, peers, reading, schema, studies
from triage.store.database import Database
from triage.workflow.parts.sender import sending_to
from triage.workflow.sending import COMMIT_AWAY, Sender, service_of, settle_report
from triage.workflow.site import Site


class Way:
    """A published film on its way to one archive."""

    def __init__(self, database: Database, home: Path, port: int, **outlet: Any) -> None:
        self.bench = Bench(database, home)
        self.clock: Clock = self.bench.clock
        self.settings = Settings(home=home)
        self.outlet = OutletSettings(peer="PACS", timeout_seconds=5, **outlet)
        with database.write() as tx:
            peers.add(tx, "PACS", "PACS", "127.0.0.1", port, tls=False)
        self.bench.completed()
        self.bench.publisher.turn()
        self.sender = Sender(database, self.settings, self.outlet, self.clock, lambda: 0.0)

    def rows(self) -> dict[str, dict[str, Any]]:
        """{kind: dispatch row}"""
        with self.bench.database.read() as tx:
            made = {o["id"]: o["kind"] for o in self.bench.rows()}
            found = dispatches.of_outputs(tx, list(made))
        return {made[i]: rows[0] for i, rows in found.items() if rows}

    def states(self) -> dict[str, str]:
        return {kind: row["state"] for kind, row in self.rows().items()}


def test_what_is_written_is_sent_once_under_its_own_uid(database: Database, tmp_path: Path) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port)
        assert way.sender.turn() == 2
        assert way.states() == {"sr": "sent", "kos": "sent"}
        assert set(pacs.stored) == {r["sop_instance_uid"] for r in way.bench.rows()}
        assert way.sender.turn() == 0
    with database.read() as tx:
        assert [e["act"] for e in audit.events(tx)].count("output.stored") == 2


def test_a_peer_gets_only_the_kinds_that_it_is_to_have(database: Database, tmp_path: Path) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port, objects=("kos",))
        way.sender.turn()
        assert way.states() == {"kos": "sent"}
        assert [ds.SOPClassUID for ds in pacs.stored.values()] == [kos.KEY_OBJECT_SELECTION]


def test_a_full_archive_is_tried_again_later_and_a_refusal_is_not(database: Database, tmp_path: Path) -> None:
    with a_pacs(statuses=[0xA700, 0xC001]) as pacs:
        way = Way(database, tmp_path, pacs.port)
        way.sender.turn()
        rows = way.rows()
        assert (rows["sr"]["state"], rows["sr"]["attempts"]) == ("wanted", 1)
        assert rows["kos"]["state"] == "refused" and rows["kos"]["detail"].startswith("status C001")
        assert way.sender.turn() == 0  # not before its time
        way.clock.advance(11)
        assert way.sender.turn() == 1
        assert way.states() == {"sr": "sent", "kos": "refused"}
        with database.write() as tx:
            assert dispatches.again(tx, rows["kos"]["output_id"], way.clock()) == 1
        way.sender.turn()
        assert way.states() == {"sr": "sent", "kos": "sent"}


def test_an_archive_that_does_not_take_a_class_refuses_that_object_alone(
    database: Database, tmp_path: Path
) -> None:
    with a_pacs(classes=(sr.COMPREHENSIVE_3D_SR,)) as pacs:
        way = Way(database, tmp_path, pacs.port)
        way.sender.turn()
        assert way.states() == {"sr": "sent", "kos": "refused"}
        assert "does not take" in way.rows()["kos"]["detail"]


def test_an_archive_that_is_away_costs_waiting_with_growing_pauses(
    database: Database, tmp_path: Path
) -> None:
    way = Way(database, tmp_path, 1)
    for wait in (10, 30, 60):
        way.sender.turn()
        row = way.rows()["sr"]
        assert row["state"] == "wanted" and "no association" in row["detail"]
        assert (row["next_attempt_at"] - way.clock()).total_seconds() == wait
        way.clock.advance(wait)


def test_a_peer_that_was_removed_is_waited_for_with_the_reason(database: Database, tmp_path: Path) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port)
        with database.write() as tx:
            peers.remove(tx, "PACS")
        way.sender.turn()
        assert way.rows()["sr"]["detail"].startswith("no peer is called 'PACS'")


def test_commitment_comes_on_the_same_association(database: Database, tmp_path: Path) -> None:
    with a_pacs(commits=True) as pacs:
        way = Way(database, tmp_path, pacs.port, commitment=True)
        way.sender.turn()
        assert way.states() == {"sr": "committed", "kos": "committed"}
        assert pacs.report_statuses == [0] and len(pacs.transactions) == 1
        row = way.rows()["sr"]
        assert row["transaction_uid"] == "" and row["next_attempt_at"] is None
        way.clock.advance(86_400)
        assert way.sender.turn() == 0 and len(pacs.transactions) == 1


def test_commitment_comes_on_a_new_association_and_only_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commitment.request, "__defaults__", (0.0,))  # we do not wait on the first association
    with a_pacs(commits=True) as pacs:
        way = Way(database, tmp_path, pacs.port, commitment=True)
        server = commitment.serve("127.0.0.1", 0, "TRIAGE", way.sender.hear)
        pacs.report_to = server.server_address[1]
        way.sender.turn()
        _wait_for(lambda: bool(pacs.report_statuses))
        server.shutdown()
        assert way.states() == {"sr": "committed", "kos": "committed"}
        again = Report(pacs.transactions[0], frozenset(pacs.stored))
        assert way.sender.hear(again) is False  # its transaction is dead (PS3.4 J.3.3)


def test_commitment_may_come_to_the_port_that_everything_comes_to(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commitment.request, "__defaults__", (0.0,))
    with a_pacs(commits=True) as pacs:
        way = Way(database, tmp_path, pacs.port, commitment=True)
        with open_door(database, tmp_path / "door", Site(), way.clock) as door:
            pacs.report_to = door.port
            way.sender.turn()
            _wait_for(lambda: bool(pacs.report_statuses))
            assert pacs.report_statuses == [0]
            assert way.states() == {"sr": "committed", "kos": "committed"}


def test_what_an_archive_has_lost_is_sent_again(database: Database, tmp_path: Path) -> None:
    with a_pacs(commits=True) as pacs:
        way = Way(database, tmp_path, pacs.port, commitment=True)
        lost = {r["kind"]: r["sop_instance_uid"] for r in way.bench.rows()}["sr"]
        pacs.lost.add(lost)
        way.sender.turn()
        assert way.states() == {"sr": "wanted", "kos": "committed"}
        assert way.rows()["sr"]["detail"] == "not committed: reason 0112"
        pacs.lost.clear()
        way.sender.turn()
        assert way.states()["sr"] == "committed"


def test_silence_is_asked_again_after_hours_and_then_told_to_a_person(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(commitment, "request", lambda _, uid, *more: asked.append(uid) is not None)
    with a_pacs(commits=True) as pacs:
        way = Way(database, tmp_path, pacs.port, commitment=True)
        way.sender.turn()
        for wait in (*COMMIT_RETRY, COMMIT_RETRY[-1]):
            way.clock.advance(wait.total_seconds() + 1)
            way.sender.turn()
    assert len(asked) == 4 and len(set(asked)) == 4  # a new transaction each time
    assert way.states() == {"sr": "parked", "kos": "parked"}


def test_an_archive_without_commitment_leaves_what_it_stored_as_sent(
    database: Database, tmp_path: Path
) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port, commitment=True)
        way.sender.turn()
    row = way.rows()["sr"]
    assert row["state"] == "sent" and row["next_attempt_at"] is None
    assert "does not offer storage commitment" in row["detail"]


def test_a_report_of_a_stranger_changes_nothing(database: Database, tmp_path: Path) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port)
        way.sender.turn()
        with database.write() as tx:
            assert settle_report(tx, Report("1.2.3", frozenset(pacs.stored)), way.clock()) is False
            assert settle_report(tx, Report("", frozenset(pacs.stored)), way.clock()) is False
        assert way.states() == {"sr": "sent", "kos": "sent"}


def test_a_slow_archive_delays_no_other(database: Database, tmp_path: Path) -> None:
    with a_pacs(slow_seconds=3.0) as slow, a_pacs() as quick:
        bench = Bench(database, tmp_path)
        outlets = tuple(OutletSettings(peer=name, timeout_seconds=20) for name in ("SLOW", "QUICK"))
        with database.write() as tx:
            for name, pacs in (("SLOW", slow), ("QUICK", quick)):
                peers.add(tx, name, "PACS", "127.0.0.1", pacs.port, tls=False)
        bench.completed()
        bench.publisher.turn()
        settings = Settings(home=tmp_path)
        threads = [
            sending_to(Sender(database, settings, o, bench.clock), o.peer, lambda: True) for o in outlets
        ]
        for thread in threads:
            thread.start()
        _wait_for(lambda: len(quick.stored) == 2)
        assert len(slow.stored) < 2
        for thread in threads:
            thread.stopping.set()
        for thread in threads:
            thread.join(timeout=30)


def test_the_page_of_a_study_says_how_far_each_object_is(any_database: Database, tmp_path: Path) -> None:
    with a_pacs() as pacs:
        way = Way(any_database, tmp_path, pacs.port)
        way.sender.turn()
        with any_database.read() as tx:
            study_id = studies.find_study(tx, "1.2.826.0.1.3680043.10.1337.1")
            assert study_id is not None
            said = reading.outputs_of(tx, study_id)
    assert {(o["kind"], o["state"]) for o in said} == {("sr", "sent"), ("kos", "sent")}
    assert [d["peer"] for d in said[0]["destinations"]] == ["PACS"]


def _wait_for(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, [t.name for t in threading.enumerate()]
        time.sleep(0.05)


def test_a_peer_that_is_new_gets_the_last_days_objects_and_no_older_ones(
    database: Database, tmp_path: Path
) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port)
        way.clock.advance(25 * 3600)
        way.bench.completed(2)
        way.bench.publisher.turn()
        assert way.sender.turn() == 2
        assert len(way.bench.rows()) == 4 and len(pacs.stored) == 2


# --- what does not leave, and who turns a sender ------------------------------------------------------------------


def test_an_object_whose_file_is_gone_is_refused_and_the_others_leave(
    database: Database, tmp_path: Path
) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port)
        files = {o["kind"]: way.settings.outputs / o["path"] for o in way.bench.rows()}
        files["sr"].unlink()
        way.sender.turn()
        assert way.states() == {"sr": "refused", "kos": "sent"}
        assert way.rows()["sr"]["detail"] == "its file is gone"
        files["kos"].unlink()
        with database.write() as tx:
            dispatches.again(tx, way.rows()["sr"]["output_id"], way.clock())
        way.sender.turn()  # nothing is left to send
        assert way.states()["sr"] == "refused"


def test_after_two_days_of_silence_a_person_is_told(database: Database, tmp_path: Path) -> None:
    way = Way(database, tmp_path, 1)
    assert way.sender.turn() == 2
    with database.write() as tx:
        tx.execute(schema.dispatch.update().values(attempts=SEND_ATTEMPTS_MAX - 1))
    way.clock.advance(3_601)
    assert way.sender.turn() == 2
    assert way.states() == {"sr": "parked", "kos": "parked"}
    assert way.sender.turn() == 0


def test_a_token_that_cannot_be_read_costs_waiting_with_the_reason(
    database: Database, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    way = Way(database, tmp_path, 1, by="stow", url="http://127.0.0.1:1/dicom-web", token_file=token)
    way.sender.turn()
    row = way.rows()["sr"]
    assert row["state"] == "wanted" and str(token) in row["detail"]
    token.write_text("secret\n")
    assert service_of(way.settings, way.outlet).token == "secret"
    way.clock.advance(60)
    way.sender.turn()
    assert way.rows()["sr"]["attempts"] == 2 and str(token) not in way.rows()["sr"]["detail"]


def test_our_certificate_is_shown_to_a_web_service_when_a_site_has_its_own_authority(tmp_path: Path) -> None:
    outlet = OutletSettings(peer="PACS", by="stow", url="https://pacs.example/dicom-web")
    assert service_of(Settings(home=tmp_path), outlet).tls is None
    home = Settings(home=tmp_path, dicom={"tls_ca": tmp_path / "gone.pem"})
    with pytest.raises(Misconfigured, match="gone"):
        service_of(home, outlet)


def test_an_archive_that_went_away_is_asked_for_commitment_later(database: Database, tmp_path: Path) -> None:
    with a_pacs(commits=True) as pacs:
        way = Way(database, tmp_path, pacs.port)
        way.sender.turn()
    asking = OutletSettings(peer="PACS", timeout_seconds=5, commitment=True)
    with database.write() as tx:
        tx.execute(schema.dispatch.update().values(next_attempt_at=way.clock()))
    Sender(database, way.settings, asking, way.clock).turn()
    row = way.rows()["sr"]
    assert (row["state"], row["transaction_uid"], row["commit_attempts"]) == ("sent", "", 0)
    assert "no association" in row["detail"]
    assert row["next_attempt_at"] - way.clock() == COMMIT_AWAY


def test_a_report_that_leaves_an_object_out_has_it_asked_for_again(
    database: Database, tmp_path: Path
) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port)
        way.sender.turn()
    made = {o["kind"]: o["sop_instance_uid"] for o in way.bench.rows()}
    with database.write() as tx:
        tx.execute(schema.dispatch.update().values(transaction_uid="1.2.3"))
        report = Report("1.2.3", frozenset(), {made["kos"]: 0x0213})
        assert settle_report(tx, report, way.clock())
    assert way.states() == {"sr": "sent", "kos": "parked"}  # 0213: sending it again would not help
    assert way.rows()["kos"]["detail"] == "not committed: reason 0213"
    assert way.rows()["sr"]["transaction_uid"] == ""


def test_what_two_publishers_sent_at_once_is_noted_once(database: Database, tmp_path: Path) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port)
        way.sender._want()
        with database.read() as tx:
            due = dispatches.due_to_send(tx, "PACS", way.clock(), 9)
        way.sender._send(due)
        way.sender._send(due)  # the other's view of the same moment
    assert way.states() == {"sr": "sent", "kos": "sent"}
    with database.read() as tx:
        assert [e["act"] for e in audit.events(tx)].count("output.stored") == 2
