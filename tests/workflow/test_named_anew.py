"""Whose objects we made: after an update, a merge or a move they are made anew, sent like the first, and taken back."""

from __future__ import annotations

import itertools
import random
import threading
import time
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from sqlalchemy import event, select, text

from tests.factories import NOON, uid
from tests.pacs import Pacs, a_pacs
from tests.workflow.test_publish import Bench
from tests.workflow.test_sending import Way
from triage.dicom.rejection import read_rejection
from triage.domain.dispatch import NAMED_OTHERWISE, REPLACED, TITLE_OF
from triage.domain.identity import Demographics, PatientKey
from triage.domain.rejection import Reason
from triage.store import audit, dispatches, outputs
from triage.store.database import Database
from triage.store.schema import dispatch, output
from triage.workflow import publish, reconcile
from triage.workflow.sending import Sender
from triage.workflow.site import Site, new_id

DESK: dict[str, Any] = {"said_at": NOON, "by": "hl7:ADT", "site": Site(), "now": NOON}
SURVIVOR = PatientKey(patient_id="P9")


def merge(
    database: Database, prior: str = "P1", surviving: str = "P9", key: str = "m", **values: Any
) -> None:
    with database.write() as tx:
        reconcile.merge_patients(
            tx, PatientKey(patient_id=prior), PatientKey(patient_id=surviving), key=key, ids=new_id,
            **{**DESK, **values},
        )  # fmt: skip


def sets(bench: Bench, run_id: int) -> list[tuple[int, str, str]]:
    """(version of the identity, kind, state) of a run's objects, oldest first."""
    return [(r["identity_version"], r["kind"], r["state"]) for r in bench.rows() if r["run_id"] == run_id]


def report(bench: Bench, version: int) -> Dataset:
    (row,) = [r for r in bench.rows() if (r["kind"], r["identity_version"]) == ("sr", version)]
    return pydicom.dcmread(bench.folder / row["path"])


@pytest.fixture
def bench(any_database: Database, tmp_path: Path) -> Bench:
    return Bench(any_database, tmp_path)


def test_a_merge_after_the_report_makes_one_of_the_survivor_that_names_the_first(bench: Bench) -> None:
    run_id = bench.completed()
    bench.publisher.turn()
    for _ in range(2):  # the message comes twice
        merge(bench.database)
        bench.publisher.turn()
    assert sets(bench, run_id) == [
        (0, "sr", "superseded"), (0, "kos", "superseded"), (1, "sr", "written"), (1, "kos", "written"),
    ]  # fmt: skip
    first, second = report(bench, 0), report(bench, 1)
    assert (first.PatientID, second.PatientID) == ("P1", "P9")
    (older,) = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert older.ReferencedSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID
    assert second.SeriesInstanceUID != first.SeriesInstanceUID
    assert (int(first.SeriesNumber), int(second.SeriesNumber)) == (9001, 9011)
    again = [i for i in second.ContentSequence if i.ValueType != "UIDREF"]
    assert again == [i for i in first.ContentSequence if i.ValueType != "UIDREF"]  # the findings are the same


def test_a_merge_that_is_undone_before_the_publisher_looks_makes_nothing(bench: Bench) -> None:
    run_id = bench.completed()
    bench.publisher.turn()
    merge(bench.database)
    with bench.database.write() as tx:
        reconcile.undo(tx, "m", by="admin", site=Site(), ids=new_id, now=NOON)
    bench.publisher.turn()
    assert sets(bench, run_id) == [(0, "sr", "written"), (0, "kos", "written")]
    assert bench.publisher.turn() == 0


def test_an_undone_merge_is_told_like_another_one(bench: Bench) -> None:
    bench.completed()
    bench.publisher.turn()
    merge(bench.database)
    bench.publisher.turn()
    with bench.database.write() as tx:
        reconcile.undo(tx, "m", by="admin", site=Site(), ids=new_id, now=NOON)
    bench.publisher.turn()
    assert [report(bench, v).PatientID for v in (0, 1, 2)] == ["P1", "P9", "P1"]


