"""Draws what the training learns from: blocks of real lungs with nodules, real crops and lookalikes put in, all seeded."""

from __future__ import annotations

import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from data import Crop, Scan, Shapes, load_crops, load_phantom, load_scan, load_shapes, scans_of
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
    transplant,
    union,
    vessel,
)
from luna16 import IN_TURN, LUNA16_TRAIN, Hosts, luna16_scans
from scipy import ndimage as ndi

from triage.detectors._grid import Grid, resample

HARD_SHARE = 0.45  # of the blocks of a real scan that are drawn around its hard places
PHANTOM_SHARE = 0.10  # of all blocks: enough to know them, too few to learn them instead of lungs
RIM_SHARE, RIM_MM = 0.42, 7.0  # of the places are drawn this near the lungs' wall, where nodules hide best
TEXTURES = {
    "solid": 0.42,
    "part_solid": 0.20,
    "ground_glass": 0.38,
}  # rarer ones more often than readers see them


@dataclass(frozen=True)
class Sample:
    """hu (n, n, n) float32 at step_mm; lesions and ignored in its voxels, diameters in mm."""

    hu: Array
    lesions: tuple[Lesion, ...]
    ignored: tuple[Lesion, ...]


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
        native = around(scan, place, half_mm + 6)
        lung = scan.lungs.on(native).astype(np.float32)
        drawn = self._fill(native, lung, scan, place, half_mm * 0.75)
        return self._labelled(self._sampled(native, place, voxels, step), native, drawn, scan, half_mm)

    def draw_lung(self, voxels: int, step_mm: float) -> Array:
        """HU of such a block of a real scan as it is, wherever there is lung: no mark is read, nothing put in."""
        real = [s for s in self.scans if not s.name.startswith("phantom")]
        scan = real[int(self.rng.integers(len(real)))]
        step = step_mm * float(self.rng.uniform(0.9, 1.1))
        place = scan.places[int(self.rng.integers(len(scan.places)))]
        return self._sampled(around(scan, place, voxels * step / 2 + 6), place, voxels, step).hu

    def _sampled(self, native: Grid, place: Array, voxels: int, step: float) -> Grid:
        half = voxels * step / 2 / np.array(native.spacing)
        start = native.to_index(place[None])[0] - half + self.rng.uniform(-0.5, 0.5, 3)
        return resample(native, step, start, (voxels, voxels, voxels))

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


def around(scan: Scan, place: Array, reach_mm: float) -> Grid:
    """A copy of the scan's own voxels up to reach_mm from a place (LPS mm)."""
    middle, margin = scan.grid.to_index(place[None])[0], reach_mm / np.array(scan.grid.spacing)
    low = np.maximum(0, np.floor(middle - margin)).astype(int)
    high = np.minimum(scan.grid.hu.shape, np.ceil(middle + margin) + 1).astype(int)
    affine = scan.grid.affine.copy()
    affine[:3, 3] = scan.grid.to_lps(low[None].astype(float))[0]
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return Grid(scan.grid.hu[box].astype(np.float32), affine)


def turned(rng: np.random.Generator, *arrays: Any) -> list[Any]:
    """The same random flips and in-plane quarter turns of each array."""
    flips, turns = rng.integers(0, 2, 3), int(rng.integers(4))
    out = []
    for a in arrays:
        for axis in range(3):
            a = np.flip(a, axis) if flips[axis] else a
        out.append(np.ascontiguousarray(np.rot90(a, turns, (1, 2))))
    return out


def open_sampler(
    data: Path | None, luna16: Path | None, phantoms: range, seed: int, workers: int = 1
) -> tuple[Sampler, Hosts]:
    """Everything the training draws from: shared/data/ct, LUNA16, or both; and phantoms.

    workers  processes that load and make the scans
    """
    waiting = luna16_scans(luna16, LUNA16_TRAIN, seed) if luna16 else None
    scans = [next(waiting) for _ in range(IN_TURN)] if waiting else []
    named = scans_of(data, "train") if data else []
    with ProcessPoolExecutor(workers, mp.get_context("fork")) as pool:
        coming = [pool.submit(load_scan, data, *row) for row in named]
        coming += [pool.submit(load_phantom, seed) for seed in phantoms]
        scans += [one.result() for one in coming]
    hosts = Hosts(scans, waiting)
    shapes = load_shapes(data, "train") if data else None
    return Sampler(hosts.scans, shapes, load_crops(data, "train") if data else [], seed), hosts
