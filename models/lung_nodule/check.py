"""Checks of a release beside the FROC: real crops put back into lung, measurements against truth, pictures to look at.

    python models/lung_nodule/check.py crops    --release DIR --data ../shared/data/ct --split test
    python models/lung_nodule/check.py measure  --release DIR --cases CASES/inserted
    python models/lung_nodule/check.py pictures --release DIR --cases CASES/real --out FILE.png

`CASES` is what cases.py built. Pictures show the 20 most probable candidates that hit nothing, and every miss.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from data import Crop, Scan, load_crops, load_scans
from insertion import transplant
from scipy import ndimage as ndi

from triage.detectors import lung_nodule
from triage.detectors._grid import Grid, canonical
from triage.detectors.lungs import find_lungs
from triage.detectors.measure import WALL_MM, measure
from triage.domain.finding import Finding
from triage.domain.froc import Candidate, match
from triage.domain.image import Volume
from triage.qa.evaluate_scans import read_cases
from triage.qa.metaimage import read_metaimage

AT_ONCE = 7  # crops put into one copy of a scan, as many as the recipe's cases hold


def crops(release: Path, data: Path, split: str) -> dict[str, Any]:
    """Recall of the real crops of a split, put into that split's scan that its source calls normal (or the first)."""
    detector = lung_nodule.load(release)
    scans = load_scans(data, split)
    host = next((s for s in scans if "normal" in s.name), scans[0])
    rng = np.random.default_rng(7)
    waiting, rows = load_crops(data, split), []
    while waiting:
        hu, placed = np.array(host.grid.hu, np.float32), []
        for crop in waiting[:AT_ONCE]:
            spot = _free(host, rng, crop, [p for p, _ in placed])
            placed.append((_put(hu, host.grid, crop, spot), crop))
        volume = Volume(np.rint(hu).astype(np.int16), host.grid.affine)
        found = detector.detect(volume).findings
        for place, crop in placed:
            hits = [f for f in found if _gap(f, place) < crop.diameter_mm / 2]
            rows.append(
                {
                    "crop": crop.name,
                    "diameter_mm": crop.diameter_mm,
                    "texture": crop.texture,
                    "found": bool(hits),
                    "probability": max((f.probability for f in hits), default=None),
                    "actionable": any(f.actionable for f in hits),
                }
            )
        waiting = waiting[AT_ONCE:]
    return {"found": sum(r["found"] for r in rows), "of": len(rows), "crops": rows}


def _free(host: Scan, rng: np.random.Generator, crop: Crop, taken: list[Any]) -> Any:
    """A place in the lung, far from other crops, deep enough for the crop."""
    depth = ndi.distance_transform_edt(host.lungs.mask, sampling=host.lungs.grid.spacing)
    where = np.argwhere(depth > crop.diameter_mm / 2 + 3)
    for _ in range(1000):
        spot = host.lungs.grid.to_lps(where[int(rng.integers(len(where)))][None].astype(float))[0]
        if all(np.linalg.norm(spot - t) > 40 for t in taken):
            return spot
    raise SystemExit(f"no room left in {host.name}")


def _put(hu: Any, grid: Grid, crop: Crop, spot: Any) -> Any:
    """The crop's nodule with 3 mm around it, softly; returns its centre in LPS mm."""
    margin = np.clip((3.0 - ndi.distance_transform_edt(~crop.mask)) / 2.0 + 0.5, 0, 1).astype(np.float32)
    zoom = [1.0 / s for s in grid.spacing]
    piece, share, solid = (
        ndi.zoom(a, zoom, order=1, grid_mode=True, mode="nearest")
        for a in (crop.hu, margin, crop.mask.astype(np.float32))
    )
    index = np.rint(grid.to_index(spot[None])[0]).astype(int)
    transplant(hu, (int(index[0]), int(index[1]), int(index[2])), piece, share)
    shift = np.array(ndi.center_of_mass(solid > 0.5)) - np.array(solid.shape) // 2
    return grid.to_lps((index + shift)[None])[0]


def _gap(finding: Finding, place: Any) -> float:
    assert finding.measurements is not None
    return float(np.linalg.norm(np.subtract(finding.measurements.center_lps_mm, place)))


