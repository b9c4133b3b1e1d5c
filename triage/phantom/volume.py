"""CT volumes: the solids of a Thorax painted slice by slice, then the scanner's blur and noise.

Supine, arms up, without contrast. Hounsfield values of tissue after ICRU 44 and everyday reading.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import NDArray

from triage.domain.image import Volume
from triage.phantom.anatomy import Anatomy, Solid, anatomy_of, lung_of
from triage.phantom.bones import bones_of
from triage.phantom.samples import Segments, bar_points, tube_points
from triage.phantom.solids import Interval, Loft, Mound, meet
from triage.phantom.thorax import LEFT, RIGHT, Nodule, Thorax
from triage.phantom.vessels import all_vessels, bronchi_of

Array = NDArray[Any]

KERNEL = "B50f"
AIR, LUNG, COLLAPSED, FAT, MUSCLE, SKIN, BLOOD, LIVER, FLUID, FILLED = (
    -1000,
    -865,
    -780,
    -105,
    55,
    20,
    42,
    60,
    12,
    35,
)
CORTEX, CORE = 1150, 190
LUNG_GRAIN_HU = 24.0
NOISE_HU, BLUR_PX = 22.0, 0.62  # spread of noise in soft tissue after the kernel, in-plane PSF
BOTTOM_MM, TOP_MM = -168.0, 150.0  # mean adult: below the posterior recess, above the apex


@dataclass(frozen=True, eq=False)
class _Points:
    """Thin things sorted into slices: where[i]:where[i + 1] of index, volume and hu belong to slice i."""

    where: Array
    index: Array
    part: Array  # of the voxel
    hu: Array


@dataclass(frozen=True, eq=False)
class _Frame:
    """One person's voxel grid."""

    x: Array
    y: Array
    z: Array
    px: float
    step: float

    @property
    def affine(self) -> Array:
        affine = np.diag([self.px, self.px, self.step, 1.0])
        affine[:3, 3] = self.x[0], self.y[0], self.z[0]
        return affine


def render_volume(thorax: Thorax, *, slices: int = 150, size_px: int = 512) -> Volume:
    """The CT of this person, slices from feet to head.

    returns  hu (slices, size_px, size_px) int16; voxel (c, r, s) lies at affine @ (c, r, s, 1) in LPS mm
    """
    frame = _frame(thorax, slices, size_px)
    bones, soft = _bone_points(thorax, frame), _vessel_points(thorax, frame)
    tubes = bronchi_of(thorax)
    walls = _sorted(*_tube(Segments(tubes.start, tubes.end, tubes.radius + 1.3), frame, 30.0), frame)
    lumen = _sorted(*_tube(tubes, frame, float(AIR)), frame)
    rng = np.random.default_rng([thorax.seed, 21])
    grain = LUNG_GRAIN_HU * _grain(rng, size_px)
    hu = np.empty((slices, size_px, size_px), np.int16)
    for i in range(slices):
        plane = _tissue(thorax, frame, i)
        plane += grain[i % len(grain)] * (plane < COLLAPSED + 10) * (plane > AIR + 10)
        for points in (soft, walls, lumen, bones):
            _mix(plane, points, i)
        hu[i] = _scanned(plane, rng)
    return Volume(
        hu=hu,
        affine=frame.affine,
        kernel=KERNEL,
        thickness_mm=frame.step,
        sex=thorax.body.sex,
        decoder="triage.phantom",
    )


