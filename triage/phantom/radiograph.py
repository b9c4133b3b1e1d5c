"""Frontal films: path lengths of the same solids that volume.py voxelises, then Beer-Lambert, scatter, noise, look-up.

Parallel beam from back to front (PA), the detector at the chest; image left is the patient's right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import NDArray
from PIL import Image

from triage.domain.image import Radiograph
from triage.phantom.anatomy import Anatomy, anatomy_of, collapse_root, lung_of
from triage.phantom.bones import bones_of
from triage.phantom.samples import bar_points, tube_points
from triage.phantom.solids import FAR, Interval, Loft, Mound, covered, length, meet
from triage.phantom.thorax import LEFT, RIGHT, Consolidation, Effusion, Nodule, Thorax
from triage.phantom.vessels import all_vessels, bronchi_of

Array = NDArray[Any]

WORK_PX = 900  # solids are drawn on at most so many pixels a side; noise and mottle are drawn at full size
DETECTOR_MM = 430.0
WATER_PER_MM = 0.0193  # 70 keV, ICRU 44
# Attenuation beside water's: soft tissue, fat, bone beyond the tissue it replaces, lung.
SOFT, FAT, CORTEX, CORE, LUNG = 1.05, 0.93, 1.8, 0.24, 0.20
FILLED_PART = 0.92  # the rest is air in open bronchi
MENISCUS_MM = 70.0  # height over which fluid climbs between lung and wall


@dataclass(frozen=True, eq=False)
class Grid:
    """x (1, n) and z (n, 1) of pixel centres in LPS mm, and the pixel size; rows run from head to feet."""

    x: Array
    z: Array
    px: float

    def add_points(self, total: Array, points: Array, weights: Array) -> None:
        """Add to total (n, n) the path lengths in mm of points that stand for weights mm3."""
        column = np.rint((points[:, 0] - self.x[0, 0]) / self.px).astype(np.int32)
        row = np.rint((self.z[0, 0] - points[:, 2]) / self.px).astype(np.int32)
        rows = slice(max(int(row.min()), 0), min(int(row.max()) + 1, self.z.size))
        columns = slice(max(int(column.min()), 0), min(int(column.max()) + 1, self.x.size))
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        if high <= 0 or wide <= 0:
            return
        row -= rows.start
        column -= columns.start
        outside = (row < 0) | (row >= high) | (column < 0) | (column >= wide)
        index = row * wide + column
        index[outside] = high * wide
        found = np.bincount(index, weights, high * wide + 1)[:-1]
        total[rows, columns] += found.reshape(high, wide) / self.px**2

    def window(self, centre_x: float, centre_z: float, radius: float) -> tuple[slice, slice]:
        """Rows and columns that hold a disc."""
        n = self.x.size
        column, row = (centre_x - self.x[0, 0]) / self.px, (self.z[0, 0] - centre_z) / self.px
        reach = radius / self.px + 2

        def span(at: float) -> slice:
            return slice(int(np.clip(at - reach, 0, n)), int(np.clip(at + reach, 0, n)))

        return span(row), span(column)


def film_grid(thorax: Thorax, pixels: int, margin: int = 0) -> Grid:
    """The field of view before the person moved: all of the chest and some neck, 43 cm at most; margin pixels around."""
    scale = anatomy_of(thorax.body).scale
    width = min(DETECTOR_MM, 405.0 * float(scale[0]) + thorax.body.fat_mm)
    px = width / pixels
    top = float(140 * scale[2] + 48)
    steps = np.arange(-margin, pixels + margin)
    x = (steps - (pixels - 1) / 2) * px
    z = top - (steps + 0.5) * px
    return Grid(x[None, :].astype(np.float32), z[:, None].astype(np.float32), px)


def render_radiograph(thorax: Thorax, size_px: int = 2000) -> Radiograph:
    """A processed chest film.

    returns  pixels (size_px, size_px) float32 in [0, 1], dense bone bright; spacing at the detector
    """
    work = min(size_px, WORK_PX)
    grid = film_grid(thorax, work, work // 20)
    water_mm, lung_mm = _path_lengths(thorax, grid)
    attenuation = posed(water_mm * np.float32(WATER_PER_MM), thorax, grid.px, work, size_px)
    lung_mm = posed(lung_mm, thorax, grid.px, work, size_px, Image.Resampling.BILINEAR)
    px = grid.px * work / size_px
    rng = np.random.default_rng([thorax.seed, 11])
    attenuation += _mottle(lung_mm, px, rng)
    shown = _developed(_exposed(attenuation, px, rng), px)
    _mark_left(shown, px)
    return Radiograph(
        pixels=shown, spacing_mm=(px, px), view="PA", sex=thorax.body.sex, decoder="triage.phantom"
    )


def _mark_left(shown: Array, px: float) -> None:
    """The lead letter L at the patient's left shoulder."""
    n, unit = shown.shape[0], max(round(2.4 / px), 1)
    top, left = n // 22, n - n // 12
    shown[top : top + 6 * unit, left : left + unit] = 1
    shown[top + 5 * unit : top + 6 * unit, left : left + 4 * unit] = 1


