"""Scans in the layout of LUNA16: ten subsets of mhd and raw, annotations.csv; a few in memory at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from data import Scan
from insertion import (
    Array,
)

from triage.detectors._grid import canonical
from triage.detectors.lungs import find_lungs
from triage.qa.metaimage import read_metaimage

IN_TURN = 8  # LUNA16 scans in memory at once, some 100 MB each
LUNA16_TRAIN, LUNA16_VAL = range(8), 8  # subset 9 stays unseen


def luna16_scans(folder: Path, subsets: range, seed: int) -> Iterator[Scan]:
    """Endless scans of subset0 ... subset9 (mhd and raw) in random order, with the lists beside them."""
    known, ignored = _luna_marks(folder, "annotations.csv"), _luna_marks(folder, "annotations_excluded.csv")
    paths = [p for k in subsets for p in sorted((folder / f"subset{k}").glob("*.mhd"))]
    if not paths:
        raise SystemExit(
            f"no scan in {folder}/subset{subsets.start} ... subset{subsets.stop - 1}: is this LUNA16's layout?"
        )
    rng = np.random.default_rng(seed)
    while True:
        for i in rng.permutation(len(paths)):
            volume = read_metaimage(paths[int(i)])
            grid = canonical(volume.hu, volume.affine)
            name, lungs = paths[int(i)].stem, find_lungs(grid)
            if lungs.volume_ml > 500:  # a mask that failed would teach nothing
                yield Scan(name, grid, lungs, known.get(name, []), ignored.get(name, []), known_share=0.5)


def _luna_marks(folder: Path, name: str) -> dict[str, list[tuple[Array, float]]]:
    path = next((p for p in (folder / name, folder / "CSVFILES" / name) if p.exists()), None)
    marks: dict[str, list[tuple[Array, float]]] = {}
    for row in csv.DictReader(path.open(newline="")) if path else ():
        place = np.array([float(row["coordX"]), float(row["coordY"]), float(row["coordZ"])])
        diameter = float(row["diameter_mm"])
        marks.setdefault(row["seriesuid"], []).append((place, diameter if diameter > 0 else 10.0))
    return marks


@dataclass
class Hosts:
    """Scans that blocks are drawn from; those of LUNA16 do not fit into memory and take turns."""

    scans: list[Scan]
    waiting: Iterator[Scan] | None = None
    oldest: int = 0

    def turn(self) -> None:
        """Replace the scan that has been here longest by the next one, if any wait."""
        if self.waiting is not None:
            self.scans[self.oldest % IN_TURN] = next(self.waiting)
            self.oldest += 1
