"""What else a card must say: dose, kernel and slice thickness; and whether inserted nodules look like real ones.

    python models/lung_nodule/robust.py scans  --release DIR --cases CASES/inserted [--every 3]
    python models/lung_nodule/robust.py origin --data ../shared/data/ct

`scans` degrades the same cases and repeats the FROC. `origin` tells the 117 real crops from our own insertions into a
scan of the same source (train split) by simple features of the nodule, cross-validated: 0.5 means they cannot be told.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from data import load_crops, load_scans, load_shapes
from insertion import draw_look, paint
from sampler import Sampler, draw_nodule
from scipy import ndimage as ndi

from triage.detectors import lung_nodule
from triage.detectors._grid import Grid, resample
from triage.domain.froc import Candidate, froc, match
from triage.domain.image import Volume
from triage.qa.evaluate_scans import read_cases
from triage.qa.metaimage import read_metaimage

Change = Callable[[Any], Any]
INSERTED = 160


def grain(hu: Any, spread: float) -> Any:
    """Noise as a reconstruction leaves it: correlated over about a voxel in the plane."""
    noise = ndi.gaussian_filter(np.random.default_rng(5).standard_normal(hu.shape, np.float32), [0, 0.7, 0.7])
    return hu + noise * (spread / noise.std())


def paired(hu: Any) -> Any:
    """Each slice the mean of itself and the next: twice as thick at the same steps."""
    return (hu + np.concatenate([hu[1:], hu[-1:]])) / 2


CHANGES: dict[str, Change] = {
    "as it is": lambda hu: hu,
    "noise 20 HU more": lambda hu: grain(hu, 20.0),
    "noise 40 HU more (about a quarter of the dose)": lambda hu: grain(hu, 40.0),
    "softer kernel (blur 0.8 px)": lambda hu: ndi.gaussian_filter(hu, [0, 0.8, 0.8]),
    "sharper kernel (unsharp 1.0)": lambda hu: hu + (hu - ndi.gaussian_filter(hu, [0, 1.0, 1.0])),
    "slices twice as thick": paired,
}


def scans(release: Path, folder: Path, every: int) -> dict[str, Any]:
    """CPM and nodules found, for every k-th case, by change."""
    detector = lung_nodule.load(release)
    cases = read_cases(folder / "cases.csv", folder / "nodules.csv")[::every]
    out: dict[str, Any] = {}
    for name, change in CHANGES.items():
        matches = []
        for case in cases:
            volume = read_metaimage(case.path)
            hu = np.rint(np.clip(change(volume.hu.astype(np.float32)), -1024, 3000)).astype(np.int16)
            found = detector.detect(Volume(hu, volume.affine)).findings
            listed = [Candidate(f.measurements.center_lps_mm, f.probability) for f in found if f.measurements]
            matches.append(match(listed, case.references))
        hits = [h for m in matches for h in m.hits]
        curve = froc(matches, [c.patient_id for c in cases], rounds=1)
        out[name] = {"cpm": round(curve.cpm, 3), "found": sum(h is not None for h in hits), "of": len(hits)}
        print(name, out[name], flush=True)
    return out


def features(hu: Any, diameter_mm: float) -> list[float]:
    """Of a crop at 1 mm with the nodule in its middle: density, edge, grain inside and around."""
    n = hu.shape[0]
    axes = np.arange(n) - n // 2
    away = np.sqrt(axes[:, None, None] ** 2 + axes[None, :, None] ** 2 + axes[None, None, :] ** 2)
    radius = diameter_mm / 2
    core, rim = away < 0.6 * radius + 0.6, (away > 0.7 * radius) & (away < radius + 2)
    around = (away > radius + 2) & (away < radius + 7)
    fine = hu - ndi.gaussian_filter(hu, 1.0)
    slope = ndi.gaussian_gradient_magnitude(hu, 0.7)
    row = [
        hu[core].mean(),
        hu[core].std(),
        fine[core].std(),
        np.median(np.abs(fine[around])),
        hu[around].mean(),
    ]
    row += [*np.percentile(slope[rim], (50, 90)), *np.percentile(hu[around], (50, 95)), hu[rim].std()]
    return [float(v) for v in [*row, radius]]


def origin(data: Path) -> dict[str, Any]:
    """Area under ROC of a logistic classifier, real crops against insertions, five folds."""
    real = [
        features(c.hu, c.diameter_mm) for split in ("train", "val", "test") for c in load_crops(data, split)
    ]
    host = next(s for s in load_scans(data, "train") if s.name.startswith("lidc"))
    sampler = Sampler([host], load_shapes(data, "train"), [], 3)
    made = [row for _ in range(3 * INSERTED) if (row := _inserted(sampler, host))][:INSERTED]
    x = np.array(real + made)
    y = np.array([1.0] * len(real) + [0.0] * len(made))
    x = (x - x.mean(0)) / x.std(0)
    fold = np.random.default_rng(0).permutation(len(y)) % 5
    score = np.zeros(len(y))
    for k in range(5):
        score[fold == k] = x[fold == k] @ _logistic(x[fold != k], y[fold != k])
    yes, no = score[y == 1], score[y == 0]
    area = float((yes[:, None] > no[None]).mean() + 0.5 * (yes[:, None] == no[None]).mean())
    return {"real": len(real), "inserted": len(made), "area_under_roc": round(area, 3)}


def _inserted(sampler: Sampler, host: Any) -> list[float] | None:
    """Features of one insertion, of a size drawn from the real crops' range."""
    rng = sampler.rng
    spot = host.places[int(rng.integers(len(host.places)))]
    middle = host.grid.to_index(spot[None])[0]
    reach = np.ceil(36 / np.array(host.grid.spacing)).astype(int)
    low = np.maximum(0, middle.astype(int) - reach)
    box = tuple(slice(a, a + 2 * r + 1) for a, r in zip(low, reach, strict=True))
    affine = host.grid.affine.copy()
    affine[:3, 3] = host.grid.to_lps(low[None].astype(float))[0]
    native = Grid(host.grid.hu[box].astype(np.float32), affine)
    texture = str(rng.choice(["solid", "part_solid", "ground_glass"], p=[0.56, 0.33, 0.11]))  # as the crops
    look = draw_look(rng, texture, native.spacing[0])
    diameter = float(np.clip(np.exp(rng.normal(np.log(10.0), 0.45)), 5, 24))
    assert sampler.shapes is not None
    body, extra = draw_nodule(rng, sampler.shapes, diameter)
    at = tuple(native.to_index(spot[None])[0])
    lung = host.lungs.on(native).astype(np.float32)
    lesion = paint(
        native.hu, lung, native.spacing, at, body, look, rng, reach_mm=diameter * 0.9 + 6, extra=extra
    )
    if lesion is None:
        return None
    start = np.array(lesion.centre) - 25 / np.array(native.spacing)
    return features(resample(native, 1.0, start, (51, 51, 51)).hu, lesion.diameter_mm)


def _logistic(x: Any, y: Any) -> Any:
    beta = np.zeros(x.shape[1])
    for _ in range(30):  # Newton with a ridge
        p = 1 / (1 + np.exp(-x @ beta))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.eye(x.shape[1])
        beta -= np.linalg.solve(hessian, x.T @ (p - y) + beta)
    return beta


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["scans", "origin"])
    parser.add_argument("--release", type=Path)
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--every", type=int, default=3)
    args = parser.parse_args()
    if args.what == "scans":
        print(json.dumps(scans(args.release, args.cases, args.every), indent=1))
    else:
        print(json.dumps(origin(args.data.resolve()), indent=1))


if __name__ == "__main__":
    main()
