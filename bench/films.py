"""How long a film takes from pixels to findings, by runtime and step, and what eager torch takes in the same run.

    python -m bench.films [--runs 30]

Processor time is given beside wall time: on a busy machine only the first can be compared.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from triage.detectors._film import prepare
from triage.detectors.chest_xray import load
from triage.detectors.releases import active_release
from triage.domain.image import Radiograph
from triage.phantom import make_thorax, render_radiograph

ROWS, COLUMNS = 2500, 2000


def timed(step: Callable[[], Any], runs: int) -> dict[str, float]:
    """Wall p50 and p95 and processor time p50, in milliseconds."""
    step()
    wall, processor = [], []
    for _ in range(runs):
        began, worked = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - worked)
    return {
        "wall_p50_ms": round(1000 * float(np.median(wall)), 1),
        "wall_p95_ms": round(1000 * float(np.quantile(wall, 0.95)), 1),
        "processor_p50_ms": round(1000 * float(np.median(processor)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args().runs
    square = render_radiograph(make_thorax(1, ("pneumothorax",)), size_px=2000).pixels
    film = Radiograph(np.pad(square, ((0, ROWS - 2000), (0, COLUMNS - 2000)), mode="edge"))
    figures: dict[str, Any] = {
        "film": f"{ROWS} x {COLUMNS}",
        "prepare": timed(lambda: prepare(film.pixels), runs),
    }
    began = time.perf_counter()
    fast = load(active_release("chest_xray"))
    figures["load_seconds"] = round(time.perf_counter() - began, 2)
    figures["openvino, detect"] = timed(lambda: fast.detect(film), runs)
    figures["memory_mib_without_torch"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    eager = load(active_release("chest_xray"), "torch")
    figures["torch eager, detect"] = timed(lambda: eager.detect(film), runs)
    upright = prepare(film.pixels).square
    figures["openvino, network alone"] = timed(lambda: fast.scores(upright), runs)
    figures["torch eager, network alone"] = timed(lambda: eager.scores(upright), runs)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
