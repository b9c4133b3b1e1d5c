"""Films projected from real chest CT, with findings put into the chest in three dimensions before the projection.

Real anatomy from many directions, and labels that are known because the finding was put there: beside each changed film
goes one of the untouched chest. The CT set keeps ribs only in part and has no arms, so these films teach lungs, not bones.

    python -m models.chest_xray.projection --out /tmp/cxr-projected.npz --count 240
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.chest_xray.films import AUXILIARY, FINDINGS, SHARED, Films
from triage.detectors._film import SIDE, prepare
from triage.detectors._grid import Grid, canonical, resample
from triage.detectors.lungs import find_lungs

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
STEP_MM = 1.6
SOURCE_MM = 1800.0  # tube to detector; the chest lies on the detector
WATER_PER_MM = 0.0193  # 70 keV, ICRU 44
_END_MM = 30.0  # the set cuts scans 12 mm beyond the lungs: the last slices are repeated so far
# What the scans of the train part show beside what is put in, from looking at each and from the set's index.
SHOWN: dict[str, tuple[str, ...]] = {
    "lidc0001": ("nodule", "abnormal"),
    "covidmd_p001": ("lung_opacity", "abnormal"),
    "covidmd_cap001": ("lung_opacity", "abnormal"),
    "covidmd_normal001": (),
    "ricord_001012": ("consolidation", "lung_opacity", "abnormal"),
    "cmbcrc_01068": ("nodule", "abnormal"),
}


def chest_of(hu: NDArray[np.int16], affine: NDArray[np.float64]) -> tuple[Array, Mask]:
    """(HU, lungs) on a grid of STEP_MM, axes (z, y, x) towards head, back and left."""
    scan = canonical(hu, affine)
    extent = [n * s for n, s in zip(scan.hu.shape, scan.spacing, strict=True)]
    shape = (
        round((extent[0] + 2 * _END_MM) / STEP_MM),
        round(extent[1] / STEP_MM),
        round(extent[2] / STEP_MM),
    )
    grid = resample(scan, STEP_MM, np.array([-_END_MM / scan.spacing[0], 0.0, 0.0]), shape)
    found = find_lungs(Grid(np.rint(grid.hu).astype(np.int16), grid.affine)).grid
    index = found.to_index(
        grid.to_lps(np.argwhere(np.ones(2))[:, [0, 0, 0]] * 1.0)
    )  # grid steps in the coarse mask
    ratio, start = index[1] - index[0], index[0]
    lungs = ndimage.affine_transform(found.hu.astype(np.float32), ratio, start, shape, order=1) > 0.5
    return grid.hu, lungs


def one_lung(lungs: Mask, dice: np.random.Generator) -> tuple[tuple[slice, ...], Mask, bool]:
    """(box, its mask inside the box, towards the middle is towards higher x) of the left or right lung."""
    columns = np.flatnonzero(lungs.any((0, 1)))
    middle = int(np.average(np.arange(lungs.shape[2]), weights=lungs.sum((0, 1))))
    low_side = bool(dice.random() < 0.5)
    side = slice(int(columns[0]), middle) if low_side else slice(middle, int(columns[-1]) + 1)
    part = lungs.copy()
    part[:, :, : side.start] = False
    part[:, :, side.stop :] = False
    where = ndimage.find_objects(part.astype(np.int8))[0]
    return where, part[where], low_side


def _wave(shape: tuple[int, ...], scale: float, dice: np.random.Generator) -> Array:
    """A smooth random field of spread 1."""
    small = dice.standard_normal([max(3, int(n / scale) + 2) for n in shape])
    field = ndimage.zoom(small, [n / m for n, m in zip(shape, small.shape, strict=True)], order=1)
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)


def with_air(hu: Array, lungs: Mask, dice: np.random.Generator) -> Array:
    """An upright patient's pneumothorax: the lung falls towards its root, air at apex and wall, a pleural line between."""
    box, lung, low_side = one_lung(lungs, dice)
    z, y, x = np.indices(lung.shape, np.float32, sparse=True)
    high = [n - 1 for n in lung.shape]
    root = (high[0] * dice.uniform(-0.05, 0.3), high[1] * dice.uniform(0.45, 0.7), high[2] if low_side else 0)
    keep = (dice.uniform(0.7, 0.95), dice.uniform(0.75, 1.0), dice.uniform(0.6, 0.93))
    wave = 1.5 * _wave(lung.shape, 25, dice)
    source = [(a - r) / k + r + wave for a, r, k in zip((z, y, x), root, keep, strict=True)]
    inwards = slice(None) if low_side else slice(None, None, -1)
    filled = np.maximum.accumulate(lung[:, :, inwards], axis=2)[:, :, inwards]  # no gap at the mediastinum
    left = ndimage.map_coordinates(filled.astype(np.float32), source, order=1, mode="nearest") > 0.5
    fallen = ndimage.map_coordinates(hu[box], source, order=1, mode="nearest")
    denser = (fallen + 1000) / float(np.prod(keep)) ** dice.uniform(0.3, 1.0) - 1000
    air = lung & ~left
    line = ndimage.binary_dilation(ndimage.binary_opening(air)) & lung & left
    out = hu.copy()
    out[box] = np.where(lung & left, denser, out[box])
    out[box] = np.where(line, np.maximum(out[box], dice.uniform(-850, -550)), out[box])
    out[box][air] = -1000
    return out


