"""What the training reads: scans, reader outlines and real crops of `shared/data/ct`, or scans in the LUNA16 layout.

Nothing here is copied into the repository. Every sample is drawn from a seeded generator, and holds: HU (z, y, x) on a
cubic grid, lesions with centre and diameter, and spheres to ignore (marks that readers disagreed on).
"""

from __future__ import annotations

import csv
import multiprocessing as mp
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from insertion import (
    Array,
    Field,
    Lesion,
    Look,
    draw_look,
    mixture,
    outline,
    paint,
    plate,
    signed_distance,
    transplant,
    union,
    vessel,
)
from scipy import ndimage as ndi

from triage.detectors._grid import Grid, canonical, resample
from triage.detectors.lungs import Lungs, find_lungs
from triage.phantom.person import make_thorax, nodule_truth
from triage.phantom.thorax import NoduleSpec
from triage.phantom.volume import render_volume
from triage.qa.metaimage import read_metaimage

IN_TURN = 8  # LUNA16 scans in memory at once, some 100 MB each
LUNA16_TRAIN, LUNA16_VAL = range(8), 8  # subset 9 stays unseen
HARD_SHARE = 0.35  # of the blocks of a real scan that are drawn around its hard places
PHANTOM_SHARE = 0.10  # of all blocks: enough to know them, too few to learn them instead of lungs
RIM_SHARE, RIM_MM = 0.35, 7.0  # of the places are drawn this near the lungs' wall, where nodules hide best
TEXTURES = {
    "solid": 0.50,
    "part_solid": 0.16,
    "ground_glass": 0.34,
}  # rarer ones more often than readers see them


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


@dataclass(frozen=True)
class Sample:
    """hu (n, n, n) float32 at step_mm; lesions and ignored in its voxels, diameters in mm."""

    hu: Array
    lesions: tuple[Lesion, ...]
    ignored: tuple[Lesion, ...]


def load_scans(folder: Path, split: str) -> list[Scan]:
    """Scans of one split of shared/data/ct, with their annotations."""
    return [load_scan(folder, *named) for named in _scans_of(folder, split)]


def _scans_of(folder: Path, split: str) -> list[tuple[str, str]]:
    """(scan, file) of one split."""
    rows = csv.DictReader((folder / "index.csv").open(newline=""))
    return [(row["scan"], row["file"]) for row in rows if row["split"] == split]


def load_scan(folder: Path, name: str, file: str) -> Scan:
    sys.path.insert(0, str(folder))
    import read  # the folder's own reader

    hu, affine, _ = read.read_scan(str(folder / file))
    grid = canonical(hu, affine)
    return Scan(name, grid, find_lungs(grid), *_annotations(folder, name))


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


def _annotations(folder: Path, scan: str) -> tuple[list[Any], list[Any]]:
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


def draw_diameter(rng: np.random.Generator) -> float:
    """3.4 to 30 mm, small ones more often than in the readers' list: they are the ones that get missed."""
    return float(np.clip(np.exp(rng.normal(np.log(6.0), 0.5)), 3.4, 30.0))


def draw_nodule(rng: np.random.Generator, shapes: Shapes, diameter_mm: float) -> tuple[Field, Field | None]:
    """(body, attachments or None)."""
    body = outline(*_with_grid(shapes.draw(rng, diameter_mm)), rng)
    if rng.random() < 0.3:
        body = mixture(
            body, outline(*_with_grid(shapes.draw(rng, diameter_mm)), rng), float(rng.uniform(0.2, 0.6))
        )
    extra: Field | None = None
    if rng.random() < 0.35:  # a feeding vessel or a tag to the pleura
        start = np.zeros(3, np.float32)
        extra = vessel(
            rng, float(rng.uniform(12, 30)), float(rng.uniform(0.5, 0.16 * diameter_mm + 0.6)), start
        )
        if rng.random() < 0.4:
            extra = union(extra, vessel(rng, float(rng.uniform(8, 20)), float(rng.uniform(0.5, 1.2)), start))
    return body, extra


def _with_grid(drawn: tuple[Array, float]) -> tuple[Array, float, float]:
    return drawn[0], 0.6, drawn[1]


def draw_lookalike(rng: np.random.Generator) -> tuple[Field, float]:
    """(field, reach in mm) of something that is no nodule."""
    kind = rng.random()
    length, radius = float(rng.uniform(25, 45)), float(np.exp(rng.uniform(np.log(0.9), np.log(4.5))))
    if kind < 0.45:
        return vessel(rng, max(length, 8 * radius), radius), length / 2 + 4
    if kind < 0.75:  # a fork
        fork = vessel(rng, length, radius)
        for _ in range(int(rng.integers(1, 3))):
            fork = union(fork, vessel(rng, length * 0.7, radius * 0.75, np.zeros(3, np.float32)))
        return fork, length / 2 + 4
    return plate(rng, float(rng.uniform(1.2, 4.0)), length), length / 2 + 4


