"""The workflow core under seeded faults: 300 histories, and each planted mistake seen (assurance 4).

A failing seed prints the line that repeats it; `python -m tests.simulation --seed N` shows its shrunk schedule.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mistakes import MISTAKES
from tests.simulation.run import run, shrink

CHUNK = 25
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Thousands of simulated outages need not be told to an operator."""
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.mark.parametrize("first", range(0, 300, CHUNK))
def test_no_history_breaks_a_promise(first: int) -> None:
    for seed in range(first, first + CHUNK):
        history = run(seed)
        assert not history.violation, f"{history.line()}\n{history.last_events()}"


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_seen(name: str) -> None:
    mistake = MISTAKES[name]
    with mistake.planted():
        for seed in range(mistake.seeds):
            history = run(seed, mistake.actors)
            if history.violation:
                break
    assert history.broken in mistake.seen, f"{name}: {history.violation or 'not seen'}"


def test_a_failing_schedule_shrinks_and_still_fails_alike() -> None:
    mistake = MISTAKES["marked as sent, then sent"]
    broken = (run(seed, mistake.actors) for seed in range(mistake.seeds))
    history = next(h for h in broken if h.violation and len(h.schedule) > 60)

    shorter = shrink(history, mistake.actors, tries=60)

    assert shorter.broken == history.broken
    assert len(shorter.schedule) < len(history.schedule) / 2
    assert run(history.seed, mistake.actors, shorter.schedule).violation == shorter.violation


def test_a_seed_is_one_history_whatever_the_hash_seed() -> None:
    script = "from tests.simulation.run import run; print([run(s).trace for s in (3, 8)])"
    told = set()
    for hash_seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(done.stdout)
    assert len(told) == 1 and run(3).trace in told.pop()