def with_fluid(hu: Array, lungs: Mask, dice: np.random.Generator) -> Array:
    """Free fluid of an upright patient: level at the base, climbing in a thinning layer between lung and wall."""
    box, lung, _ = one_lung(lungs, dice)
    above = np.arange(lung.shape[0])[:, None, None] - lung.shape[0] * dice.uniform(0.02, 0.35)
    from_wall = ndimage.distance_transform_edt(np.pad(lung, 1))[1:-1, 1:-1, 1:-1]
    layer = dice.uniform(8, 22) * np.exp(-np.maximum(above, 0) / dice.uniform(8, 30))
    share = np.clip(layer - from_wall + 0.5, 0, 1)
    share = np.maximum(share, np.clip(0.5 - above / 2, 0, 1)) * lung
    out = hu.copy()
    out[box] = out[box] * (1 - share) + dice.uniform(0, 30) * share
    return out


def with_consolidation(hu: Array, lungs: Mask, dice: np.random.Generator) -> Array:
    """A region of one lung whose air has gone, patchy at its edge."""
    box, lung, _ = one_lung(lungs, dice)
    centre = dice.choice(np.argwhere(lung))
    radius = dice.uniform(18, 45) / STEP_MM * np.array([1.0, 1.0, dice.uniform(0.7, 1.2)])
    far = sum(
        ((a - c) / r) ** 2
        for a, c, r in zip(np.indices(lung.shape, np.float32, sparse=True), centre, radius, strict=True)
    )
    field = 1.2 - np.sqrt(far) + 0.35 * _wave(lung.shape, 9, dice)
    share = np.clip(field * 2.5, 0, 1) * lung * dice.uniform(0.5, 0.95)
    out = hu.copy()
    out[box] = out[box] * (1 - share) + 35 * share
    return out


def with_nodule(
    hu: Array, lungs: Mask, dice: np.random.Generator, radius_mm: tuple[float, float] = (5, 14)
) -> Array:
    """A solid lesion of irregular outline."""
    box, lung, _ = one_lung(lungs, dice)
    centre = dice.choice(np.argwhere(lung))
    far = np.sqrt(
        sum(
            (a - c) ** 2.0
            for a, c in zip(np.indices(lung.shape, np.float32, sparse=True), centre, strict=True)
        )
    )
    radius = dice.uniform(*radius_mm) / STEP_MM
    share = np.clip(radius * (1 + 0.12 * _wave(lung.shape, 6, dice)) - far + 0.5, 0, 1)
    out = hu.copy()
    out[box] = out[box] * (1 - share) + dice.uniform(0, 80) * share
    return out


def with_mass(hu: Array, lungs: Mask, dice: np.random.Generator) -> Array:
    return with_nodule(hu, lungs, dice, (16, 34))


PUT_IN: dict[str, tuple[float, Callable[[Array, Mask, np.random.Generator], Array]]] = {
    "pneumothorax": (0.4, with_air), "effusion": (0.2, with_fluid), "consolidation": (0.15, with_consolidation),
    "nodule": (0.15, with_nodule), "mass": (0.1, with_mass),
}  # fmt: skip