def _grain(rng: np.random.Generator, size_px: int) -> Array:
    """Fine structure of lung, unit spread; continuous from slice to slice, and round again after 24."""
    noise = rng.standard_normal((24, size_px // 2, size_px // 2), dtype=np.float32)
    noise = scipy.ndimage.gaussian_filter(noise, (0.8, 0.9, 0.9), mode="wrap")
    return np.asarray((noise / noise.std()).repeat(2, axis=1).repeat(2, axis=2))


def _frame(thorax: Thorax, slices: int, size_px: int) -> _Frame:
    scale = anatomy_of(thorax.body).scale
    field = round(min(2 * (180 * float(scale[0]) + thorax.body.fat_mm + 8), 430.0), 1)
    px = field / size_px
    step = round((TOP_MM - BOTTOM_MM) * float(scale[2]) / slices, 3)
    plane = (np.arange(size_px) - (size_px - 1) / 2) * px
    z = round(BOTTOM_MM * float(scale[2]), 3) + np.arange(slices) * step
    return _Frame(plane.astype(np.float64), plane.astype(np.float64), z, px, step)


def _paint(plane: Array, frame: _Frame, interval: Interval, hu: float) -> None:
    """Fill from front to back, with the boundary voxels in part."""
    lo, hi = (v.ravel() for v in interval)
    filled = np.flatnonzero(hi > lo)
    if not filled.size:
        return
    columns = slice(int(filled[0]), int(filled[-1]) + 1)
    top, bottom = float(lo[filled].min()), float(hi[filled].max())
    first = int(np.clip((top - frame.y[0]) / frame.px - 1, 0, frame.y.size))
    last = int(np.clip((bottom - frame.y[0]) / frame.px + 3, 0, frame.y.size))
    y = frame.y[first:last, None].astype(np.float32)
    a, b = lo[None, columns].astype(np.float32), hi[None, columns].astype(np.float32)
    part = np.clip((np.minimum(y - a, b - y)) / np.float32(frame.px) + np.float32(0.5), 0, 1)
    part *= b > a
    view = plane[first:last, columns]
    view += part * (np.float32(hu) - view)


def _tissue(thorax: Thorax, frame: _Frame, i: int) -> Array:
    """HU of slice i without thin things and noise."""
    anatomy = anatomy_of(thorax.body)
    plane = np.full((frame.y.size, frame.x.size), AIR, np.float32)
    x, z = frame.x[None, :].astype(np.float32), np.array([[frame.z[i]]], np.float32)

    def fill(solid: Solid | Mound, hu: float) -> None:
        _paint(plane, frame, solid.interval(x, z), hu)

    _paint_table(plane, frame, float(anatomy.torso.knots[:, 4].max()))
    for breast in anatomy.breasts:  # lying down they flatten
        fill(replace(breast, height=0.55 * breast.height), FAT + 35)
    fill(anatomy.torso, SKIN)
    _paint(plane, frame, _inset(anatomy.torso, x, z, 2.0), FAT)
    fill(anatomy.muscle, MUSCLE)
    for depth, hu in ((11.0, FAT), (13.0, MUSCLE)):  # the fat between the layers of the chest wall
        _paint(plane, frame, _inset(anatomy.muscle, x, z, depth), hu)
    for side in (RIGHT, LEFT):
        _paint_lung(thorax, anatomy, side, plane, frame, (x, z))
    fill(anatomy.mediastinum, FAT + 30)
    for organ in (*anatomy.heart, *anatomy.vessels):
        fill(organ, BLOOD)
    for side in (RIGHT, LEFT):
        below = meet(anatomy.domes[side].interval(x, z), anatomy.cavity_interval(side, x, z))
        _paint(plane, frame, below, LIVER if side == RIGHT else LIVER - 12)
    fill(anatomy.stomach_air, AIR)
    fill(anatomy.spine, MUSCLE)
    wall = anatomy.trachea.knots + np.array([0, 0, 2, 0, 2])
    fill(Loft(wall, anatomy.trachea.power), MUSCLE)
    fill(anatomy.trachea, AIR)
    for nodule in thorax.nodules:
        _paint_nodule(plane, frame, nodule, i)
    return plane


def _inset(loft: Loft, x: Array, z: Array, by_mm: float) -> Interval:
    return Loft(loft.knots - np.array([0, 0, by_mm, 0, by_mm]), loft.power, loft.side).interval(x, z)


def _paint_table(plane: Array, frame: _Frame, back: float) -> None:
    """The couch under the patient: a thin hollow shell."""
    y = back + 4 - frame.x[None, :] ** 2 / 1500 + 20
    inside = np.abs(frame.x)[None, :] < 190
    for depth, hu in ((0.0, -150.0), (2.5, -900.0)):
        _paint(plane, frame, (np.where(inside, y + depth, 0), np.where(inside, y + 24 - depth, 0)), hu)


def _paint_lung(
    thorax: Thorax, anatomy: Anatomy, side: int, plane: Array, frame: _Frame, at: tuple[Array, Array]
) -> None:
    x, z = at
    cavity = anatomy.cavity_interval(side, x, z)
    air, fluid, filled = thorax.pneumothorax, thorax.effusion, thorax.consolidation
    if air is not None and air.side == side:
        _paint(plane, frame, cavity, AIR)
        outside = lung_of(
            anatomy, side, x, z, (air.keeps[0] + 0.006, air.keeps[1] + 0.006, air.keeps[2] + 0.006)
        )
        _paint(plane, frame, outside, MUSCLE)  # visceral pleura
        _paint(plane, frame, lung_of(anatomy, side, x, z, air.keeps), COLLAPSED)
    else:
        _paint(plane, frame, cavity, LUNG)
    if filled is not None and filled.side == side:
        _paint_filled(plane, frame, filled.blobs, float(z[0, 0]), cavity)
    if fluid is not None and fluid.side == side:
        _paint(plane, frame, (np.maximum(cavity[0], np.float32(fluid.level_y_mm)), cavity[1]), FLUID)


def _paint_filled(
    plane: Array,
    frame: _Frame,
    blobs: tuple[tuple[float, float, float, float], ...],
    z: float,
    cavity: Interval,
) -> None:
    near = np.array([b for b in blobs if abs(b[2] - z) < 2 * b[3]])
    if not near.size:
        return
    reach = 2 * near[:, 3:]
    (x0, y0), (x1, y1) = (near[:, :2] - reach).min(axis=0), (near[:, :2] + reach).max(axis=0)
    rows, columns = slice(*np.searchsorted(frame.y, [y0, y1])), slice(*np.searchsorted(frame.x, [x0, x1]))
    x, y = frame.x[None, columns].astype(np.float32), frame.y[rows, None].astype(np.float32)
    melt = np.zeros((y.size, x.size), np.float32)
    for bx, by, bz, radius in near:
        nearness = np.float32(np.exp(-((z - bz) ** 2) / radius**2))
        melt += (
            nearness
            * np.exp(-((y - np.float32(by)) ** 2) / radius**2)
            * np.exp(-((x - np.float32(bx)) ** 2) / radius**2)
        )
    part = np.clip((melt - 0.25) / 0.5, 0, 1) * ((y > cavity[0][:, columns]) & (y < cavity[1][:, columns]))
    view = plane[rows, columns]
    view += part * (FILLED - view)


def _paint_nodule(plane: Array, frame: _Frame, nodule: Nodule, i: int) -> None:
    """A ball averaged over the slice's thickness, so that volume is kept."""
    cx, cy, cz = nodule.center_lps_mm
    reach = nodule.diameter_mm / 2 + frame.px
    if abs(frame.z[i] - cz) > reach + frame.step:
        return
    rows = slice(*np.searchsorted(frame.y, [cy - reach, cy + reach + frame.px]))
    columns = slice(*np.searchsorted(frame.x, [cx - reach, cx + reach + frame.px]))
    inside = (frame.x[None, columns] - cx) ** 2 + (frame.y[rows, None] - cy) ** 2
    for diameter, hu in ((nodule.diameter_mm, nodule.hu), (nodule.core_diameter_mm, nodule.core_hu)):
        part = np.zeros_like(inside)
        for dz in (np.arange(5) - 2) / 5 * frame.step:
            distance = np.sqrt(inside + (frame.z[i] + dz - cz) ** 2)
            part += np.clip((diameter / 2 - distance) / frame.px + 0.5, 0, 1) / 5
        view = plane[rows, columns]
        view += (part * (hu - view)).astype(np.float32)


def _tube(tubes: Segments, frame: _Frame, hu: float) -> tuple[Array, Array, Array]:
    points, weights = tube_points(tubes, 0.8 * frame.px)
    return points, weights, np.full(len(weights), hu)


def _vessel_points(thorax: Thorax, frame: _Frame) -> _Points:
    return _sorted(*_tube(all_vessels(thorax), frame, float(BLOOD)), frame)


def _bone_points(thorax: Thorax, frame: _Frame) -> _Points:
    parts = [bar_points(bar, 0.9 * frame.px) for bar in bones_of(thorax.body)[0]]
    points = np.concatenate([p for p, _, _ in parts])
    weights = np.concatenate([w for _, w, _ in parts])
    cortex = np.concatenate([c for _, _, c in parts])
    return _sorted(points, weights, np.where(cortex, float(CORTEX), float(CORE)), frame)


def _sorted(points: Array, weights: Array, hu: Array, frame: _Frame) -> _Points:
    c = np.rint((points[:, 0] - frame.x[0]) / frame.px).astype(np.int64)
    r = np.rint((points[:, 1] - frame.y[0]) / frame.px).astype(np.int64)
    s = np.rint((points[:, 2] - frame.z[0]) / frame.step).astype(np.int64)
    n = frame.x.size
    ok = np.flatnonzero((c >= 0) & (c < n) & (r >= 0) & (r < n) & (s >= 0) & (s < frame.z.size))
    order = ok[np.argsort(s[ok], kind="stable")]
    where = np.searchsorted(s[order], np.arange(frame.z.size + 1))
    part = weights[order] / (frame.px**2 * frame.step)
    return _Points(where, r[order] * n + c[order], part, hu[order])


def _mix(plane: Array, points: _Points, i: int) -> None:
    here = slice(points.where[i], points.where[i + 1])
    index, part = points.index[here], points.part[here]
    if not index.size:
        return
    amount = np.bincount(index, part, minlength=plane.size)
    value = np.bincount(index, part * points.hu[here], minlength=plane.size)
    touched = np.flatnonzero(amount)
    flat = plane.reshape(-1)
    mean = value[touched] / amount[touched]
    flat[touched] += np.minimum(amount[touched], 1) * (mean - flat[touched])


def _scanned(plane: Array, rng: np.random.Generator) -> Array:
    """Kernel blur, and noise that is coarser than a voxel as a real kernel leaves it."""
    noise = rng.standard_normal(plane.shape, dtype=np.float32)
    noise *= np.float32(NOISE_HU / 0.45)  # the blur leaves 0.45 of the spread
    return np.rint(np.clip(scipy.ndimage.gaussian_filter(plane + noise, BLUR_PX), -1024, 3071)).astype(
        np.int16
    )
