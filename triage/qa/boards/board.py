"""All seventeen charts of a period, in order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage.domain.errors import Refused
from triage.domain.finding import FINDING_CODES
from triage.qa.boards import drift, truth, waiting
from triage.qa.boards.chart import Chart, Facts

DEFAULT_FINDING = "pneumothorax"  # of the what-if, until another is chosen
_BUILD: dict[int, Callable[[Facts], Chart]] = {
    1: waiting.sooner, 2: waiting.longest, 3: truth.right, 4: truth.missed, 5: truth.reasons, 6: drift.same,
    7: drift.inputs, 8: drift.output, 9: drift.detector, 10: drift.calibrated, 11: drift.refused, 12: waiting.fast,
    13: waiting.alerts_close, 14: waiting.loud, 15: waiting.obeyed, 16: truth.shadow,
}  # fmt: skip
NUMBERS = (*_BUILD, 17)


def facts_of(tx: Connection, start: datetime, end: datetime, now: datetime) -> Facts:
    """raises  Refused when the period is empty or begins in the future"""
    if start >= end or start >= now:
        raise Refused(f"a period from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} holds nothing")
    return Facts(tx, start, end, min(end, now))


def build(facts: Facts, number: int, finding: str = DEFAULT_FINDING) -> Chart:
    """One chart.

    finding  of chart 17
    raises   Refused for a number or finding that there is not
    """
    if number not in NUMBERS:
        raise Refused(f"there is no chart {number}; they go from 1 to 17")
    if finding not in FINDING_CODES:
        raise Refused(f"no finding is called {finding!r}")
    return truth.what_if(facts, finding) if number == 17 else _BUILD[number](facts)


def build_all(facts: Facts, finding: str = DEFAULT_FINDING) -> list[Chart]:
    return [build(facts, number, finding) for number in NUMBERS]


def as_json(charts: list[Chart], facts: Facts) -> dict[str, Any]:
    """What the API gives: charts without pictures."""
    return {
        "from": facts.start.isoformat(),
        "to": facts.end.isoformat(),
        "charts": [chart.as_json() for chart in charts],
    }