def _path_lengths(thorax: Thorax, grid: Grid) -> tuple[Array, Array]:
    """(water-equivalent mm, mm of aerated lung) on the grid."""
    anatomy = anatomy_of(thorax.body)
    x, z = grid.x, grid.z
    shape = (z.size, x.size)
    everywhere: Interval = (np.full(shape, -FAR, np.float32), np.full(shape, FAR, np.float32))
    outer_solids: tuple[Loft | Mound, ...] = (anatomy.torso, *anatomy.arms, *anatomy.breasts)
    outer = [solid.interval(x, z) for solid in outer_solids]
    water = FAT * covered(everywhere, outer) + (SOFT - FAT) * length(anatomy.muscle.interval(x, z))
    lung = np.zeros(shape, np.float32)
    for side in (RIGHT, LEFT):
        half = np.flatnonzero(side * x[0] > 0)
        columns = slice(half[0], half[-1] + 1)
        air, aerated = lung_lengths(thorax, anatomy, side, x[:, columns], z)
        water[:, columns] -= SOFT * air + (SOFT - LUNG) * aerated
        lung[:, columns] = aerated
    water -= SOFT * length(anatomy.trachea.interval(x, z))
    water -= 0.9 * length(anatomy.stomach_air.interval(x, z))
    if thorax.consolidation is not None:
        kept = with_consolidation(lung, thorax.consolidation, grid, thorax.seed)
        water += (SOFT - LUNG) * FILLED_PART * (lung - kept)
        lung = kept
    for nodule in thorax.nodules:
        _add_nodule(water, nodule, grid)
    return water + _thin_things(thorax, grid), lung


def lung_lengths(thorax: Thorax, anatomy: Anatomy, side: int, x: Array, z: Array) -> tuple[Array, Array]:
    """(mm of free air, mm of aerated lung) on this side."""
    cavity = anatomy.cavity_interval(side, x, z)
    organs = [organ.interval(x, z) for organ in anatomy.organs(side)]
    room = length(cavity) - covered(cavity, organs)
    if thorax.pneumothorax is not None and thorax.pneumothorax.side == side:
        lungs = []
        for more in (0.0, 0.009):  # the second is the outside of the visceral pleura
            keeps = thorax.pneumothorax.keeps
            lung = lung_of(anatomy, side, x, z, (keeps[0] + more, keeps[1] + more, keeps[2] + more))
            lungs.append(length(lung) - covered(lung, organs))
        pleura = np.maximum(lungs[1] - lungs[0], 0)
        return np.maximum(room - lungs[0] - pleura, 0), lungs[0]
    if thorax.effusion is not None and thorax.effusion.side == side:
        lung = _above_fluid(anatomy, thorax.effusion, x, z)
        return np.zeros_like(room), length(lung) - covered(lung, organs)
    return np.zeros_like(room), room


def _above_fluid(anatomy: Anatomy, effusion: Effusion, x: Array, z: Array) -> Interval:
    """What an upright effusion leaves of the cavity: fluid below, and a rim that thins as it climbs the wall."""
    up = np.clip((z - effusion.level_z_mm) / MENISCUS_MM + 0.36, 1e-3, 1) ** np.float32(0.35)
    root = collapse_root(anatomy, effusion.side).astype(np.float32)
    lo, hi = anatomy.cavity[effusion.side].interval(root[0] + (x - root[0]) / up, z)
    lo, hi = 0 + lo * up, 0 + hi * up
    return meet((lo, np.where(up > 0.12, hi, lo)), anatomy.cavity_interval(effusion.side, x, z))


def with_consolidation(lung: Array, wrong: Consolidation, grid: Grid, seed: int) -> Array:
    """What stays aerated of `lung` (mm along the ray)."""
    filled = np.zeros_like(lung)
    for bx, _, bz, radius in wrong.blobs:
        rows, columns = grid.window(bx, bz, radius)
        d2 = radius**2 - (grid.x[:, columns] - bx) ** 2 - (grid.z[rows] - bz) ** 2
        filled[rows, columns] += np.maximum(d2, 0) / radius  # thins out at the rim: no ball has an edge
    room = np.maximum(lung, 1e-3)
    patchy = 1 + 0.25 * _cloud(lung.shape, 6.0 / grid.px, np.random.default_rng([seed, 12]))
    return np.asarray(room * np.exp(-filled * patchy.clip(0.3, 1.7) / room))


