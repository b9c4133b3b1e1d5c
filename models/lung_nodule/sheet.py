"""A contact sheet of the lung mask on whole scans, to be looked at: four coronal and four transverse cuts of each.

python models/lung_nodule/sheet.py --data ../shared/data/ct --out FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from data import load_scans
from PIL import Image, ImageDraw
from scipy import ndimage as ndi

from triage.detectors._grid import Grid, resample
from triage.detectors.lungs import find_lungs

STEP_MM = 1.6
TILE = 210


def cuts(grid: Grid, mask: Any) -> list[Any]:
    """RGB tiles with the mask's edge in amber; `mask` over `grid`."""
    grey = np.clip((grid.hu + 1050) / 1400, 0, 1) * 255
    filled = np.flatnonzero(mask.any((1, 2)))
    rows = np.flatnonzero(mask.any((0, 2)))
    tiles = []
    for share in (0.3, 0.45, 0.6, 0.75):
        k = int(np.quantile(rows, share)) if rows.size else grid.hu.shape[1] // 2
        tiles.append(_tile(grey[::-1, k], mask[::-1, k]))
    for share in (0.15, 0.4, 0.65, 0.9):
        k = int(np.quantile(filled, share)) if filled.size else len(mask) // 2
        tiles.append(_tile(grey[k], mask[k]))
    return tiles


def _tile(grey: Any, mask: Any) -> Any:
    rgb = np.repeat(grey[..., None], 3, 2).astype(np.uint8)
    rgb[mask ^ ndi.binary_erosion(mask)] = (255, 170, 0)
    tile = Image.new("RGB", (TILE, TILE))
    image = Image.fromarray(rgb)
    image.thumbnail((TILE, TILE))
    tile.paste(image)
    return np.array(tile)


def row_of(name: str, source: Grid) -> Any:
    """One scan's tiles side by side, its name and volume written in."""
    lungs = find_lungs(source)
    shape = [max(8, int(n * s / STEP_MM)) for n, s in zip(source.hu.shape, source.spacing, strict=True)]
    grid = resample(source, STEP_MM, np.zeros(3), (shape[0], shape[1], shape[2]))
    row = Image.fromarray(np.concatenate(cuts(grid, lungs.on(grid)), 1))
    cut = "".join(w for w, c in ((" cut low", lungs.cut_low), (" cut high", lungs.cut_high)) if c)
    ImageDraw.Draw(row).text((3, 3), f"{name} {lungs.volume_ml:.0f} ml{cut}", fill=(120, 255, 120))
    return np.array(row)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        rows = [row_of(s.name, s.grid) for s in load_scans(args.data.resolve(), split)]
        Image.fromarray(np.concatenate(rows, 0)).save(args.out / f"{split}.png")


if __name__ == "__main__":
    main()
