"""What a work item of others needs next, and the reason under which it is given back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from triage.domain.performing import REASONS, Next, next_step
from triage.domain.suitability import ReasonCode

HOUR = timedelta(hours=1)
DONE, OPEN = ("completed", ""), ("running", "")


@pytest.mark.parametrize(
    ("missing", "arriving", "runs", "unsent", "hours", "wanted", "code"),
    [
        (2, False, [], 0, 0, Next.WAIT, ""),
        (2, False, [DONE], 0, 2, Next.CANCEL, "110523"),
        (0, True, [], 0, 0, Next.WAIT, ""),
        (0, False, [OPEN], 0, 0, Next.WAIT, ""),
        (0, False, [OPEN, DONE], 0, 0, Next.WAIT, ""),
        (0, False, [OPEN], 0, 2, Next.CANCEL, "110527"),
        (0, False, [DONE], 1, 0, Next.WAIT, ""),
        (0, False, [DONE], 1, 2, Next.COMPLETE, ""),
        (0, False, [DONE, ("not_analysed", "LATERAL_ONLY")], 0, 0, Next.COMPLETE, ""),
        (0, False, [], 0, 0, Next.CANCEL, "110522"),
        (0, False, [("not_analysed", ReasonCode.CORRUPT_PIXELS)], 0, 0, Next.CANCEL, "110521"),
        (0, False, [("not_analysed", ReasonCode.GAP_IN_SERIES)], 0, 0, Next.CANCEL, "110523"),
        (0, False, [("not_analysed", ReasonCode.TIMEOUT)], 0, 0, Next.CANCEL, "110527"),
        (0, False, [("not_analysed", ReasonCode.OUT_OF_AGE)], 0, 0, Next.CANCEL, "110522"),
        (0, False, [("failed", "crashed")], 0, 0, Next.CANCEL, "110513"),
    ],
)
def test_each_row_of_the_rule(
    missing: int,
    arriving: bool,
    runs: list[tuple[str, str]],
    unsent: int,
    hours: int,
    wanted: Next,
    code: str,
) -> None:
    step = next_step(
        missing=missing, arriving=arriving, runs=runs, unsent=unsent, waited=hours * HOUR, patience=HOUR
    )
    assert (step.next, step.code) == (wanted, code)
    assert (code in REASONS) == (wanted is Next.CANCEL)