class Sampler:
    """Draws training blocks: real lung with inserted nodules, transplants, look-alikes, or nothing added."""

    def __init__(self, scans: list[Scan], shapes: Shapes | None, crops: list[Crop], seed: int) -> None:
        self.scans, self.shapes, self.crops = scans, shapes, crops
        self.rng = np.random.default_rng(seed)

    def draw(self, voxels: int, step_mm: float) -> Sample:
        """One cubic block of `voxels` at about step_mm (drawn within a tenth of it)."""
        rng = self.rng
        scan = self.host()
        step = step_mm * float(rng.uniform(0.9, 1.1))
        half_mm = voxels * step / 2
        if scan.known and rng.random() < scan.known_share:
            place = scan.known[int(rng.integers(len(scan.known)))][0] + rng.normal(0, 5, 3)
        elif len(scan.hard) and rng.random() < HARD_SHARE:
            place = scan.hard[int(rng.integers(len(scan.hard)))] + rng.normal(0, 6, 3)
        else:
            place = scan.places[int(rng.integers(len(scan.places)))]
        middle = scan.grid.to_index(place[None])[0]
        margin = (half_mm + 6) / np.array(scan.grid.spacing)
        low = np.maximum(0, np.floor(middle - margin)).astype(int)
        high = np.minimum(scan.grid.hu.shape, np.ceil(middle + margin) + 1).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        affine = scan.grid.affine.copy()
        affine[:3, 3] = scan.grid.to_lps(low[None].astype(float))[0]
        native = Grid(scan.grid.hu[box].astype(np.float32), affine)
        lung = scan.lungs.on(native).astype(np.float32)
        drawn = self._fill(native, lung, scan, place, half_mm * 0.75)
        start = (
            native.to_index(place[None])[0] - half_mm / np.array(native.spacing) + rng.uniform(-0.5, 0.5, 3)
        )
        out = resample(native, step, start, (voxels, voxels, voxels))
        return self._labelled(out, native, drawn, scan, half_mm)

    def host(self) -> Scan:
        """A scan to draw from: a phantom as seldom as PHANTOM_SHARE says."""
        phantom = self.rng.random() < PHANTOM_SHARE
        hosts = [s for s in self.scans if s.name.startswith("phantom") == phantom] or self.scans
        return hosts[int(self.rng.integers(len(hosts)))]

    def _fill(self, native: Grid, lung: Array, scan: Scan, place: Array, span_mm: float) -> list[Lesion]:
        rng, drawn = self.rng, []
        near = np.flatnonzero(np.abs(scan.places - place).max(1) < span_mm)
        taken = [p for p, _ in scan.known + scan.ignored]
        if not near.size:
            return drawn
        for _ in range(int(rng.choice([0, 2, 3, 4], p=[0.15, 0.3, 0.3, 0.25]))):
            spot, kind = self.spot(scan, near), rng.random()
            if any(np.linalg.norm(spot - t) < 22 for t in taken):
                continue
            taken.append(spot)
            lesion = self.put(native, lung, spot, kind)
            if lesion is not None:
                drawn.append(lesion)
        return drawn

    def spot(self, scan: Scan, among: Array) -> Array:
        """One of these places of the scan in LPS mm, those at the wall more often than their number says."""
        if self.rng.random() < RIM_SHARE:
            rim = among[scan.depth[among] < RIM_MM]
            among = rim if rim.size else among
        chosen: Array = scan.places[int(self.rng.choice(among))]
        return chosen

    def put(self, native: Grid, lung: Array, spot: Array, kind: float) -> Lesion | None:
        """Draw something at `spot` into `native` in place: by `kind` (0 to 1) a nodule, a real crop or what is none."""
        rng = self.rng
        at = tuple(native.to_index(spot[None])[0])
        texture = str(rng.choice(list(TEXTURES), p=list(TEXTURES.values())))
        look = draw_look(rng, texture, native.spacing[0])
        if kind < 0.5:
            if self.shapes is None:
                return None
            diameter = draw_diameter(rng) * (1.25 if texture == "part_solid" else 1.0)
            body, extra = draw_nodule(rng, self.shapes, diameter)
            return paint(
                native.hu, lung, native.spacing, at, body, look, rng, reach_mm=diameter * 0.9 + 6, extra=extra
            )
        if kind < 0.62 and self.crops:
            return self._transplant(native, lung, at)
        if kind < 0.66:
            self._transplant_lung(native, at)
            return None
        body, reach = draw_lookalike(rng)
        if rng.random() < 0.15:
            look = Look(texture, None, look.edge_mm, look.blur_mm)
        paint(native.hu, lung, native.spacing, at, body, look, rng, reach_mm=reach)
        return None

    def _transplant(self, native: Grid, lung: Array, at: tuple[float, ...]) -> Lesion | None:
        rng = self.rng
        crop = self.crops[int(rng.integers(len(self.crops)))]
        index = tuple(round(float(a)) for a in at)
        inside = all(0 <= i < n for i, n in zip(index, lung.shape, strict=True))
        if not inside or crop.diameter_mm > 24 or lung[index] < 0.5:
            return None
        hu, mask = turned(rng, crop.hu, crop.mask)
        margin = np.clip((3.5 + ndi.distance_transform_edt(~mask) * -1) / 2.5 + 0.5, 0, 1).astype(np.float32)
        zoom = [1.0 / s for s in native.spacing]
        piece = ndi.zoom(hu, zoom, order=1, grid_mode=True, mode="nearest")
        share = ndi.zoom(margin, zoom, order=1, grid_mode=True, mode="nearest")
        solid = ndi.zoom(mask.astype(np.float32), zoom, order=1, grid_mode=True, mode="nearest") > 0.5
        if not solid.any():
            return None
        transplant(native.hu, index, piece, share)
        shift = np.array(ndi.center_of_mass(solid)) - np.array(solid.shape) // 2
        centre = tuple(float(i + s) for i, s in zip(index, shift, strict=True))
        return Lesion((centre[0], centre[1], centre[2]), crop.diameter_mm, crop.texture)

    def _transplant_lung(self, native: Grid, at: tuple[float, ...]) -> None:
        """Lung from another scan by the same soft margin: the margin alone is no sign of a nodule."""
        rng, donor = self.rng, self.host()
        spot = donor.places[int(rng.integers(len(donor.places)))]
        if any(np.linalg.norm(spot - p) < 25 for p, _ in donor.known + donor.ignored):
            return
        middle = donor.grid.to_index(spot[None])[0]
        count = [max(3, int(30 / s)) for s in native.spacing]
        start = np.rint(middle - np.array(count) / 2).astype(int)
        stop = start + count
        if (start < 0).any() or (stop > donor.grid.hu.shape).any():
            return
        piece = donor.grid.hu[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))].astype(np.float32)
        axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(count, native.spacing, strict=True)]
        away = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
        share = np.clip((rng.uniform(4, 11) - away) / 2.5, 0, 1).astype(np.float32)
        index = tuple(round(float(a)) for a in at)
        transplant(native.hu, (index[0], index[1], index[2]), piece, share)

    def _labelled(self, out: Grid, native: Grid, drawn: list[Lesion], scan: Scan, half_mm: float) -> Sample:
        def to_out(lps: Array, diameter: float, texture: str) -> Lesion:
            z, y, x = out.to_index(lps[None])[0]
            return Lesion((float(z), float(y), float(x)), diameter, texture)

        lesions = [
            to_out(native.to_lps(np.array([le.centre]))[0], le.diameter_mm, le.texture) for le in drawn
        ]
        lesions += [to_out(p, d, "solid") for p, d in scan.known]
        ignored = [to_out(p, d, "") for p, d in scan.ignored]
        reach = 2 * half_mm
        near = [le for le in lesions if max(abs(c - out.hu.shape[0] / 2) for c in le.centre) < reach]
        return Sample(out.hu.astype(np.float32), tuple(near), tuple(ignored))


