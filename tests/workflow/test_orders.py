"""What an order's message does to the place of its study, and what it leaves alone."""

from __future__ import annotations

import pytest

from tests.hl7.messages import an_orm
from tests.workflow.desk import Desk, between
from triage.store.database import Database
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


@pytest.mark.postgres
def test_an_urgent_order_and_a_worker_that_takes_a_run_do_not_wait_for_each_other(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(postgres_database)
    desk.receive_scan(120)
    desk.clock.advance(3600)
    ((run_id, _),) = desk.judge(1)
    ordering = between(monkeypatch, desk, "rank", lambda: send(desk, an_orm()))

    leased = desk.lease(run_id)
    ordering.join(20)

    assert leased is not None and desk.item()["ordered_priority"] == "STAT"
    assert len(desk.rows("order")) == 1
