"""`python -m bench [NAME]`: run all benchmarks, or one; each prints its figures and writes bench/results/NAME.json."""

from __future__ import annotations

import importlib
import json
import platform
import sys
from pathlib import Path

BENCHES = ("latency", "ingest", "web", "readers", "syntaxes", "detectors")
RESULTS = Path(__file__).parent / "results"


def main(names: list[str]) -> None:
    for name in names or BENCHES:
        if name not in BENCHES:
            raise SystemExit(f"no benchmark is called {name!r}; there are {', '.join(BENCHES)}")
        figures = importlib.import_module(f"bench.{name}").measure()
        figures["machine"] = {"python": platform.python_version(), "cpu": _cpu()}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
        print(json.dumps(figures, indent=1))


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


if __name__ == "__main__":
    main(sys.argv[1:])
