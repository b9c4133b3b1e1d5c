"""What the training reads: scans, reader outlines and real crops of `shared/data/ct`, or scans in the LUNA16 layout.

Nothing here is copied into the repository. Every sample is drawn from a seeded generator, and holds: HU (z, y, x) on a
cubic grid, lesions with centre and diameter, and spheres to ignore (marks that readers disagreed on).
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from insertion import (
    Array,
    signed_distance,
)
from scipy import ndimage as ndi

from triage.detectors._grid import Grid, canonical
from triage.detectors.lungs import Lungs, find_lungs
from triage.phantom.person import make_thorax, nodule_truth
from triage.phantom.thorax import NoduleSpec
from triage.phantom.volume import render_volume


@dataclass
class Scan:
    """One host scan. known: (lps mm, diameter mm) of reference nodules; ignored: the same of other marks."""

    name: str
    grid: Grid
    lungs: Lungs
    known: list[tuple[Array, float]] = field(default_factory=list)
    ignored: list[tuple[Array, float]] = field(default_factory=list)
    places: Array = field(default_factory=lambda: np.zeros((0, 3)))  # LPS mm of lung voxels, every 3 mm or so
    depth: Array = field(default_factory=lambda: np.zeros(0))  # mm from each place to the lungs' wall
    known_share: float = 0.06  # of its blocks that are drawn around a known nodule
    hard: Array = field(
        default_factory=lambda: np.zeros((0, 3))
    )  # LPS mm where the finder last saw nodules that are none

    def __post_init__(self) -> None:
        mask = self.lungs.mask
        thin = mask.copy()
        thin[:, 1::2], thin[:, :, 1::2] = False, False
        where = np.argwhere(thin)
        self.places = self.lungs.grid.to_lps(where.astype(float))
        self.depth = ndi.distance_transform_edt(mask, sampling=self.lungs.grid.spacing)[thin]


def load_scans(folder: Path, split: str) -> list[Scan]:
    """Scans of one split of shared/data/ct, with their annotations."""
    return [load_scan(folder, *named) for named in scans_of(folder, split)]


def scans_of(folder: Path, split: str) -> list[tuple[str, str]]:
    """(scan, file) of one split."""
    rows = csv.DictReader((folder / "index.csv").open(newline=""))
    return [(row["scan"], row["file"]) for row in rows if row["split"] == split]


def load_scan(folder: Path, name: str, file: str) -> Scan:
    sys.path.insert(0, str(folder))
    import read  # the folder's own reader

    hu, affine, _ = read.read_scan(str(folder / file))
    grid = canonical(hu, affine)
    return Scan(name, grid, find_lungs(grid), *marks_of(folder, name))


def load_phantom(seed: int) -> Scan:
    """A thorax phantom, odd seeds with nodules of every texture: the constancy check shows the detector such chests."""
    rng = np.random.default_rng(seed)
    wished = [
        NoduleSpec(
            float(rng.uniform(4.5, 24)), str(rng.choice(["solid", "solid", "part_solid", "ground_glass"]))
        )
        for _ in range(6 if seed % 2 else 0)
    ]
    thorax = make_thorax(seed, nodules=wished)
    volume = render_volume(thorax, slices=int(rng.integers(110, 170)))
    grid = canonical(volume.hu, volume.affine)
    known = [(np.array(centre), diameter) for centre, diameter, _, _ in nodule_truth(thorax)]
    return Scan(f"phantom{seed}", grid, find_lungs(grid), known, known_share=0.5)


def marks_of(folder: Path, scan: str) -> tuple[list[Any], list[Any]]:
    known, ignored = [], []
    for row in csv.DictReader((folder / "annotations/nodules.csv").open(newline="")):
        if row["scan"] == scan:
            place = np.array([float(row[f"{a}_lps"]) for a in "xyz"])
            (known if row["use"] == "evaluate" else ignored).append((place, float(row["diameter_eq_mm"])))
    for row in csv.DictReader((folder / "annotations/other_marks.csv").open(newline="")):
        if row["scan"] == scan:
            ignored.append((np.array([float(row[f"{a}_lps"]) for a in "xyz"]), 10.0))
    # What we saw ourselves on scans that nobody annotated (card.md): plain nodules, and disease too like them to call.
    for row in csv.DictReader((Path(__file__).parent / "seen.csv").open(newline="")):
        if row["scan"] == scan:
            place = np.array([float(row[f"{a}_lps"]) for a in "xyz"])
            (known if row["use"] == "known" else ignored).append((place, float(row["diameter_mm"])))
    return known, ignored


@dataclass
class Shapes:
    """Reader outlines of one split; distance fields are made at first use."""

    rows: list[dict[str, Any]]
    made: dict[int, Array] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator, diameter_mm: float) -> tuple[Array, float]:
        """(distance field, scale) of an outline of about that size."""
        near = [i for i, r in enumerate(self.rows) if 0.55 < diameter_mm / float(r["diameter_eq_mm"]) < 1.8]
        i = int(rng.choice(near)) if near else int(rng.integers(len(self.rows)))
        if i not in self.made:
            self.made[i] = signed_distance(self.rows[i]["mask"], 0.6)
        return self.made[i], diameter_mm / float(self.rows[i]["diameter_eq_mm"])


def load_shapes(folder: Path, split: str) -> Shapes:
    sys.path.insert(0, str(folder))
    import read

    return Shapes([r for r in read.read_shapes(str(folder / "shapes")) if r["split"] == split])


@dataclass(frozen=True)
class Crop:
    """A real nodule: hu (51, 51, 51) at 1 mm, mask, diameter."""

    name: str
    hu: Array
    mask: Any
    diameter_mm: float
    texture: str


def load_crops(folder: Path, split: str) -> list[Crop]:
    sys.path.insert(0, str(folder))
    import read

    crops = []
    for row in csv.DictReader((folder / "crops/crops.csv").open(newline="")):
        if row["split"] != split:
            continue
        path = next((folder / "crops").rglob(f"{row['crop']}.*"))
        flat, mask, _ = read.read_crop(str(path))
        hu = flat.astype(np.float32) / 255 * 1600 - 1200
        if mask is not None:
            texture = row["texture_class"].replace(" ", "_").replace("-", "_")
            crops.append(Crop(row["crop"], hu, mask, float(row["diameter_eq_mm"]), texture))
    return crops
