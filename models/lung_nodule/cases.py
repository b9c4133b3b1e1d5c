"""Builds evaluation cases from shared/data/ct, in the form that `triage evaluate lung_nodule` reads.

    python models/lung_nodule/cases.py --data ../shared/data/ct --split val --out DIR

writes DIR/inserted and DIR/real: .mhd volumes, cases.csv, nodules.csv. Inserted cases follow the recipe and the script
that came with the data; on an annotated host its own nodules and marks count as excluded there. What an inserted nodule
is attached to is told by the detector's own rule, at the true place and size. Real cases are the
scans as they are; without annotation all that is found on them counts as false, which is an upper bound.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
from data import load_scans, marks_of

from triage.detectors._grid import Grid, resample
from triage.detectors.lungs import Lungs
from triage.detectors.measure import WALL_MM, attachment_of

FIELDS = ["path", "x", "y", "z", "diameter_mm", "excluded", "texture", "attachment"]
STEP_MM = 0.7  # of the grid on which attachment is told


def write_mhd(path: Path, grid: Grid) -> None:
    """A canonical grid as uncompressed MetaImage."""
    hu = np.ascontiguousarray(grid.hu, dtype="<i2")
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    turn = (grid.affine[:3, :3] / spacing).T.ravel()
    raw = path.with_suffix(".raw")
    hu.tofile(raw)
    path.write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        f"TransformMatrix = {' '.join(f'{v:.9g}' for v in turn)}\n"
        f"Offset = {' '.join(f'{v:.9g}' for v in grid.affine[:3, 3])}\n"
        f"ElementSpacing = {' '.join(f'{v:.9g}' for v in spacing)}\n"
        f"DimSize = {hu.shape[2]} {hu.shape[1]} {hu.shape[0]}\nElementType = MET_SHORT\nElementDataFile = {raw.name}\n"
    )


def build(folder: Path, split: str, out: Path) -> None:
    sketch = sketch_functions(folder)
    scans = {s.name: s for s in load_scans(folder, split)}
    import read

    shapes = {s["shape_id"]: s["mask"] for s in read.read_shapes(str(folder / "shapes"))}
    rows = list(csv.DictReader((folder / f"recipe/inserted_{split}.csv").open(newline="")))
    for kind in ("inserted", "real"):
        (out / kind).mkdir(parents=True, exist_ok=True)
    cases, nodules, masks, walls = [], [], {}, {}
    for name in dict.fromkeys(r["case"] for r in rows):
        picked = [r for r in rows if r["case"] == name]
        scan = scans[picked[0]["scan"]]
        if scan.name not in masks:
            masks[scan.name] = sketch["lung_mask"](np.ascontiguousarray(scan.grid.hu), scan.grid.spacing)
            walls[scan.name] = scan.lungs.grown(WALL_MM)
        lungs = masks[scan.name]
        hu, infos = sketch["apply_case"](np.array(scan.grid.hu), scan.grid.affine, lungs, picked, shapes)
        write_mhd(out / "inserted" / f"{name}.mhd", Grid(hu, scan.grid.affine))
        cases.append({"path": f"{name}.mhd", "patient_id": scan.name})
        nodules += [row(f"{name}.mhd", p, d, 1, "") for p, d in [*scan.known, *scan.ignored]]
        for line, info in zip(picked, infos, strict=True):
            place = np.array(info["centre_lps"])
            diameter = float(info["diameter_eq_mm"])
            attached = attachment(Grid(hu, scan.grid.affine), walls[scan.name], place, diameter)
            nodules.append(row(f"{name}.mhd", place, diameter, 0, line["texture_class"], attached))
        print(f"{name}: {len(picked)} nodules", flush=True)
    write_tables(out / "inserted", cases, nodules)
    cases, nodules = [], []
    for scan in scans.values():
        write_mhd(out / "real" / f"{scan.name}.mhd", scan.grid)
        cases.append({"path": f"{scan.name}.mhd", "patient_id": scan.name})
        known, ignored = marks_of(folder, scan.name)
        nodules += [row(f"{scan.name}.mhd", p, d, 0, "") for p, d in known]
        nodules += [row(f"{scan.name}.mhd", p, d, 1, "") for p, d in ignored]
    write_tables(out / "real", cases, nodules)


def attachment(grid: Grid, lungs: Lungs, place: Any, diameter: float) -> str:
    """What touches a ball of the true size at the true place."""
    count = int((diameter + 12.0) / STEP_MM) | 1
    low = grid.to_index(place[None])[0] - (count - 1) / 2 * STEP_MM / np.array(grid.spacing)
    near = resample(grid, STEP_MM, low, (count, count, count))
    axes = (np.arange(count) - count // 2) * STEP_MM
    away = axes[:, None, None] ** 2 + axes[None, :, None] ** 2 + axes[None, None, :] ** 2
    return attachment_of(
        near.hu.astype(np.float32), lungs.on(near), away <= (diameter / 2) ** 2, float(STEP_MM)
    )


def row(
    path: str, place: Any, diameter: float, excluded: int, texture: str, attachment: str = ""
) -> dict[str, Any]:
    x, y, z = (round(float(v), 3) for v in place)
    return {
        "path": path,
        "x": x,
        "y": y,
        "z": z,
        "diameter_mm": round(float(diameter), 2),
        "excluded": excluded,
        "texture": texture,
        "attachment": attachment,
    }


def write_tables(out: Path, cases: list[dict[str, Any]], nodules: list[dict[str, Any]]) -> None:
    with (out / "cases.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, ["path", "patient_id"])
        table.writeheader()
        table.writerows(cases)
    with (out / "nodules.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, FIELDS)
        table.writeheader()
        table.writerows(nodules)


def sketch_functions(folder: Path) -> dict[str, Any]:
    """lung_mask, apply_case and pick_centres of the scripts that the recipe was made with."""
    found: dict[str, Any] = {}
    wanted = {"lung_mask": ["lung_mask"], "nodule_insertion": ["apply_case", "pick_centres"]}
    for name, functions in wanted.items():
        spec = importlib.util.spec_from_file_location(name, folder.parent.parent / "sketches" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        found |= {function: getattr(module, function) for function in functions}
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", choices=["val", "test"], required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    build(args.data.resolve(), args.split, args.out)
