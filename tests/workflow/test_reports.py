"""What a report does to its study, and that one which reports nothing yet does nothing."""

from __future__ import annotations

import pytest

from tests.factories import a_finding
from tests.hl7.messages import a_report
from tests.workflow.desk import Desk
from triage.store import messages
from triage.workflow.inbox import Inbox


@pytest.mark.parametrize("status", ["O", "I"])
def test_a_report_that_is_only_announced_leaves_the_study_to_be_read(desk: Desk, status: str) -> None:
    desk.flagged(a_finding())
    list(Inbox(desk.database, desk.site, desk.clock, desk.ids).answers(a_report(status), "10.0.0.9"))

    with desk.database.read() as tx:
        (kept,) = messages.listing(tx)
    assert "nothing is reported yet" in kept["reason"]
    assert desk.item()["state"] == "to_read" and desk.alerts()[0]["state"] == "open"


def report(desk: Desk, status: str) -> None:
    list(Inbox(desk.database, desk.site, desk.clock, desk.ids).answers(a_report(status), "10.0.0.9"))


def test_a_report_that_is_taken_back_before_it_came_leaves_the_study_as_it_is(desk: Desk) -> None:
    desk.flagged(a_finding())
    before = desk.item()
    report(desk, "X")
    assert desk.item() == before and "study.report_withdrawn" not in desk.acts()


def test_a_report_of_a_study_that_is_on_no_list_is_kept_alone(desk: Desk) -> None:
    desk.receive(sop_class_uid="1.2.840.10008.5.1.4.1.1.88.11", modality="SR")
    report(desk, "F")
    assert len(desk.rows("report")) == 1 and "study.reported" not in desk.acts()