def projected(hu: Array, lungs: Mask, dice: np.random.Generator) -> Array:
    """A frontal film of the chest as float32 in [0, 1], dense bone bright, image left the patient's right."""
    water = (
        np.maximum(hu + 1000, 0) / 1000 + 0.6 * np.maximum(hu - 150, 0) / 1000
    )  # bone stops more than its HU say
    turned = _turned(water.astype(np.float32), np.radians(dice.uniform(-1, 1, 3) * (8, 3, 10)))
    columns = np.flatnonzero(lungs.any((0, 1)))
    margin = dice.uniform(5, 35, 2) / STEP_MM
    low, high = max(int(columns[0] - margin[0]), 0), min(int(columns[-1] + margin[1]), hu.shape[2])
    path = _on_detector(turned, behind=bool(dice.random() < 0.75))[::-1, low:high] * STEP_MM
    passed = np.exp(-WATER_PER_MM * path)
    scattered = ndimage.gaussian_filter(passed, 25 / STEP_MM) * dice.uniform(0.2, 1.5)
    grey = -np.log(passed + scattered)
    grey += dice.uniform(0.3, 2.0) * (
        grey - ndimage.gaussian_filter(grey, 12 / STEP_MM)
    )  # as vendors lift detail
    steepness = dice.uniform(0.6, 1.3) / float(grey.std())
    return np.asarray(1 / (1 + np.exp(-(grey - np.median(grey)) * steepness)), np.float32)


def _turned(water: Array, angles: NDArray[np.float64]) -> Array:
    """The volume turned about its middle by pitch, roll and yaw (about x, y and z), in radians."""
    matrix = np.eye(3)
    for (a, b), angle in zip(((0, 1), (0, 2), (1, 2)), angles, strict=True):
        turn = np.eye(3)
        turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = matrix @ turn
    middle = (np.array(water.shape) - 1) / 2
    return ndimage.affine_transform(water, matrix, middle - matrix @ middle, order=1, mode="nearest")


def _on_detector(water: Array, *, behind: bool) -> Array:
    """Water paths in voxels on (z, x), magnified by the distance of each coronal layer; tube behind (PA) or before (AP)."""
    total, deep, layer = np.zeros(water.shape[::2], np.float32), water.shape[1], 4
    middle = (np.array(total.shape) - 1) / 2
    for first in range(0, deep, layer):
        to_detector = (first if behind else deep - first) * STEP_MM  # y runs to the back
        scale = (SOURCE_MM - to_detector) / SOURCE_MM
        plane = water[:, first : first + layer].sum(1)
        total += ndimage.affine_transform(
            plane, [scale, scale], middle * (1 - scale), order=1, mode="nearest"
        )
    return total


def labels_of(shown: tuple[str, ...], put_in: str | None) -> Array:
    """What is known of such a film; of a chest with disease only that no air or fluid is there unless it was put in."""
    label = np.full(len(FINDINGS) + len(AUXILIARY), np.nan, np.float32)
    present = (*shown, *((put_in, "abnormal") if put_in else ()))
    absent = (
        ("pneumothorax", "effusion")
        if shown
        else tuple(f for f in FINDINGS if f not in ("hernia", "emphysema", "fibrosis"))
    )
    label[[FINDINGS.index(f) for f in absent]] = 0
    label[[FINDINGS.index(f) for f in present]] = 1
    if put_in in ("mass", "consolidation"):
        label[FINDINGS.index("lung_opacity")] = 1
    return label


def load_projected(path: Path) -> Films:
    """The films that this program wrote."""
    with np.load(path) as stored:
        squares, labels = stored["squares"], stored["labels"]
    n, word = len(squares), np.full(len(squares), "projected")
    return Films(
        ids=[f"projected_{i}" for i in range(n)], squares=squares, labels=labels, source=word, stratum=word,
        split=np.full(n, "train"), fold=np.full(n, -1), core=np.zeros(n, bool), view=np.full(n, "PA"), patient=word,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED.parent / "ct")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=240, help="films, half of them untouched")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.data))
    import read  # the folder's own reader

    with (arguments.data / "index.csv").open(newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r["split"] == "train"]
    dice = np.random.default_rng(arguments.seed)
    squares, labels = [], []
    names, odds = list(PUT_IN), [PUT_IN[f][0] for f in PUT_IN]
    for row in rows:
        hu, lungs = chest_of(*read.read_scan(str(arguments.data / row["file"]))[:2])
        for _ in range(arguments.count // 2 // len(rows)):
            finding, view = str(dice.choice(names, p=odds)), int(dice.integers(2**62))
            for put_in in (None, finding):
                chest = PUT_IN[finding][1](hu, lungs, dice) if put_in else hu
                film = projected(chest, lungs, np.random.default_rng(view))
                squares.append(np.rint(prepare(film).square * 255).astype(np.uint8))
                labels.append(labels_of(SHOWN[row["scan"]], put_in))
        print(row["scan"], len(squares), flush=True)
    np.savez(arguments.out, squares=np.stack(squares).reshape(-1, SIDE, SIDE), labels=np.stack(labels))


if __name__ == "__main__":
    main()
