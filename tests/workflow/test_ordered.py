"""A worklist's word becomes the study's order, only when it is surely this study's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import AE, evt

from tests.factories import NOON
from tests.workflow.desk import Desk
from triage.dicom.mwl import MODALITY_WORKLIST_FIND, Scheduled
from triage.domain.errors import Refused
from triage.settings import DicomSettings, Settings
from triage.store import orders, peers
from triage.store.database import Database
from triage.workflow.ordered import Unordered, WorklistOrders, fits, take

ASKED = Unordered(1, "1.2.3", "A1", "P1")


def _said(**values: str) -> Scheduled:
    empty = dict.fromkeys(Scheduled.__dataclass_fields__, "")
    return Scheduled(**{**empty, **values})


@pytest.mark.parametrize(
    ("said", "fit"),
    [
        (_said(study_instance_uid="1.2.3"), True),
        (_said(accession_number="A1", patient_id="P1"), True),
        (_said(accession_number="A1", patient_id="P2"), False),
        (_said(patient_id="P1"), False),
        (_said(study_instance_uid="1.2.4", patient_id="P1"), False),
    ],
)
def test_only_the_order_of_this_study_is_taken(said: Scheduled, fit: bool) -> None:
    assert fits(ASKED, said) is fit


def test_without_an_accession_number_a_patient_alone_is_no_proof() -> None:
    assert not fits(Unordered(1, "1.2.3", "", "P1"), _said(patient_id="P1"))


def test_a_stat_order_lifts_its_study_and_is_taken_once(any_database: Database) -> None:
    desk = Desk(any_database)
    desk.receive()
    with any_database.read() as tx:
        (row,) = orders.unordered(tx, NOON)
    asked = Unordered(*row)
    said = _said(
        accession_number=asked.accession_number, patient_id=asked.patient_id, priority="STAT",
        patient_location="ED 3", reason_for_exam="sudden chest pain",
    )  # fmt: skip
    before = desk.item()
    with any_database.write() as tx:
        assert take(tx, asked, said, desk.clock())
        assert not take(tx, asked, said, desk.clock())
    after = desk.item()
    assert (after["ordered_priority"], after["location"]) == ("STAT", "ED 3")
    assert after["priority_class"] > before["priority_class"]
    with any_database.read() as tx:
        assert orders.unordered(tx, NOON) == []
    assert desk.acts().count("order.received") == 1


class Worklist:
    """A department's worklist of pynetdicom: one entry, and what it was asked."""

    def __init__(self, entry: Dataset) -> None:
        self.entry = entry
        self.asked: list[str] = []
        ae = AE("WORKLIST")
        ae.add_supported_context(MODALITY_WORKLIST_FIND)
        self._server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, self._find)]
        )
        self.port = self._server.server_address[1]

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        self.asked.append(event.identifier.AccessionNumber)
        if event.identifier.AccessionNumber == self.entry.AccessionNumber:
            yield 0xFF00, self.entry

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def worklist(database: Database) -> Iterator[Worklist]:
    entry, step = Dataset(), Dataset()
    entry.AccessionNumber, entry.PatientID, entry.RequestedProcedurePriority = "A1", "P1", "STAT"
    step.Modality = "DX"
    entry.ScheduledProcedureStepSequence = Items([step])
    made = Worklist(entry)
    with database.write() as tx:
        peers.add(tx, "RIS", "WORKLIST", "127.0.0.1", made.port, tls=False)
    yield made
    made.close()


def orders_of(desk: Desk, peer: str = "RIS") -> WorklistOrders:
    return WorklistOrders(desk.database, Settings(dicom=DicomSettings(worklist=peer)), desk.clock)


def test_a_study_without_an_order_is_asked_about_three_times_and_then_left(
    desk: Desk, worklist: Worklist
) -> None:
    asking = orders_of(desk)
    assert asking.turn() == 0  # nothing came yet
    desk.receive(study=1)
    desk.receive(study=2)  # the worklist has none for it
    assert [asking.turn(), asking.turn()] == [2, 0]
    assert desk.item(1)["ordered_priority"] == "STAT" and desk.item(2)["ordered_priority"] == "ROUTINE"
    for seconds in (60, 540, 59):
        desk.clock.advance(seconds)
        asking.turn()
    assert worklist.asked == ["A1", "A2", "A2", "A2"]


def test_a_worklist_that_is_no_peer_is_a_wrong_setting(desk: Desk) -> None:
    desk.receive()
    with pytest.raises(Refused, match="nobody"):
        orders_of(desk, peer="nobody").turn()
