"""A work item of somebody else's that we perform: what is to be done next, and how it ends (PS3.4 CC; standards 2.6).

Pure: what is here, what the runs came to and how long it took come in; the next step goes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from triage.domain.run import RunState
from triage.domain.suitability import NOT_WHOLE, ReasonCode


class Next(StrEnum):
    WAIT = "wait"
    COMPLETE = "complete"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Step:
    """percent is progress so far; code and words say why it is cancelled (CID 9300, scheme DCM)."""

    next: Next
    percent: int
    words: str
    code: str = ""


REASONS: Mapping[str, str] = {  # code value to meaning
    "110513": "Discontinued for unspecified reason",
    "110521": "Objects incorrectly formatted",
    "110522": "Object Types not supported",
    "110523": "Object Set incomplete",
    "110527": "Resource inadequate",
}
_FORMAT = frozenset({
    ReasonCode.CORRUPT_PIXELS, ReasonCode.PIXELS_MISSING, ReasonCode.UNSUPPORTED_SYNTAX, ReasonCode.NO_RESCALE,
    ReasonCode.GEOMETRY,
})  # fmt: skip
_RESOURCE = frozenset({
    ReasonCode.AI_DOWN, ReasonCode.TIMEOUT, ReasonCode.DISK_LOW, ReasonCode.MODEL_OFF, ReasonCode.SITE_OFF,
})  # fmt: skip


def next_step(
    *, missing: int, arriving: bool, runs: Sequence[tuple[str, str]], unsent: int, waited: timedelta,
    patience: timedelta,
) -> Step:  # fmt: skip
    """missing   inputs that are not here; arriving: a series may still grow
    runs         (state, reason code) of the current runs over the inputs
    unsent       outputs that are not written, or not where they are to be fetched from
    """
    open_runs = [s for s, _ in runs if s in (RunState.REQUESTED.value, RunState.RUNNING.value)]
    late = waited > patience
    if missing:
        words = f"{missing} instances are not here"
        return Step(Next.CANCEL, 0, words, "110523") if late else Step(Next.WAIT, 10, words)
    if (arriving or open_runs) and not late:
        return Step(Next.WAIT, 30 if arriving else 50, "images arrive" if arriving else "being analysed")
    if any(s == RunState.COMPLETED.value for s, _ in runs):
        if unsent and not late:
            return Step(Next.WAIT, 90, "results are on their way")
        return Step(Next.COMPLETE, 100, "analysed")
    if open_runs:
        return Step(Next.CANCEL, 50, "analysis took too long", "110527")
    return _not_analysed([code for _, code in runs])


def _not_analysed(codes: Sequence[str]) -> Step:
    if not codes:
        return Step(Next.CANCEL, 0, "no detector reads these objects", "110522")
    known = codes[0]
    if known in NOT_WHOLE:
        code = "110523"
    elif known in _FORMAT:
        code = "110521"
    elif known in _RESOURCE:
        code = "110527"
    else:
        code = "110522" if known in set(ReasonCode) else "110513"
    return Step(Next.CANCEL, 0, f"not analysed: {known}", code)
