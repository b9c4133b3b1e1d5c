"""Of several rejection notes about one image the one that hides most counts."""

from __future__ import annotations

from itertools import permutations

from triage.domain.rejection import VIEWABLE, Reason, heaviest


def test_no_note_is_no_reason() -> None:
    assert heaviest([]) == ""
    assert heaviest([]) in VIEWABLE


def test_the_order_in_which_notes_came_plays_no_part() -> None:
    for reasons in permutations(Reason):
        assert heaviest(reasons) == Reason.WRONG_ENTRY
    assert heaviest([Reason.QUALITY, Reason.SAFETY]) == Reason.SAFETY
    assert Reason.SAFETY not in VIEWABLE