def _add_nodule(water: Array, nodule: Nodule, grid: Grid) -> None:
    cx, _, cz = nodule.center_lps_mm
    for diameter, extra in (
        (nodule.diameter_mm, (nodule.hu + 1000) / 1000 - LUNG),
        (nodule.core_diameter_mm, (nodule.core_hu - nodule.hu) / 1000),
    ):
        rows, columns = grid.window(cx, cz, diameter / 2)
        d2 = (diameter / 2) ** 2 - (grid.x[:, columns] - cx) ** 2 - (grid.z[rows] - cz) ** 2
        water[rows, columns] += extra * 2 * np.sqrt(np.maximum(d2, 0))


def _thin_things(thorax: Thorax, grid: Grid) -> Array:
    """Water-equivalent mm that bones and vessels add, less the bronchi's air."""
    step = grid.px
    trunk, arms = bones_of(thorax.body)
    total = np.zeros((grid.z.size, grid.x.size), np.float32)
    for bar in (*trunk, *arms):
        points, weights, cortex = bar_points(bar, step)
        grid.add_points(total, points, weights * np.where(cortex, CORTEX, CORE))
    points, weights = tube_points(all_vessels(thorax), step)
    grid.add_points(total, points, weights * (SOFT - LUNG))
    points, weights = tube_points(bronchi_of(thorax), step)
    grid.add_points(total, points, weights * (-0.7 * SOFT))
    return np.asarray(scipy.ndimage.gaussian_filter(total, 0.7))


def posed(
    layer: Array,
    thorax: Thorax,
    px: float,
    work: int,
    size_px: int,
    resampling: Image.Resampling = Image.Resampling.BICUBIC,
) -> Array:
    """The layer turned and shifted as the person stands, at the final size; its margin is cut off.

    px, work  of the layer without its margin
    """
    margin = (layer.shape[0] - work) // 2
    angle = np.deg2rad(thorax.body.tilt_degrees)
    ratio, c, s = work / size_px, np.cos(angle), np.sin(angle)
    right, down = (v / px for v in thorax.body.shift_mm)
    half = work / 2
    matrix = (c * ratio, s * ratio, margin + half - (c + s) * half - right,
              -s * ratio, c * ratio, margin + half - (c - s) * half - down)  # fmt: skip
    image = Image.fromarray(layer)
    turned = image.transform((size_px, size_px), Image.Transform.AFFINE, matrix, resampling)
    return np.array(turned, np.float32)


def _cloud(shape: tuple[int, ...], sigma_px: float, rng: np.random.Generator) -> Array:
    """Smooth noise of unit spread; drawn small and stretched, because a wide blur of a large picture is slow."""
    shrink = max(int(sigma_px / 2), 1)
    small = (shape[0] // shrink + 2, shape[1] // shrink + 2)
    noise = scipy.ndimage.gaussian_filter(rng.standard_normal(small, dtype=np.float32), sigma_px / shrink)
    noise /= noise.std()
    picture = Image.fromarray(noise).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(picture, np.float32)


def _mottle(lung_mm: Array, px: float, rng: np.random.Generator) -> Array:
    """Interstitium and vessels too small for the tree."""
    depth = np.sqrt(np.clip(lung_mm, 0, 200))
    fine = _cloud(lung_mm.shape, max(0.7 / px, 0.6), rng) + 1.2 * _cloud(lung_mm.shape, 1.8 / px, rng)
    return np.asarray(depth * fine * np.float32(0.0016))


def _exposed(attenuation: Array, px: float, rng: np.random.Generator) -> Array:
    """-log of what the detector caught: primary, scatter past the grid, quantum noise."""
    primary = np.exp(-np.maximum(attenuation, 0))
    scatter = _wide_blur(primary, 28.0 / px)
    caught = primary + np.float32(0.16) * scatter + np.float32(0.002)
    noise = rng.standard_normal(caught.shape, dtype=np.float32)
    noise *= np.float32(0.0007 / px) / np.sqrt(caught)
    return np.asarray(noise - np.log(caught))


def _wide_blur(picture: Array, sigma_px: float) -> Array:
    shrink = max(int(sigma_px / 4), 1)
    image = Image.fromarray(picture)
    small = np.asarray(image.reduce(shrink))
    blurred = scipy.ndimage.gaussian_filter(small, sigma_px / shrink, mode="nearest")
    return np.asarray(Image.fromarray(blurred).resize(image.size, Image.Resampling.BICUBIC), np.float32)


def _developed(log_signal: Array, px: float) -> Array:
    """What the console makes of it: large differences pressed, detail lifted, then an S-shaped look-up."""
    base = _wide_blur(log_signal, 14.0 / px)
    detail = log_signal - base
    signal = base * 0.9 + detail * 1.35
    n = signal.shape[0]
    centre = signal[n // 6 : int(n * 0.8) : 8, n // 5 : -n // 5 : 8]
    dark, bright = np.percentile(centre, [22, 95])
    width = max((bright - dark) / 3.3, 0.1)
    middle = dark + 0.95 * width
    return np.asarray(1 / (1 + np.exp((middle - signal) / width)), np.float32)
