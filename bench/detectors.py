"""Both detectors alone, from pixels to findings: `bench.films` and `bench.scans`, runtime by runtime and step by step.

Each in a process of its own: peak memory counts from the beginning of a process. A quiet machine takes three minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PARTS = {"film": "bench.films", "CT": "bench.scans"}


def measure() -> dict[str, Any]:
    return {kind: _printed(module) for kind, module in PARTS.items()}


def _printed(module: str) -> Any:
    done = subprocess.run([sys.executable, "-m", module], stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)
