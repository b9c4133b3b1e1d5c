"""A run goes only the ways of its table (I4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triage.domain.errors import WrongTransition
from triage.domain.run import TERMINAL, TRANSITIONS, RunState, state_after

EVENTS = sorted({event for _, event in TRANSITIONS})


@given(st.sampled_from(list(RunState)), st.sampled_from(EVENTS))
def test_a_step_is_in_the_table_or_refused(state: RunState, event: str) -> None:
    if (state, event) in TRANSITIONS:
        assert state_after(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(WrongTransition, match=state.value):
            state_after(state, event)


@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_what_has_ended_changes_only_to_superseded(events: list[str]) -> None:
    state = RunState.REQUESTED
    for event in events:
        if (state, event) not in TRANSITIONS:
            continue
        before, state = state, state_after(state, event)
        if before in TERMINAL:
            assert state is RunState.SUPERSEDED


def test_every_state_can_be_reached_and_every_one_can_end() -> None:
    reached = {RunState.REQUESTED} | set(TRANSITIONS.values())
    assert reached == set(RunState)
    assert all((s, "superseded") in TRANSITIONS for s in RunState if s is not RunState.SUPERSEDED)
