"""Pneumothorax and effusion put into real films without findings: more positives than the film set has.

The lungs are found by their darkness; the film is left out when that looks wrong. Air: the lung is scaled towards
its hilum, the rim that it leaves loses its vessels and darkens, and a thin bright pleural line is drawn. Fluid: white
from the base up to a meniscus. Beside each goes the untouched film, so that the change alone makes the label.

    python -m models.chest_xray.insertion --out /tmp/cxr-inserted.npz --count 360
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.chest_xray.films import AUXILIARY, FINDINGS, SHARED, Films, load_films
from triage.detectors._film import SIDE

Square = NDArray[np.float32]
_ROUNDS = 3  # the lungs of about a quarter of the films can be told; each of those may come so often
_AREA = (0.05, 0.22)  # believable share of the square for one lung


def lungs_of(square: Square) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Masks of the lungs at the left and right of the picture; None where they cannot be told."""
    smooth = ndimage.gaussian_filter(square, 2.5)
    field = smooth[SIDE // 8 : -SIDE // 8, SIDE // 8 : -SIDE // 8]
    dark = smooth < np.quantile(field, 0.42)
    labelled, count = ndimage.label(ndimage.binary_opening(dark, iterations=3))
    found: list[NDArray[np.bool_] | None] = [None, None]
    for part in range(1, count + 1):
        mask = labelled == part
        rows, columns = np.nonzero(mask)
        touches = (columns.min() < 4) or (columns.max() > SIDE - 5) or rows.min() < 3 or rows.max() > SIDE - 3
        if touches or not _AREA[0] < mask.mean() < _AREA[1] or np.ptp(rows) < 0.3 * SIDE:
            continue
        found[int(columns.mean() > SIDE / 2)] = ndimage.binary_fill_holes(
            ndimage.binary_closing(mask, iterations=8)
        )
    left, right = found
    return None if left is None or right is None else (left, right)


def with_air(square: Square, lung: NDArray[np.bool_], dice: np.random.Generator) -> Square:
    """A pneumothorax in this lung; how large, how dark and how sharp its line is are drawn."""
    rows, columns = np.nonzero(lung)
    towards_middle = columns.max() if columns.mean() < SIDE / 2 else columns.min()
    # Upright, air gathers at the apex and along the wall; the lung stays at the mediastinum and on the diaphragm.
    root = (rows.max() - dice.uniform(-0.05, 0.25) * np.ptp(rows), towards_middle)
    keep = (dice.uniform(0.66, 0.95), dice.uniform(0.55, 0.93))
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    wave = ndimage.gaussian_filter(dice.standard_normal((SIDE, SIDE)), 22)
    wave *= 2.5 / max(float(wave.std()), 1e-6)  # a lung's edge is no scaled copy of the wall
    source = [(y - root[0]) / keep[0] + root[0] + wave, (x - root[1]) / keep[1] + root[1] + wave]
    inwards = slice(None) if towards_middle == columns.max() else slice(None, None, -1)
    filled = np.maximum.accumulate(lung[:, inwards], axis=1)[:, inwards]  # no gap opens at the mediastinum
    shrunk = ndimage.map_coordinates(filled.astype(np.float32), source, order=1) > 0.5
    shrunk = ndimage.gaussian_filter(shrunk.astype(np.float32), 2.0) > 0.5
    air = ndimage.gaussian_filter((lung & ~shrunk).astype(np.float32), dice.uniform(0.6, 1.2))
    ribs_only = ndimage.gaussian_filter(square, dice.uniform(1.8, 3.0)) - dice.uniform(0.02, 0.10)
    changed = square * (1 - air) + ribs_only * air
    inside = ndimage.gaussian_filter((lung & shrunk).astype(np.float32), 1.5)
    changed = changed + inside * dice.uniform(0.0, 0.05)  # less air in the same lung
    wide = ndimage.binary_opening(lung & ~shrunk, iterations=2)  # where the gap is a hair, no line is seen
    edge = shrunk & lung & ndimage.binary_dilation(wide, iterations=2)
    line = ndimage.gaussian_filter(edge.astype(np.float32), dice.uniform(0.5, 0.9))
    return np.clip(changed + line * dice.uniform(0.02, 0.14), 0, 1).astype(np.float32)


def with_fluid(square: Square, lung: NDArray[np.bool_], dice: np.random.Generator) -> Square:
    """An effusion in this lung up to a drawn level, its edge climbing towards the wall."""
    rows, columns = np.nonzero(lung)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    lateral = columns.min() if columns.mean() < SIDE / 2 else columns.max()
    from_wall = abs(x - lateral) / max(np.ptp(columns), 1)
    level = rows.max() - np.ptp(rows) * dice.uniform(0.12, 0.5)
    surface = level - np.ptp(rows) * dice.uniform(0.08, 0.25) * np.exp(-from_wall / dice.uniform(0.1, 0.25))
    depth = np.clip((y - surface) / dice.uniform(6, 16), 0, 1)
    below = ndimage.binary_dilation(lung, iterations=4) | (ndimage.distance_transform_edt(~lung) < 14) & (
        y > rows.mean()
    )
    share = ndimage.gaussian_filter(below * depth, 2.0) * dice.uniform(0.6, 0.95)
    white = np.quantile(square[int(rows.max()) - 4 :], 0.6)
    calm = ndimage.gaussian_filter(square, 4) * 0.2 + white * 0.8
    return np.clip(square * (1 - share) + calm * share, 0, 1).astype(np.float32)


def inserted_films(films: Films, count: int, seed: int) -> Films:
    """`count` changed films of source "inserted", each in the fold of the film it was made from."""
    column = len(FINDINGS) + AUXILIARY.index("no_finding")
    healthy = np.flatnonzero(
        (films.source == "nih") & (films.split != "test") & (films.labels[:, column] > 0.5)
    )
    dice = np.random.default_rng(seed)
    rows, squares, labels = [], [], []
    for row in np.concatenate([dice.permutation(healthy) for _ in range(_ROUNDS)]):
        square = films.squares[row].astype(np.float32) / 255
        lungs = lungs_of(square)
        if lungs is None:
            continue
        kind = "pneumothorax" if len(rows) % 3 else "effusion"
        make = with_air if kind == "pneumothorax" else with_fluid
        label = np.full(films.labels.shape[1], np.nan, np.float32)
        label[[FINDINGS.index(kind), FINDINGS.index("abnormal")]] = 1
        if kind == "effusion":
            label[FINDINGS.index("pneumothorax")] = 0
        rows.append(row)
        squares.append(np.rint(make(square, lungs[int(dice.integers(2))], dice) * 255).astype(np.uint8))
        labels.append(label)
        if len(rows) == count:
            break
    return _beside(films, np.array(rows), np.stack(squares), np.stack(labels))


def load_inserted(films: Films, path: Path) -> Films:
    """The films that this program wrote."""
    with np.load(path) as stored:
        return _beside(films, stored["rows"], stored["squares"], stored["labels"])


def _beside(
    films: Films, rows: NDArray[np.int64], squares: NDArray[np.uint8], labels: NDArray[np.float32]
) -> Films:
    origin = films.take(rows)
    return replace(
        origin, ids=[f"inserted_{i}" for i in origin.ids], squares=squares, labels=labels,
        source=np.full(len(rows), "inserted"),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/cxr-cache"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=360)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    films = load_films(arguments.data, arguments.cache)
    made = inserted_films(films, arguments.count, arguments.seed)
    place = {name: row for row, name in enumerate(films.ids)}
    rows = np.array([place[name.removeprefix("inserted_")] for name in made.ids])
    np.savez(arguments.out, rows=rows, squares=made.squares, labels=made.labels)


if __name__ == "__main__":
    main()
