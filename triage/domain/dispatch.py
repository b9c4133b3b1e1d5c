"""One object of ours on its way to one peer: the states it may take, what a peer's answer means, and when to try again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum

from triage.domain.errors import WrongTransition
from triage.domain.rejection import WHY, Reason


class DispatchState(StrEnum):
    WANTED = "wanted"  # written here, not yet taken there
    SENT = "sent"  # the peer said that it stored it
    COMMITTED = "committed"  # the peer took responsibility for it (PS3.4 J)
    REFUSED = "refused"  # the peer will never take it; a person must act
    PARKED = "parked"  # tried for days in vain; a person must act
    WITHDRAWN = "withdrawn"  # out of date: not sent, or taken back by a note where the peer wants notes


class Answer(StrEnum):
    """What an attempt came to."""

    STORED = "stored"
    REFUSED = "refused"  # the same bytes would be refused again
    LATER = "later"  # the peer is away, busy or full


TRANSITIONS: Mapping[tuple[DispatchState, str], DispatchState] = {
    (DispatchState.WANTED, "stored"): DispatchState.SENT,
    (DispatchState.WANTED, "refused"): DispatchState.REFUSED,
    (DispatchState.WANTED, "gave_up"): DispatchState.PARKED,
    (DispatchState.SENT, "committed"): DispatchState.COMMITTED,
    (DispatchState.SENT, "lost"): DispatchState.WANTED,  # the peer does not have it after all: sent once more
    (DispatchState.SENT, "gave_up"): DispatchState.PARKED,  # nobody ever committed it
    (DispatchState.REFUSED, "again"): DispatchState.WANTED,
    (DispatchState.PARKED, "again"): DispatchState.WANTED,
    **{(state, "withdrawn"): DispatchState.WITHDRAWN for state in DispatchState if state != "withdrawn"},
}

# Why an object is out of date, as persons read it, and under which title a note takes it back (standards 2.7).
NAMED_OTHERWISE = "it names whom the study was of before"
REPLACED = "a newer result took its place"
TITLE_OF: Mapping[str, Reason] = {
    NAMED_OTHERWISE: Reason.SAFETY,
    REPLACED: Reason.QUALITY,
    **{why: Reason.SAFETY if reason is Reason.WRONG_ENTRY else reason for reason, why in WHY.items()},
}

# A C-STORE status of these says that other bytes, another class or a peer's administrator are needed (PS3.4 B.2.3,
# PS3.7 C); what is not here may pass: out of resources (A7xx), processing failure (0110H), busy, silence.
_PERMANENT = frozenset({0x0112, 0x0117, 0x0118, 0x0119, 0x0122, 0x0124, 0x0211, 0x0212})
SEND_RETRY_SECONDS = (10, 30, 60, 300, 900, 3600)  # then hourly
SEND_ATTEMPTS_MAX = 48  # two days
COMMIT_RETRY = (timedelta(hours=1), timedelta(hours=6), timedelta(hours=24))  # standards 2.4, then parked
# Failure Reasons (PS3.3 C.14.1.1) after which sending once more may help.
COMMIT_LOST = frozenset({0x0112})


def state_after(state: DispatchState, event: str) -> DispatchState:
    if (state, event) not in TRANSITIONS:
        raise WrongTransition(f"an object that is {state.value} cannot take {event!r}")
    return TRANSITIONS[state, event]


def answer_of(status: int | None) -> Answer:
    """Meaning of a C-STORE status or a STOW Failure Reason; None is no answer at all."""
    if status is None:
        return Answer.LATER
    if status == 0 or status & 0xF000 == 0xB000:  # a warning is stored
        return Answer.STORED
    if status in _PERMANENT or status & 0xFF00 == 0xA900 or status & 0xF000 == 0xC000:
        return Answer.REFUSED
    return Answer.LATER


def send_again_after(attempts: int, jitter: float) -> timedelta | None:
    """Wait before the next attempt, None when it was the last; jitter in [0, 1) lengthens it by up to a quarter."""
    if attempts >= SEND_ATTEMPTS_MAX:
        return None
    base = SEND_RETRY_SECONDS[min(attempts, len(SEND_RETRY_SECONDS)) - 1]
    return timedelta(seconds=base * (1 + jitter / 4))


def fold(written: str, states: list[DispatchState]) -> str:
    """One word for an object and all its peers: the one that needs a person first, else the least far."""
    order = [
        DispatchState.REFUSED,
        DispatchState.PARKED,
        DispatchState.WANTED,
        DispatchState.SENT,
        DispatchState.COMMITTED,
        DispatchState.WITHDRAWN,
    ]
    if written != "written" or not states:
        return written
    worst = min(states, key=order.index)
    return "written" if worst is DispatchState.WANTED else worst.value
