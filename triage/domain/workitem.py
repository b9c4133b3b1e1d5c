"""The reading list as Unified Procedure Steps: what each item looks like from outside, and how it may get there.

source: PS3.4 CC.1.1 (states), standards 2.6
"""

from __future__ import annotations

from enum import StrEnum

from triage.domain.finding import PriorityClass


class StepState(StrEnum):
    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


_OF_ITEM = {
    "arriving": StepState.SCHEDULED,
    "to_read": StepState.SCHEDULED,
    "claimed": StepState.IN_PROGRESS,
    "read": StepState.COMPLETED,
    "withdrawn": StepState.CANCELED,
}
FINAL = frozenset({StepState.COMPLETED, StepState.CANCELED})


def wanted_state(item_state: str) -> StepState:
    return _OF_ITEM[item_state]


def path(current: StepState | None, wanted: StepState) -> tuple[tuple[StepState, ...], bool]:
    """(states to go through, whether a new step begins with the last of them).

    A step never goes back: what is given back ends as CANCELED, and a new step is SCHEDULED for the same study.
    """
    if current is wanted:
        return (), False
    if current is None:
        begun = _forward(StepState.SCHEDULED, wanted)
        return (StepState.SCHEDULED, *begun), True
    if current in FINAL:
        return (StepState.SCHEDULED, *_forward(StepState.SCHEDULED, wanted)), True
    if wanted is StepState.SCHEDULED:
        return (StepState.CANCELED, StepState.SCHEDULED), True
    return _forward(current, wanted), False


def _forward(current: StepState, wanted: StepState) -> tuple[StepState, ...]:
    if current is wanted:
        return ()
    if wanted is StepState.COMPLETED and current is StepState.SCHEDULED:
        return StepState.IN_PROGRESS, StepState.COMPLETED
    return (wanted,)


def step_priority(priority_class: PriorityClass, overdue: bool) -> str:
    """HIGH or MEDIUM. LOW could come from an order alone, never from AI, and our orders' least is routine."""
    return "HIGH" if overdue or priority_class >= PriorityClass.HIGH else "MEDIUM"


def readiness(item_state: str) -> str:
    """Input Readiness State (0040,4041)."""
    return "INCOMPLETE" if item_state == "arriving" else "READY"
