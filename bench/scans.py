"""How long a CT takes from the spool to findings, stage by stage and runtime by runtime, with eager windows beside it.

    python -m bench.scans [--slices 300] [--threads 2] [--rounds 3]

Each stage in wall and in processor seconds (median of the rounds after one to warm up); on a busy machine only the
second can be compared. `windows` is what a sliding window costs on the same lungs: float32 eager torch, windows of
96 voxels with half overlap, as MONAI's inferer runs a network by default.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from triage.detectors import _runtime
from triage.detectors import lung_nodule as ln
from triage.detectors._grid import canonical
from triage.detectors.lungs import find_lungs
from triage.detectors.releases import active_release
from triage.dicom.header import read_header
from triage.dicom.pixels import Decoder
from triage.phantom import make_thorax
from triage.phantom.identity import identity_for
from triage.phantom.write import write_ct

STAGES = ("read", "lungs", "resample", "network", "reduction", "measure")
WINDOW = 96


def both_clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def stages(decoder: Decoder, detector: ln.LungNodule, paths: list[Path]) -> tuple[list[Any], int]:
    """(clocks at each stage's beginning and at the end, number of findings) of one pass."""
    marks = [both_clocks()]
    volume = decoder.volume(paths, [read_header(p) for p in paths])
    marks.append(both_clocks())
    source = canonical(volume.hu, volume.affine)
    lungs = find_lungs(source)
    marks.append(both_clocks())
    ln.lung_grid(source, lungs)
    marks.append(both_clocks())
    said = detector._content
    places = ln.find_places(detector._finder, source, lungs, said["finder_floor"], said.get("passes", 1))
    marks.append(both_clocks())
    places = ln.judged(detector._judge, source, places, said.get("mirrored", 0))
    marks.append(both_clocks())
    found, _ = detector._findings(volume, source, lungs, places)
    marks.append(both_clocks())
    return marks, len(found)


def one_runtime(decoder: Decoder, detector: ln.LungNodule, paths: list[Path], rounds: int) -> dict[str, Any]:
    passes = []
    for turn in range(rounds + 1):
        marks, found = stages(decoder, detector, paths)
        if turn:
            passes.append([np.subtract(b, a) for a, b in itertools.pairwise(marks)])
    median = np.median(np.array(passes), 0)
    median[3] -= median[2]  # find_places resamples once more
    row: dict[str, Any] = {
        name: {"wall_s": round(float(w), 2), "processor_s": round(float(p), 2)}
        for name, (w, p) in zip(STAGES, median, strict=True)
    }
    row["total"] = {
        "wall_s": round(float(median[:, 0].sum()), 2),
        "processor_s": round(float(median[:, 1].sum()), 2),
    }
    row["findings"] = found
    row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return row


def windows(network: Callable[[Any], Any], values: Any) -> None:
    """The finder in overlapping windows over the lungs, as a patch detector would be run."""
    starts = [[*range(0, max(1, n - WINDOW), WINDOW // 2), max(0, n - WINDOW)] for n in values.shape]
    for corner in itertools.product(*starts):
        part = values[tuple(slice(c, c + WINDOW) for c in corner)]
        network(np.pad(part, [(0, WINDOW - n) for n in part.shape])[None, None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    os.environ["TRIAGE_INFERENCE_THREADS"] = str(args.threads)
    folder = active_release("lung_nodule")
    figures: dict[str, Any] = {"release": folder.name, "slices": args.slices, "threads": args.threads}
    with tempfile.TemporaryDirectory() as spool, Decoder() as decoder:
        thorax = make_thorax(1, ["nodule"])
        paths = write_ct(
            Path(spool), thorax, identity=identity_for(1, "CT", datetime.now(UTC)), slices=args.slices
        )
        detector = ln.load(folder)
        figures["openvino f32"] = one_runtime(decoder, detector, paths, args.rounds)
        parts = [
            _runtime.OpenVinoNetwork(folder / f"{p}.xml", args.threads, "bf16") for p in ("finder", "judge")
        ]
        detector._finder, detector._judge = parts
        figures["openvino bf16"] = one_runtime(decoder, detector, paths, args.rounds)
        eager = ln.load(folder, "torch")
        figures["torch f32"] = one_runtime(decoder, eager, paths, args.rounds)
        volume = decoder.volume(paths, [read_header(p) for p in paths])
        source = canonical(volume.hu, volume.affine)
        values = ln.scaled(ln.lung_grid(source, find_lungs(source)).hu)
        began = both_clocks()
        windows(eager._finder, values)
        wall, processor = np.subtract(both_clocks(), began)
        figures["torch f32, windows"] = {
            "network": {"wall_s": round(float(wall), 2), "processor_s": round(float(processor), 2)},
            "grid": list(values.shape),
        }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
