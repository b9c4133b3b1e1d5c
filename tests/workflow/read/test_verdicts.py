"""Feedback changes nothing; a person lowers only what a person raised."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.web.seed import Sown, flag, pneumothorax
from tests.workflow.read.acting import NOW, do, item
from triage.domain.errors import Refused
from triage.domain.finding import PriorityClass
from triage.store import reading
from triage.workflow.read import claims, reported, verdicts


def test_feedback_needs_an_opened_study_and_changes_nothing(sown: Sown) -> None:
    uid = sown.add(findings=(flag("nodule"), flag("effusion")))
    with pytest.raises(Refused, match="open the study"):
        do(sown, verdicts.feedback, uid, "ann", NOW, verdict="agree")
    do(sown, claims.claim, uid, "ann", NOW)
    before = item(sown, uid)
    do(sown, verdicts.feedback, uid, "ann", NOW, verdict="disagree", finding="nodule", chip="known")
    assert item(sown, uid) == before
    with sown.database.read() as tx:
        stored = reading.feedback_of(tx, before["study_id"])[0]
    assert (stored["verdict"], stored["finding"], stored["chip"]) == ("disagree", "nodule", "known")
    assert stored["run_id"] is not None
    with pytest.raises(Refused, match="flagged already"):
        do(sown, verdicts.feedback, uid, "ann", NOW, verdict="missed", finding="effusion")


def test_feedback_on_a_study_without_a_completed_run_names_no_run(sown: Sown) -> None:
    uid = sown.add(state="failed")
    do(sown, claims.claim, uid, "ann", NOW)
    do(sown, verdicts.feedback, uid, "ann", NOW, verdict="missed", finding="pneumothorax")
    with sown.database.read() as tx:
        assert reading.feedback_of(tx, item(sown, uid)["study_id"])[0]["run_id"] is None


@pytest.mark.parametrize(
    "said",
    [
        {"verdict": "maybe"}, {"verdict": "missed"}, {"verdict": "agree", "finding": "unicorn"},
        {"verdict": "disagree", "chip": "mood"},
    ],
)  # fmt: skip
def test_feedback_in_unknown_words_is_refused(sown: Sown, said: dict[str, str]) -> None:
    uid = sown.add()
    do(sown, claims.claim, uid, "ann", NOW)
    with pytest.raises(Refused):
        do(sown, verdicts.feedback, uid, "ann", NOW, **said)


def test_feedback_is_taken_back_within_ten_seconds(sown: Sown) -> None:
    uid = sown.add()
    do(sown, claims.claim, uid, "ann", NOW)
    with pytest.raises(Refused):
        do(sown, verdicts.withdraw_feedback, uid, "ann", NOW)
    given = do(sown, verdicts.feedback, uid, "ann", NOW, verdict="agree")
    assert do(sown, verdicts.withdraw_feedback, uid, "ann", NOW + timedelta(seconds=10)) == given
    do(sown, verdicts.feedback, uid, "ann", NOW, verdict="agree")
    with pytest.raises(Refused, match="10 seconds"):
        do(sown, verdicts.withdraw_feedback, uid, "ann", NOW + timedelta(seconds=11))


def raised(sown: Sown, uid: str, to: PriorityClass, reason: str = "sats fall") -> dict[str, Any]:
    do(sown, verdicts.override, uid, "lead", NOW, priority_class=to, reason=reason)
    return item(sown, uid)


def test_a_person_raises_and_takes_back_what_a_person_raised(sown: Sown) -> None:
    uid = sown.add(ordered="URGENT", findings=(flag("consolidation"),))
    assert item(sown, uid)["priority_class"] == PriorityClass.HIGH
    assert raised(sown, uid, PriorityClass.CRITICAL)["priority_class"] == PriorityClass.CRITICAL
    lowered = raised(sown, uid, PriorityClass.ROUTINE, "was the wrong study")
    assert lowered["priority_class"] == PriorityClass.HIGH  # AI and order stay
    assert lowered["override_class"] is None
    assert lowered["override_by"] == ""


def test_a_person_cannot_lower_what_ai_or_the_order_raised(sown: Sown) -> None:
    for uid in (sown.add(findings=(pneumothorax(),)), sown.add(ordered="STAT")):
        with pytest.raises(Refused, match="lower only what a person raised"):
            raised(sown, uid, PriorityClass.ROUTINE)


def test_raising_needs_a_reason_and_a_study_that_waits(sown: Sown) -> None:
    uid = sown.add()
    with pytest.raises(Refused, match="why"):
        raised(sown, uid, PriorityClass.HIGH, "  ")
    do(sown, reported.report, uid, "ann", NOW, state="final")
    with pytest.raises(Refused):
        raised(sown, uid, PriorityClass.HIGH)
