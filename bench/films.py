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
from triage.detectors.chest_xray import ChestXray, load
from triage.detectors.releases import Release, active_release, load_release
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


def share_of_peak(detector: ChestXray, release: Release, runs: int) -> dict[str, float]:
    """The networks' arithmetic against a float32 matrix product of numpy in the same run, threads alike."""
    import torch  # for counting alone

    from triage.detectors._nets2d import build

    side = release.content["network"]["side"]
    counted = [0]

    def count(layer: torch.nn.Conv2d, _: Any, out: torch.Tensor) -> None:
        counted[0] += 2 * out.numel() * layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]

    module = build(release.content["network"]).eval()
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        module(torch.zeros(1, 1, side, side))
    matrix = np.random.default_rng(0).random((1500, 1500), dtype=np.float32)
    square = np.full((side, side), 0.5, np.float32)
    peak = 2 * 1500**3 / timed(lambda: matrix @ matrix, runs)["processor_p50_ms"]
    reached = counted[0] / timed(lambda: detector.scores(square), runs)["processor_p50_ms"]
    return {"gflop_a_film": round(counted[0] / 1e9, 2), "share_of_matmul_peak": round(reached / peak, 2)}


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
    figures["films_a_second"] = round(1000 / figures["openvino, detect"]["wall_p50_ms"], 1)
    eager = load(active_release("chest_xray"), "torch")
    figures["torch eager, detect"] = timed(lambda: eager.detect(film), runs)
    release = load_release(active_release("chest_xray"))
    figures["networks"] = share_of_peak(fast, release, runs)
    upright = prepare(film.pixels).square
    figures["openvino, network alone"] = timed(lambda: fast.scores(upright), runs)
    figures["torch eager, network alone"] = timed(lambda: eager.scores(upright), runs)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