@pytest.mark.parametrize("seed", range(4))
def test_in_any_order_and_twice_the_last_objects_are_of_whom_the_study_is(bench: Bench, seed: int) -> None:
    """Update, merges and a move in a shuffled order, each twice, the publisher between any two of them."""
    chance = random.Random(seed)
    bench.completed()
    bench.publisher.turn()
    p3 = PatientKey(patient_id="P3")

    def update() -> None:
        with bench.database.write() as tx:
            reconcile.update_patient(tx, SURVIVOR, Demographics(patient_name="Poe^Ann"), **DESK)

    def move() -> None:
        with bench.database.write() as tx:
            reconcile.move_study(tx, uid(1), patient=p3, accession_number="A7", key="v", ids=new_id, **DESK)

    acts = [
        update,
        move,
        lambda: merge(bench.database, "P3", "P9", key="m2"),
        lambda: merge(bench.database),
    ] * 2
    chance.shuffle(acts)
    for act in acts:
        act()
        if chance.random() < 0.5:
            bench.publisher.turn()
    bench.publisher.turn()
    assert bench.publisher.turn() == 0
    (current,) = [r for r in bench.rows() if (r["kind"], r["state"]) == ("sr", "written")]
    ds = pydicom.dcmread(bench.folder / current["path"])
    assert (ds.PatientID, ds.PatientName, ds.AccessionNumber) == ("P9", "Poe^Ann", "A7")


def test_a_study_named_anew_while_its_objects_are_written_gets_none_of_the_old_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.completed()
    real_write, calls = publish.write, itertools.count()

    def write(folder: Path, relative: str, content: bytes) -> None:
        if next(calls) == 0:
            merge(bench.database)
        real_write(folder, relative, content)

    monkeypatch.setattr(publish, "write", write)
    bench.publisher.turn()
    assert bench.rows() == [] and bench.files() == []
    bench.publisher.turn()
    assert {r["identity_version"] for r in bench.rows()} == {1}
    assert report(bench, 1).PatientID == "P9"


# --- on its way to an archive --------------------------------------------------------------------------------


def notes(pacs: Pacs) -> list[Dataset]:
    return [
        ds for ds in pacs.stored.values()
        if ds.Modality == "KO" and ds.ConceptNameCodeSequence[0].CodeValue in ("113001", "113037", "113039")
    ]  # fmt: skip


def states(way: Way) -> list[tuple[str, int, str]]:
    with way.bench.database.read() as tx:
        rows = tx.execute(
            select(output.c.kind, output.c.identity_version, dispatch.c.state)
            .join(dispatch, dispatch.c.output_id == output.c.id)
            .order_by(output.c.id)
        ).all()
    return [(r.kind, r.identity_version, r.state) for r in rows]


def named(note: Dataset) -> set[str]:
    (of_study,) = note.CurrentRequestedProcedureEvidenceSequence
    return {
        sop.ReferencedSOPInstanceUID
        for series in of_study.ReferencedSeriesSequence for sop in series.ReferencedSOPSequence
    }  # fmt: skip


def test_what_was_sent_is_sent_anew_and_taken_back_once(database: Database, tmp_path: Path) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port, rejection_notes=True)
        way.sender.turn()
        old = set(pacs.stored)
        merge(database)
        way.sender.turn()  # the publisher has not looked yet
        way.bench.publisher.turn()
        for _ in range(3):
            way.sender.turn()
        assert states(way) == [
            ("sr", 0, "withdrawn"), ("kos", 0, "withdrawn"), ("sr", 1, "sent"), ("kos", 1, "sent"),
            ("note", 0, "sent"),
        ]  # fmt: skip
        (note,) = notes(pacs)
        assert named(note) == old
        assert (note.PatientID, note.ConceptNameCodeSequence[0].CodeValue) == ("P9", "113037")
        assert {ds.PatientID for sop, ds in pacs.stored.items() if sop not in old} == {"P9"}
        path = next((tmp_path / "outputs").rglob("note-*.dcm"))
        said = read_rejection(path)  # our own reader honours it
        assert said is not None and (said.reason, said.sop_instance_uids) == (Reason.SAFETY, old)
    with database.read() as tx:
        assert [e["act"] for e in audit.events(tx)].count("output.taken_back") == 1


def test_a_peer_that_did_not_ask_for_notes_gets_none(database: Database, tmp_path: Path) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port)
        way.sender.turn()
        merge(database)
        way.bench.publisher.turn()
        way.sender.turn()
        way.sender.turn()
        assert notes(pacs) == [] and len(pacs.stored) == 4
        assert {s for _, _, s in states(way)} == {"withdrawn", "sent"}


