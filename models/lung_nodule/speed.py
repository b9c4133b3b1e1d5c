"""Times the stages of the detector on one scan, per runtime.

    python models/lung_nodule/speed.py RELEASE [SCAN.mhd] [--threads 2] [--rounds 3] [--clock cpu]

Without a scan it takes a phantom of 300 slices. Median of the rounds in seconds after one round to warm up;
peak memory is that of the whole process. On a busy machine take one thread and processor time (--clock cpu).
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import statistics
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("release", type=Path)
    parser.add_argument("scan", type=Path, nargs="?")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runtimes", nargs="+", default=["openvino", "torch"])
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: processor seconds")
    args = parser.parse_args()
    clock = time.perf_counter if args.clock == "wall" else time.process_time
    os.environ["TRIAGE_INFERENCE_THREADS"] = str(args.threads)  # read when the detector is loaded

    from triage.detectors import lung_nodule as ln
    from triage.detectors._grid import canonical
    from triage.detectors.lungs import find_lungs
    from triage.phantom import make_thorax, render_volume
    from triage.qa.metaimage import read_metaimage

    volume = read_metaimage(args.scan) if args.scan else render_volume(make_thorax(1, ["nodule"]), slices=300)
    print(f"{volume.hu.shape} voxels, {args.threads} threads")
    for runtime in args.runtimes:
        detector = ln.load(args.release, runtime)
        stages: dict[str, list[float]] = {}
        for turn in range(args.rounds + 1):
            marks = [clock()]
            source = canonical(volume.hu, volume.affine)
            lungs = find_lungs(source)
            marks.append(clock())
            grid = ln.lung_grid(source, lungs)
            marks.append(clock())
            places = ln.find_places(detector._finder, source, lungs, detector._content["finder_floor"])
            marks.append(clock())
            places = ln.judged(detector._judge, source, places)
            marks.append(clock())
            found, _ = detector._findings(volume, source, lungs, places)
            marks.append(clock())
            seconds = [b - a for a, b in itertools.pairwise(marks)]
            seconds[2] -= seconds[1]  # find_places resamples again
            if turn:
                for name, s in zip(("lungs", "resample", "finder", "judge", "measure"), seconds, strict=True):
                    stages.setdefault(name, []).append(s)
        row = {name: statistics.median(s) for name, s in stages.items()}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        text = "  ".join(f"{name} {s:.2f}" for name, s in row.items())
        print(
            f"{runtime}: {text}  total {sum(row.values()):.2f} s ({args.clock}), grid {grid.hu.shape}, "
            f"{len(places)} places, {len(found)} findings, peak {peak:.0f} MB"
        )


if __name__ == "__main__":
    main()