def turned(rng: np.random.Generator, *arrays: Any) -> list[Any]:
    """The same random flips and in-plane quarter turns of each array."""
    flips, turns = rng.integers(0, 2, 3), int(rng.integers(4))
    out = []
    for a in arrays:
        for axis in range(3):
            a = np.flip(a, axis) if flips[axis] else a
        out.append(np.ascontiguousarray(np.rot90(a, turns, (1, 2))))
    return out


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


def open_sampler(
    data: Path | None, luna16: Path | None, phantoms: range, seed: int, workers: int = 1
) -> tuple[Sampler, Hosts]:
    """Everything the training draws from: shared/data/ct, LUNA16, or both; and phantoms.

    workers  processes that load and make the scans
    """
    waiting = luna16_scans(luna16, LUNA16_TRAIN, seed) if luna16 else None
    scans = [next(waiting) for _ in range(IN_TURN)] if waiting else []
    named = _scans_of(data, "train") if data else []
    with ProcessPoolExecutor(workers, mp.get_context("fork")) as pool:
        coming = [pool.submit(load_scan, data, *row) for row in named]
        coming += [pool.submit(load_phantom, seed) for seed in phantoms]
        scans += [one.result() for one in coming]
    hosts = Hosts(scans, waiting)
    shapes = load_shapes(data, "train") if data else None
    return Sampler(hosts.scans, shapes, load_crops(data, "train") if data else [], seed), hosts
