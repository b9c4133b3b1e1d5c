"""The lung mask against phantoms whose lungs are known: Dice, coverage, and what lies outside, by condition.

    python models/lung_nodule/masks.py [--persons 3]

A phantom's lung is what its ribs enclose on a side without the organs in it; the part below -500 HU is aerated. Disease
takes part of the lung's air, and how much of that lung the mask still holds is the second figure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import ndimage as ndi

from triage.detectors._grid import Grid, canonical
from triage.detectors.lungs import Lungs, find_lungs
from triage.phantom.anatomy import anatomy_of
from triage.phantom.person import make_thorax
from triage.phantom.thorax import LEFT, RIGHT, Thorax
from triage.phantom.volume import render_volume

FIRST_SEED, SLICES, SIZE_PX = 9200, 110, 256
AERATED_HU, FLUID_HU = -500, 12
NEAR_MM = 4.0  # outside by more than this is no matter of voxel size


def truth(thorax: Thorax, grid: Grid, side: int) -> Any:
    """The lung of one side on a grid."""
    where = np.indices(grid.hu.shape).reshape(3, -1).T.astype(float)
    return anatomy_of(thorax.body).is_lung(grid.to_lps(where), side).reshape(grid.hu.shape)


def conditions(seed: int) -> Iterator[tuple[str, Thorax, Grid]]:
    for finding in ("effusion", "consolidation", "pneumothorax"):
        thorax = make_thorax(seed, [finding])
        yield finding, thorax, _rendered(thorax)
    thorax = make_thorax(seed)
    scan = _rendered(thorax)
    yield "healthy", thorax, scan
    yield "one lung", thorax, _without_a_lung(thorax, scan)
    yield "arms down", thorax, _with_arms(scan)
    kept = int(0.72 * len(scan.hu))
    yield "apices outside the images", thorax, Grid(scan.hu[:kept], scan.affine)


def _rendered(thorax: Thorax) -> Grid:
    volume = render_volume(thorax, slices=SLICES, size_px=SIZE_PX)
    return canonical(volume.hu, volume.affine)


def _without_a_lung(thorax: Thorax, scan: Grid) -> Grid:
    """The left lung taken out, its room full of fluid."""
    hu = scan.hu.copy()
    lost = truth(thorax, scan, LEFT)
    hu[lost] = FLUID_HU + np.random.default_rng(1).normal(0, 15, int(lost.sum()))
    return Grid(hu, scan.affine)


def _with_arms(scan: Grid) -> Grid:
    """Upper arms beside the trunk where there is room, touching it, and the noise that they bring."""
    hu = scan.hu.astype(np.float32)
    rows, columns = (np.arange(n) for n in hu.shape[1:])
    middle = len(rows) * 0.55
    for column in (0.02 * len(columns), 0.98 * len(columns)):
        away = np.hypot(rows[:, None] - middle, columns[None] - column) * scan.spacing[1]
        for radius, value in ((46.0, 50.0), (11.0, 700.0)):
            hu[:, away < radius] = np.where(hu[:, away < radius] < -800, value, hu[:, away < radius])
    streaks = ndi.gaussian_filter(np.random.default_rng(2).standard_normal(hu.shape), [0, 0.5, 4])
    return Grid((hu + 60 * streaks / streaks.std()).astype(np.int16), scan.affine)


def figures(thorax: Thorax, scan: Grid, lungs: Lungs, sides: tuple[int, ...]) -> dict[str, float]:
    """Shares of one scan, on the mask's own voxels."""
    mask, grid = lungs.mask, lungs.grid
    real = np.any([truth(thorax, grid, side) for side in sides], 0)
    smooth = ndi.gaussian_filter(scan.hu.astype(np.float32), 1.0)
    index = np.rint(scan.to_index(grid.to_lps(np.indices(mask.shape).reshape(3, -1).T.astype(float))))
    limit = np.array(scan.hu.shape) - 1
    z, y, x = np.clip(index.astype(int), 0, limit).T
    aerated = real & (smooth[z, y, x].reshape(mask.shape) < AERATED_HU)
    around = ndi.distance_transform_edt(~real, sampling=grid.spacing) <= NEAR_MM
    return {
        "dice": 2 * (mask & real).sum() / (mask.sum() + real.sum()),
        "aerated_lung_held": (mask & aerated).sum() / aerated.sum(),
        "whole_lung_held": (mask & real).sum() / real.sum(),
        "mask_more_than_4_mm_outside": (mask & ~around).sum() / max(1, mask.sum()),
        "cut_told": float(lungs.cut_high or lungs.cut_low),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--persons", type=int, default=3)
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in range(FIRST_SEED, FIRST_SEED + parser.parse_args().persons):
        for name, thorax, scan in conditions(seed):
            sides = (RIGHT,) if name == "one lung" else (RIGHT, LEFT)
            rows.setdefault(name, []).append(figures(thorax, scan, find_lungs(scan), sides))
    print(
        json.dumps(
            {
                name: {key: [round(float(f[key]), 3) for f in found] for key in found[0]}
                for name, found in rows.items()
            }
        )
    )


if __name__ == "__main__":
    main()
