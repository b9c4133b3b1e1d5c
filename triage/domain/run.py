"""One execution of one release on one input: its states and the only ways between them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum

from triage.domain.errors import WrongTransition


class RunState(StrEnum):
    REQUESTED = "requested"
    RUNNING = "running"
    COMPLETED = "completed"
    NOT_ANALYSED = "not_analysed"
    FAILED = "failed"
    SUPERSEDED = "superseded"


TERMINAL = frozenset({RunState.COMPLETED, RunState.NOT_ANALYSED, RunState.FAILED, RunState.SUPERSEDED})
LEASE = timedelta(seconds=60)  # a worker that has not renewed it for so long is dead
MAX_ATTEMPTS = 3  # a study that kills its worker three times is failed(crashed), not a loop

TRANSITIONS: Mapping[tuple[RunState, str], RunState] = {
    (RunState.REQUESTED, "leased"): RunState.RUNNING,
    (RunState.REQUESTED, "unsuitable"): RunState.NOT_ANALYSED,
    (RunState.REQUESTED, "gave_up"): RunState.FAILED,  # attempts used up while nobody held the lease
    (RunState.RUNNING, "lease_expired"): RunState.REQUESTED,  # the worker died; another may try
    (RunState.RUNNING, "finished"): RunState.COMPLETED,
    (RunState.RUNNING, "unsuitable"): RunState.NOT_ANALYSED,
    (RunState.RUNNING, "gave_up"): RunState.FAILED,
    (RunState.REQUESTED, "superseded"): RunState.SUPERSEDED,
    (RunState.RUNNING, "superseded"): RunState.SUPERSEDED,
    (RunState.COMPLETED, "superseded"): RunState.SUPERSEDED,
    (RunState.NOT_ANALYSED, "superseded"): RunState.SUPERSEDED,
    (RunState.FAILED, "superseded"): RunState.SUPERSEDED,
}


def state_after(state: RunState, event: str) -> RunState:
    """The state that `event` leads to; raises WrongTransition where the table has no such step."""
    if (state, event) not in TRANSITIONS:
        raise WrongTransition(f"a {state.value} run cannot take {event!r}")
    return TRANSITIONS[state, event]
