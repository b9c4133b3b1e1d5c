"""A check in steps, each with its time and cause; after one that failed the rest is not tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from triage.domain.errors import TriageError, Unavailable


@dataclass(frozen=True)
class Step:
    """ok: None when it was not tried, since an earlier one failed or the peer does not need it."""

    name: str
    ok: bool | None
    detail: str
    seconds: float | None

    def as_json(self) -> dict[str, Any]:
        state = {True: "ok", False: "failed", None: "not tried"}[self.ok]
        return {"name": self.name, "state": state, "detail": self.detail, "seconds": self.seconds}


@dataclass
class Check:
    """The steps so far. error: the first that went wrong, as it was raised."""

    steps: list[Step]
    error: TriageError | None = None

    @property
    def ok(self) -> bool:
        return all(s.ok is not False for s in self.steps)

    @property
    def failed(self) -> str:
        """The step that went wrong, "" for none."""
        return next((s.name for s in self.steps if s.ok is False), "")


def run_steps(
    check: Check, steps: Sequence[tuple[str, Callable[[], str]]], said: Callable[[Step], None] = lambda _: None
) -> None:  # fmt: skip
    """One after the other into the check. said: called after each"""
    failed = ""
    for name, act in steps:
        if failed:
            step = Step(name, None, f"not tried: {failed} failed", None)
        else:
            step, error = _one(name, act)
            failed = name if error else ""
            check.error = check.error or error
        check.steps.append(step)
        said(step)


def _one(name: str, act: Callable[[], str]) -> tuple[Step, TriageError | None]:
    started = time.monotonic()
    error: TriageError | None = None
    try:
        detail = act()
    except TriageError as caught:
        error, detail = caught, str(caught)
    except OSError as caught:
        detail = f"{caught.strerror or caught}. Check address, port and firewall."
        error = Unavailable(f"{name} failed: {detail}")
    return Step(name, error is None, detail, round(time.monotonic() - started, 3)), error
