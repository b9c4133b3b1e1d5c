"""python -m tests.simulation [--seeds N] [--first S] [--seed S]: many histories, or one again, shrunk."""

from __future__ import annotations

import argparse
import logging
import sys
import time

import structlog

from tests.simulation.run import run, shrink


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--seed", type=int, help="replay this one alone and shrink what it breaks")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if options.seed is not None:
        return _replay(options.seed)
    start, steps, failed = time.monotonic(), 0, 0
    for seed in range(options.first, options.first + options.seeds):
        history = run(seed)
        steps += history.steps
        if history.violation:
            failed += 1
            print(history.line(), flush=True)
        if sys.stderr.isatty():
            print(f"\r{seed - options.first + 1}/{options.seeds}", end="", file=sys.stderr)
    seconds = time.monotonic() - start
    print(f"{options.seeds} seeds, {failed} failed, {steps} events, {seconds:.0f} s")
    return 1 if failed else 0


def _replay(seed: int) -> int:
    history = run(seed)
    if not history.violation:
        print(f"seed {seed}: {history.steps} events, nothing broken, trace {history.trace[:16]}")
        return 0
    print(history.line())
    shorter = shrink(history)
    print(f"shrunk from {history.steps} to {shorter.steps} events: {shorter.violation}")
    print(shorter.last_events())
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