def test_what_is_out_of_date_before_it_left_never_leaves(database: Database, tmp_path: Path) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port, rejection_notes=True)
        merge(database)
        way.sender.turn()
        assert pacs.stored == {}  # in doubt: the publisher has not looked
        way.bench.publisher.turn()
        way.sender.turn()
        assert {ds.PatientID for ds in pacs.stored.values()} == {"P9"} and notes(pacs) == []
        assert states(way)[:2] == [("sr", 0, "withdrawn"), ("kos", 0, "withdrawn")]


def test_a_newer_result_takes_the_older_ones_objects_back_for_quality(
    database: Database, tmp_path: Path
) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port, rejection_notes=True)
        way.sender.turn()
        old = set(pacs.stored)
        way.bench.completed(release="second")
        way.bench.publisher.turn()
        way.sender.turn()
        way.sender.turn()
        (note,) = notes(pacs)
        assert note.ConceptNameCodeSequence[0].CodeValue == "113001" and named(note) == old
        modifier = note.ContentSequence[0]
        assert modifier.ConceptNameCodeSequence[0].CodeValue == "113011"
        assert modifier.ConceptCodeSequence[0].CodeValue == "111218"


def test_merges_while_a_send_is_in_flight_end_with_one_name_in_use(
    database: Database, tmp_path: Path
) -> None:
    """Merge, undo and merge again while a slow archive stores: what it holds of an older name is taken back, all of it."""
    with a_pacs(slow_seconds=0.05) as pacs:
        way = Way(database, tmp_path, pacs.port, rejection_notes=True)
        over = threading.Event()

        def send() -> None:
            while not over.is_set():
                way.sender.turn()

        sender = threading.Thread(target=send)
        sender.start()
        try:
            for i in range(4):
                time.sleep(0.07)
                merge(database, "P1", f"P{20 + i}", key=f"m{i}", said_at=NOON.replace(minute=i))
                way.bench.publisher.turn()
        finally:
            time.sleep(0.4)
            over.set()
            sender.join(10)
        while way.sender.turn():
            pass
        taken_back = set().union(*(named(n) for n in notes(pacs)), set())
        in_use = [ds for u, ds in pacs.stored.items() if u not in taken_back and ds not in notes(pacs)]
        assert {ds.PatientID for ds in in_use} == {"P23"} and len(in_use) == 2
        assert taken_back <= set(pacs.stored)
        assert {s for kind, v, s in states(way) if kind != "note" and v < 4} == {"withdrawn"}


def test_what_a_dead_sender_had_offered_is_brought_there_and_then_taken_back(
    database: Database, tmp_path: Path
) -> None:
    with a_pacs() as pacs:
        way = Way(database, tmp_path, pacs.port, rejection_notes=True)
        way.sender._want()
        with database.write() as tx:  # as it stands when a sender is killed between the object and its note
            tx.execute(text("UPDATE dispatch SET begun_at = '2026-01-05 12:00:00'"))
        merge(database)
        way.bench.publisher.turn()
        after = Sender(database, way.settings, way.outlet, way.clock, lambda: 0.0)
        for _ in range(4):
            after.turn()
        (note,) = notes(pacs)
        assert named(note) == {ds.SOPInstanceUID for ds in pacs.stored.values() if ds.PatientID == "P1"}
        assert len(named(note)) == 2


def test_every_reason_has_a_title() -> None:
    assert {TITLE_OF[NAMED_OTHERWISE], TITLE_OF[REPLACED]} == {Reason.SAFETY, Reason.QUALITY}
    assert Reason.WRONG_ENTRY not in TITLE_OF.values()


def test_what_was_named_anew_and_what_is_to_be_taken_back_is_found_by_index(database: Database) -> None:
    said: list[str] = []
    listen = lambda conn, cursor, statement, *_: said.append(statement)  # noqa: E731
    with database.read() as tx:
        event.listen(tx, "before_cursor_execute", listen)
        outputs.named_anew(tx, 9)
        dispatches.due_to_take_back(tx, "PACS", 9)
        event.remove(tx, "before_cursor_execute", listen)
        plans = [
            str(tx.connection.execute(f"EXPLAIN QUERY PLAN {s}", ("x",) * s.count("?")).fetchall())
            for s in said
        ]
    assert "run_named_anew" in plans[0] and "dispatch_outdated" in plans[1]
