"""A worklist's word becomes the study's order, only when it is surely this study's."""

from __future__ import annotations

import pytest

from tests.factories import NOON
from tests.workflow.desk import Desk
from triage.dicom.mwl import Scheduled
from triage.store import orders
from triage.store.database import Database
from triage.workflow.ordered import Unordered, fits, take

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
