"""What a peer's answer means, and that nothing waits for ever or is given up at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triage.domain.dispatch import (
    SEND_ATTEMPTS_MAX,
    TRANSITIONS,
    Answer,
    DispatchState,
    answer_of,
    fold,
    send_again_after,
    state_after,
)
from triage.domain.errors import WrongTransition


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (0x0000, Answer.STORED),
        (0xB000, Answer.STORED),
        (0xB007, Answer.STORED),
        (0xA700, Answer.LATER),
        (0xA702, Answer.LATER),
        (0x0110, Answer.LATER),
        (0x0213, Answer.LATER),
        (None, Answer.LATER),
        (0xA900, Answer.REFUSED),
        (0xA901, Answer.REFUSED),
        (0xC000, Answer.REFUSED),
        (0xC122, Answer.REFUSED),
        (0x0122, Answer.REFUSED),
        (0x0124, Answer.REFUSED),
    ],
)
def test_what_a_status_means(status: int | None, answer: Answer) -> None:
    assert answer_of(status) is answer


@given(st.integers(0, 0xFFFF))
def test_only_success_and_warnings_are_stored(status: int) -> None:
    assert (answer_of(status) is Answer.STORED) == (status == 0 or 0xB000 <= status <= 0xBFFF)


@given(st.integers(1, SEND_ATTEMPTS_MAX - 1), st.floats(0, 0.999))
def test_waits_grow_to_an_hour_and_end_after_days(attempts: int, jitter: float) -> None:
    wait, longer = send_again_after(attempts, jitter), send_again_after(attempts, 0.999)
    assert wait is not None and longer is not None
    assert 10 <= wait.total_seconds() <= 1.25 * 3600
    assert send_again_after(attempts, 0) <= wait <= longer  # type: ignore[operator]
    assert send_again_after(SEND_ATTEMPTS_MAX, jitter) is None


def test_two_days_are_tried() -> None:
    seconds = sum(send_again_after(n, 0).total_seconds() for n in range(1, SEND_ATTEMPTS_MAX))  # type: ignore[union-attr]
    assert 1.5 * 86_400 < seconds < 3 * 86_400


def test_a_committed_object_only_moves_when_it_is_taken_back_and_a_person_can_always_try_again() -> None:
    assert state_after(DispatchState.COMMITTED, "withdrawn") is DispatchState.WITHDRAWN
    for event in {e for _, e in TRANSITIONS} - {"withdrawn"}:
        with pytest.raises(WrongTransition):
            state_after(DispatchState.COMMITTED, event)
    for state in (DispatchState.REFUSED, DispatchState.PARKED):
        assert state_after(state, "again") is DispatchState.WANTED


@pytest.mark.parametrize(
    ("written", "states", "word"),
    [
        ("failed", [], "failed"),
        ("written", [], "written"),
        ("written", ["wanted", "committed"], "written"),
        ("written", ["sent", "committed"], "sent"),
        ("written", ["committed", "committed"], "committed"),
        ("written", ["committed", "refused", "sent"], "refused"),
        ("written", ["parked", "wanted"], "parked"),
    ],
)
def test_one_word_for_all_peers(written: str, states: list[str], word: str) -> None:
    assert fold(written, [DispatchState(s) for s in states]) == word