def measurements(release: Path, folder: Path) -> dict[str, Any]:
    """Errors of what the detector itself found, against the inserted truth."""
    detector = lung_nodule.load(release)
    texture = {
        (r["path"], r["x"], r["y"]): r["texture"] for r in csv.DictReader((folder / "nodules.csv").open())
    }
    rows = []
    for case in read_cases(folder / "cases.csv", folder / "nodules.csv"):
        found = detector.detect(read_metaimage(case.path)).findings
        for r in case.references:
            hits = [f for f in found if _gap(f, r.center_lps_mm) < r.diameter_mm / 2]
            if r.excluded or not hits:
                continue
            m = hits[0].measurements
            assert m is not None
            x, y, _ = r.center_lps_mm
            kind = next(
                t for (p, a, b), t in texture.items() if p == case.name and float(a) == x and float(b) == y
            )
            true_mm3 = np.pi / 6 * r.diameter_mm**3
            rows.append((kind, r.diameter_mm, np.cbrt(6 * m.volume_mm3 / np.pi) - r.diameter_mm,
                         m.volume_mm3 / true_mm3 - 1, m.texture == kind.replace(" ", "_").replace("-", "_")))  # fmt: skip
    out: dict[str, Any] = {
        "texture_right": round(float(np.mean([r[4] for r in rows])), 3),
        "found": len(rows),
    }
    for name, chosen in (
        ("solid above 6 mm", [r for r in rows if r[0] == "solid" and r[1] > 6]),
        ("solid to 6 mm", [r for r in rows if r[0] == "solid" and r[1] <= 6]),
        ("part-solid and ground glass", [r for r in rows if r[0] != "solid"]),
    ):
        if chosen:
            d, v = np.array([r[2] for r in chosen]), np.array([r[3] for r in chosen])
            out[name] = {
                "n": len(chosen),
                "median_abs_diameter_error_mm": round(float(np.median(np.abs(d))), 2),
                "median_diameter_bias_mm": round(float(np.median(d)), 2),
                "median_abs_volume_error": round(float(np.median(np.abs(v))), 3),
                "median_volume_bias": round(float(np.median(v)), 3),
            }
    return out


def pictures(release: Path, folder: Path, out: Path) -> dict[str, Any]:
    """Transverse and coronal cuts (40 mm) of the 20 most probable candidates that hit nothing, and of the misses."""
    from PIL import Image, ImageDraw

    detector = lung_nodule.load(release)
    shown: list[tuple[str, float, str, Any]] = []
    for case in read_cases(folder / "cases.csv", folder / "nodules.csv"):
        volume = read_metaimage(case.path)
        grid = canonical(volume.hu, volume.affine)
        found = detector.detect(volume).findings
        for f in found:
            assert f.measurements is not None
            m = match([Candidate(f.measurements.center_lps_mm, f.probability)], case.references)
            if m.false_positives:
                look = lung_nodule.look_at(grid, f.measurements.center_lps_mm, 40)[0]
                shown.append(("false", f.probability, f"{case.name[:14]} {f.probability:.2f}", look))
        hits = match(
            [Candidate(f.measurements.center_lps_mm, 1.0) for f in found if f.measurements], case.references
        )
        included = [r for r in case.references if not r.excluded]
        for r, hit in zip(included, hits.hits, strict=True):
            if hit is None:
                look = lung_nodule.look_at(grid, r.center_lps_mm, 40)[0]
                shown.append(("miss", 2.0, f"MISS {case.name[:14]} {r.diameter_mm:.0f} mm", look))
    misses = [s for s in shown if s[0] == "miss"]
    false = sorted((s for s in shown if s[0] == "false"), key=lambda s: -s[1])[:20]
    tiles = []
    for _, _, words, look in false + misses:
        picture = np.concatenate([look[20], look[::-1, 20]], 0)
        tile = Image.fromarray((picture * 255).astype(np.uint8)).resize((160, 320))
        ImageDraw.Draw(tile).text((3, 3), words, fill=255)
        tiles.append(np.array(tile))
    while len(tiles) % 10:
        tiles.append(np.zeros((320, 160), np.uint8))
    rows = [np.concatenate(tiles[i : i + 10], 1) for i in range(0, len(tiles), 10)]
    Image.fromarray(np.concatenate(rows, 0)).save(out)
    return {"false": [s[2] for s in false], "misses": [s[2] for s in misses]}


def place_measure(folder: Path) -> dict[str, Any]:
    """Measurement alone, at the true place and size: what segmentation adds to the error."""
    errors = []
    for case in read_cases(folder / "cases.csv", folder / "nodules.csv"):
        volume = read_metaimage(case.path)
        grid = canonical(volume.hu, volume.affine)
        lungs = find_lungs(grid).grown(WALL_MM)
        for r in case.references:
            if not r.excluded:
                m, _ = measure(grid, lungs, r.center_lps_mm, r.diameter_mm)
                errors.append((r.diameter_mm, float(np.cbrt(6 * m.volume_mm3 / np.pi)) - r.diameter_mm))
    large = [abs(e) for d, e in errors if d > 6]
    return {"n": len(errors), "median_abs_diameter_error_above_6_mm": round(float(np.median(large)), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["crops", "measure", "pictures"])
    parser.add_argument("--release", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--out", type=Path, default=Path("pictures.png"))
    args = parser.parse_args()
    if args.what == "crops":
        answer = crops(args.release, args.data.resolve(), args.split)
    elif args.what == "measure":
        answer = {
            "as found": measurements(args.release, args.cases),
            "at the true place": place_measure(args.cases),
        }
    else:
        answer = pictures(args.release, args.cases, args.out)
    print(json.dumps(answer, indent=1))


if __name__ == "__main__":
    main()
