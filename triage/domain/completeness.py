"""Is this series whole? A judgement from evidence; it can be wrong, and late objects reopen it (standards 3).

Pure: rows and the clock come in, a verdict goes out, with the time at which to look again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Verdict(StrEnum):
    WAITING = "waiting"
    WHOLE = "whole"
    GIVEN_UP = "given_up"  # decide with what is here, and say so


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of one series.

    is_film            CR, DX: each image is judged alone
    instance_count     objects held; expected_count as the archive gave it
    missing_count      of the instances that MPPS or IAN list by name; None where nobody listed any
    has_gap            a slice is missing between the first and the last (`dicom.geometry.ladder`)
    association_open   the association that brought the last instance has not been released
    association_aborted  it ended without release
    """

    is_film: bool
    instance_count: int
    expected_count: int | None
    has_gap: bool
    association_open: bool
    association_aborted: bool
    first_instance_at: datetime
    last_instance_at: datetime
    missing_count: int | None = None

    @property
    def is_short(self) -> bool:
        """Somebody who knows says that more instances exist than we hold; a list of names beats a number."""
        if self.missing_count is not None:
            return self.missing_count > 0
        return self.expected_count is not None and self.instance_count < self.expected_count


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    because: str  # "film", "count met", "no gap, association released", "quiet 45 s", "hard limit" ...
    look_again_at: datetime | None  # None: nothing more to wait for until another object comes


HARD_LIMIT = timedelta(minutes=30)  # after the first instance (standards 3.2)
RELEASED, OPEN, GAP, ABORTED, SHORT = 1.0, 4.5, 12.0, 12.0, 12.0  # times of the table in units of quiet time


def longest_wait(quiet_seconds: float) -> timedelta:
    """No judgement asks to be looked at again later than this."""
    return min(timedelta(seconds=quiet_seconds * max(GAP, ABORTED, SHORT)), HARD_LIMIT)


def judge(evidence: Evidence, quiet_seconds: float, now: datetime) -> Judgement:
    """The decision table of standards 3.2; its times scale with `quiet_seconds` (base 10 s).

    A stamp in the future (a clock that was set back) counts as now; the sweeper brings such stamps back, so that
    they delay nothing (P17).
    """
    assert evidence.instance_count > 0
    if evidence.is_film:
        return Judgement(Verdict.WHOLE, "film", None)
    last = min(evidence.last_instance_at, now)
    limit = min(evidence.first_instance_at, now) + HARD_LIMIT
    because, factor = _rule(evidence)
    ripe = last + timedelta(seconds=quiet_seconds * factor)
    if now >= ripe:
        verdict = Verdict.GIVEN_UP if evidence.has_gap or evidence.is_short else Verdict.WHOLE
        return Judgement(verdict, because, None)
    if now >= limit:
        return Judgement(Verdict.GIVEN_UP, "hard limit", None)
    return Judgement(Verdict.WAITING, because, min(ripe, limit))


def _rule(evidence: Evidence) -> tuple[str, float]:
    if evidence.missing_count == 0:
        return "every listed instance is here", 0.0
    if evidence.missing_count is not None:
        return "quiet, fewer than listed", SHORT
    if evidence.expected_count is not None and evidence.instance_count >= evidence.expected_count:
        return "count met", 0.0
    if evidence.is_short:
        return "quiet, fewer than counted", SHORT
    if evidence.association_aborted:
        return "quiet after abort", ABORTED
    if evidence.has_gap:
        return "quiet, gap in positions", GAP
    if evidence.association_open:
        return "quiet", OPEN
    return "no gap, association released", RELEASED
