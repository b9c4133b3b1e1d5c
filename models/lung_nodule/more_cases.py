"""More val cases than the recipe has: the same hosts and shapes of the val split, other places, drawn by own seeds.

    python models/lung_nodule/more_cases.py --data ../shared/data/ct --out DIR/val2

writes DIR/val2/inserted in the form of `cases.py`; `train.py release` calibrates on it beside the recipe's when DIR is its
--work. With three hosts the recipe's 42 nodules tell one network from another only by chance.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from cases import attachment, row, sketch_functions, write_mhd, write_tables
from data import Scan, load_scans

from triage.detectors._grid import Grid
from triage.detectors.measure import WALL_MM

CASES_A_HOST, NODULES_A_CASE = 3, 8
LEAST_MM = 3.8  # of the shapes that are drawn, as in the recipe
TEXTURES = {"solid": 0.64, "ground glass": 0.2, "part-solid": 0.16}  # the recipe's shares
SEED = 20261126


def build(folder: Path, out: Path) -> None:
    """Writes cases, their tables and volumes; the same for the same data, marks (`seen.csv`) and SEED."""
    out.mkdir(parents=True, exist_ok=True)
    sketch, rng = sketch_functions(folder), np.random.default_rng(SEED)
    scans = load_scans(folder, "val")
    import read  # the folder's own reader, on the path since `load_scans`

    shapes = {s["shape_id"]: s["mask"] for s in read.read_shapes(str(folder / "shapes"))}
    outlines = csv.DictReader((folder / "shapes/shapes.csv").open(newline=""))
    large = [o for o in outlines if o["split"] == "val" and float(o["diameter_eq_mm"]) >= LEAST_MM]
    cases, nodules, used = [], [], set()
    for scan in scans:
        lungs = sketch["lung_mask"](np.ascontiguousarray(scan.grid.hu), scan.grid.spacing)
        for number in range(CASES_A_HOST):
            wanted = place_all(sketch, rng, scan, lungs, drawn(rng, large, used))
            hu, infos = sketch["apply_case"](np.array(scan.grid.hu), scan.grid.affine, lungs, wanted, shapes)
            name, grid = f"val2_{scan.name}_{number + 1}.mhd", Grid(hu, scan.grid.affine)
            write_mhd(out / name, grid)
            cases.append({"path": name, "patient_id": scan.name})
            nodules += [row(name, p, d, 1, "") for p, d in [*scan.known, *scan.ignored]]
            for line, info in zip(wanted, infos, strict=True):
                place, diameter = np.array(info["centre_lps"]), float(info["diameter_eq_mm"])
                attached = attachment(grid, scan.lungs.grown(WALL_MM), place, diameter)
                nodules.append(row(name, place, diameter, 0, line["texture_class"], attached))
            print(f"{name}: {len(wanted)} nodules", flush=True)
    write_tables(out, cases, nodules)


def drawn(rng: np.random.Generator, outlines: list[dict[str, str]], used: set[str]) -> list[dict[str, str]]:
    """Outlines for one case, none twice while its texture lasts; larger ones more often, since small ones are many."""
    chosen = []
    for _ in range(NODULES_A_CASE):
        texture = rng.choice(list(TEXTURES), p=list(TEXTURES.values()))
        alike = [o for o in outlines if o["texture_class"] == texture]
        among = [o for o in alike if o["shape_id"] not in used] or alike
        weight = np.array([float(o["diameter_eq_mm"]) for o in among]) ** 0.8
        chosen.append(among[int(rng.choice(len(among), p=weight / weight.sum()))])
        used.add(chosen[-1]["shape_id"])
    return chosen


def place_all(
    sketch: dict[str, Any], rng: np.random.Generator, scan: Scan, lungs: Any, chosen: list[dict[str, str]]
) -> list[dict[str, Any]]:
    """Records of the recipe's form, for those of `chosen` that found a place away from every mark of the scan."""
    sizes = [float(o["diameter_eq_mm"]) for o in chosen]
    avoid = [(p, d / 2) for p, d in [*scan.known, *scan.ignored]]
    seed = int(rng.integers(1_000_000))
    centres = sketch["pick_centres"](scan.grid.hu, scan.grid.affine, lungs, sizes, seed, avoid=avoid)
    return [
        {
            "shape_id": o["shape_id"],
            "x_lps": c[0],
            "y_lps": c[1],
            "z_lps": c[2],
            "seed": int(rng.integers(1_000_000)),
            "contrast_hu": "",
            "texture_class": o["texture_class"],
            "scale": 1.0,
        }
        for o, c in zip(chosen, centres, strict=True)
        if c is not None
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    build(args.data.resolve(), args.out / "inserted")
