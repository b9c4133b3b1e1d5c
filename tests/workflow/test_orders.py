"""What an order's message does to the place of its study, and what it leaves alone."""

from __future__ import annotations

from tests.hl7.messages import an_orm
from tests.workflow.desk import Desk
from triage.workflow.inbox import Inbox


def send(desk: Desk, raw: bytes) -> None:
    list(Inbox(desk.database, desk.site, desk.clock, desk.ids).answers(raw, "10.0.0.9"))


def test_an_order_that_says_the_same_again_moves_nothing_on_the_list(desk: Desk) -> None:
    desk.receive()
    send(desk, an_orm())
    before = desk.item()
    assert before["ordered_priority"] == "STAT"

    send(desk, an_orm("XO"))

    assert desk.item() == before and desk.acts().count("order.changed") == 1


def test_an_order_of_a_study_that_nobody_reads_is_kept_and_makes_no_item(desk: Desk) -> None:
    desk.receive(sop_class_uid="1.2.840.10008.5.1.4.1.1.88.11", modality="SR")
    send(desk, an_orm())
    assert len(desk.rows("order")) == 1 and desk.rows("worklist_item") == []
