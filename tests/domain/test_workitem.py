"""Steps never go back, and whatever the list does there is a way to say it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triage.domain.finding import PriorityClass
from triage.domain.workitem import FINAL, StepState, path, readiness, step_priority, wanted_state

# PS3.4 CC.1.1: the moves of one step.
ALLOWED = {
    (StepState.SCHEDULED, StepState.IN_PROGRESS),
    (StepState.SCHEDULED, StepState.CANCELED),
    (StepState.IN_PROGRESS, StepState.COMPLETED),
    (StepState.IN_PROGRESS, StepState.CANCELED),
}


@given(st.sampled_from([None, *StepState]), st.lists(st.sampled_from(list(StepState)), max_size=12))
def test_every_history_of_the_list_is_legal_for_each_step(
    first: StepState | None, wanted: list[StepState]
) -> None:
    current = first
    for state in wanted:
        states, fresh = path(current, state)
        for following in states:
            begins = fresh and following is StepState.SCHEDULED
            assert begins or (current is not None and (current, following) in ALLOWED), (current, following)
            current = following
        assert current is state


@pytest.mark.parametrize("final", sorted(FINAL))
def test_a_study_that_comes_back_is_a_new_step(final: StepState) -> None:
    assert path(final, StepState.SCHEDULED) == ((StepState.SCHEDULED,), True)


def test_what_a_reader_gives_back_is_canceled_and_scheduled_anew() -> None:
    assert path(StepState.IN_PROGRESS, StepState.SCHEDULED) == (
        (StepState.CANCELED, StepState.SCHEDULED), True,
    )  # fmt: skip


def test_priority_is_high_from_class_high_on_or_when_overdue_and_never_low() -> None:
    said = {(c.word, late): step_priority(c, late) for c in PriorityClass for late in (False, True)}
    assert {k for k, v in said.items() if v == "HIGH"} == {
        ("critical", False), ("high", False), *((c.word, True) for c in PriorityClass),
    }  # fmt: skip
    assert set(said.values()) == {"HIGH", "MEDIUM"}


def test_every_state_of_a_worklist_item_has_its_step_and_says_whether_the_images_are_here() -> None:
    assert wanted_state("arriving") is wanted_state("to_read") is StepState.SCHEDULED
    assert wanted_state("claimed") is StepState.IN_PROGRESS
    assert wanted_state("read") is StepState.COMPLETED
    assert wanted_state("withdrawn") is StepState.CANCELED
    assert (readiness("arriving"), readiness("to_read")) == ("INCOMPLETE", "READY")
