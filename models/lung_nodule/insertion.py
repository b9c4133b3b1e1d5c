"""Nodules, look-alikes and transplants put into real lung, for training.

A lesion is a signed distance field (mm, positive inside) sampled on the scan's own voxels: a reader's outline turned,
stretched, warped and sometimes mixed with a second one; blurred with a drawn resolution; blended over the lung so that
denser voxels (vessels, chest wall) stay; given noise of the place. Look-alikes (tubes, forks, plates, empty blends) go
through the same steps, so that the steps themselves tell nothing. Draws of blur, noise, contrast and warp differ from
those of the test recipe (`shared/sketches/nodule_insertion.py`: no warp, fixed blur and inward shift, no attachments).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Array = NDArray[np.float32]
Field = Callable[
    [Array], Array
]  # (3, ...) mm from the centre, z y x -> signed distance in mm, positive inside

LEVELS_HU = {"solid": (-150.0, 120.0), "part_solid": (-650.0, -430.0), "ground_glass": (-730.0, -470.0)}
MOST_HU = -620.0  # mean of the tissue that a lesion is drawn over


@dataclass(frozen=True)
class Lesion:
    """centre (z, y, x) in voxels of the block; diameter of the sphere of equal volume in mm."""

    centre: tuple[float, float, float]
    diameter_mm: float
    texture: str


def signed_distance(mask: NDArray[np.bool_], grid_mm: float) -> Array:
    """Distance to the outline in mm, positive inside, with eight voxels of margin."""
    padded = np.pad(mask, 8)
    inside = ndi.distance_transform_edt(padded) - 0.5
    outside = ndi.distance_transform_edt(~padded) - 0.5
    return (np.where(padded, inside, -outside) * grid_mm).astype(np.float32)


def rotation(rng: np.random.Generator) -> Array:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return (q * np.sign(np.diag(r))).astype(np.float32)


def outline(sdf: Array, grid_mm: float, scale: float, rng: np.random.Generator) -> Field:
    """A reader's outline, turned, stretched by up to a fifth along its axes and gently warped."""
    turn = rotation(rng) * np.exp(rng.normal(0, 0.1, (3, 1))).astype(np.float32)
    size = float(np.cbrt((sdf > 0).sum())) * grid_mm * scale
    waves = rng.normal(0, 1.0, (3, 3)) / max(size, 3.0) * 2.5
    phases, heights = rng.uniform(0, 6.28, 3), rng.normal(0, 0.05 * size, (3, 3))
    middle = (np.array(sdf.shape) - 1) / 2

    def field(mm: Array) -> Array:
        moved = np.tensordot(turn, mm, 1)
        wave = np.sin(np.tensordot(waves, mm, 1) + phases[:, None, None, None])
        moved = (moved + np.tensordot(heights, wave, 1)) / (grid_mm * scale)
        points = [moved[i] + middle[i] for i in range(3)]
        return (ndi.map_coordinates(sdf, points, order=1, mode="nearest") * scale).astype(np.float32)

    return field


def tube(points: Array, radii: Array) -> Field:
    """A bent tube through `points` ((n, 3) mm) of the given radii: a vessel."""

    def field(mm: Array) -> Array:
        best = np.full(mm.shape[1:], -1e3, np.float32)
        for a, b, ra, rb in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
            along = b - a
            t = np.clip(
                np.tensordot(along, mm - a[:, None, None, None], 1) / max(float(along @ along), 1e-6), 0, 1
            )
            gap = mm - a[:, None, None, None] - along[:, None, None, None] * t
            best = np.maximum(best, ra + (rb - ra) * t - np.sqrt((gap**2).sum(0)))
        return best

    return field


def vessel(rng: np.random.Generator, length_mm: float, radius_mm: float, start: Array | None = None) -> Field:
    """A smooth random tube; through the centre, or beginning at `start` and thinning outwards."""
    heading = rng.normal(size=3)
    heading /= np.linalg.norm(heading)
    bend = rng.normal(0, 0.25, 3)
    t = np.linspace(-0.5, 0.5, 9) if start is None else np.linspace(0, 1, 9)
    path = t[:, None] * heading * length_mm + (t**2)[:, None] * bend * length_mm
    if start is not None:
        path = path + start
    taper = rng.uniform(0.5, 1.0)
    radii = radius_mm * (1 - (1 - taper) * np.abs(t) / np.abs(t).max())
    return tube(path.astype(np.float32), radii.astype(np.float32))


def plate(rng: np.random.Generator, thickness_mm: float, extent_mm: float) -> Field:
    """A thin, slightly bent sheet: scar, fissure, plate atelectasis."""
    turn, bend = rotation(rng), rng.normal(0, 0.01, 2)

    def field(mm: Array) -> Array:
        u, v, w = np.tensordot(turn, mm, 1)
        away = np.abs(w + bend[0] * u * u + bend[1] * v * v)
        return np.minimum(thickness_mm / 2 - away, extent_mm / 2 - np.sqrt(u * u + v * v)).astype(np.float32)

    return field


def union(first: Field, second: Field) -> Field:
    return lambda mm: np.maximum(first(mm), second(mm))


def mixture(first: Field, second: Field, share: float) -> Field:
    return lambda mm: (1 - share) * first(mm) + share * second(mm)


@dataclass(frozen=True)
class Look:
    """How a lesion is drawn: density, edge, resolution. `level_hu` None: nothing but the blending itself."""

    texture: str
    level_hu: float | None
    edge_mm: float
    blur_mm: tuple[float, float]  # through-plane, in-plane (Gaussian sigma)
    core_hu: float | None = None
    inset_mm: float = (
        0.0  # readers draw around a nodule: its half-density edge lies this far inside their outline
    )


def draw_look(rng: np.random.Generator, texture: str, slice_mm: float) -> Look:
    low, high = LEVELS_HU[texture]
    level = float(rng.uniform(low, high))
    if texture == "solid" and rng.random() < 0.06:
        level = float(rng.uniform(150, 700))  # calcified
    soft = 0.35 if texture == "solid" else 1.1
    return Look(
        texture,
        level,
        edge_mm=float(soft * rng.uniform(0.6, 2.4)),
        blur_mm=(float(rng.uniform(0.25, 0.55) * slice_mm), float(rng.uniform(0.35, 0.95))),
        core_hu=float(rng.uniform(-250, 50)) if texture == "part_solid" else None,
        inset_mm=float(rng.uniform(0, 0.55)),
    )


def paint(
    block: Array,
    lung: Array,
    spacing: tuple[float, float, float],
    centre: tuple[float, float, float],
    body: Field,
    look: Look,
    rng: np.random.Generator,
    *,
    reach_mm: float,
    extra: Field | None = None,
) -> Lesion | None:
    """Draw one lesion into `block` in place; None (and nothing drawn) when too little of it lies in lung.

    block    (z, y, x) HU on the scan's voxels;  lung: 0 to 1 on the same voxels
    body     what counts as the lesion;  extra: drawn with it but not counted (a feeding vessel, a pleural tag)
    reach_mm half side of the box that is touched
    """
    at, half = np.array(centre), reach_mm / np.array(spacing)
    low = np.maximum(0, np.floor(at - half)).astype(int)
    high = np.minimum(block.shape, np.ceil(at + half) + 1).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    base = block[box]
    if min(base.shape, default=0) < 3:
        return None
    sub = [max(1, int(np.ceil(s / 0.85))) for s in spacing]
    axes = [
        ((low[d] + (np.arange(base.shape[d] * sub[d]) + 0.5) / sub[d] - 0.5 - at[d]) * spacing[d]).astype(
            np.float32
        )
        for d in range(3)
    ]
    mm = np.stack(np.meshgrid(*axes, indexing="ij"))
    inner = body(mm)
    whole = inner - min(look.inset_mm, 0.25 * float(inner.max()))
    whole = whole if extra is None else np.maximum(whole, extra(mm))
    sigma = [
        b / (spacing[d] / sub[d]) for d, b in enumerate((look.blur_mm[0], look.blur_mm[1], look.blur_mm[1]))
    ]

    def to_voxels(fine: Array) -> Array:
        n = base.shape
        return fine.reshape(n[0], sub[0], n[1], sub[1], n[2], sub[2]).mean((1, 3, 5))

    alpha = to_voxels(ndi.gaussian_filter(np.clip(0.5 + whole / (2 * look.edge_mm), 0, 1), sigma))
    inside = to_voxels((inner > 0).astype(np.float32))
    volume = float(inside.sum() * np.prod(spacing))
    total = float(inside.sum())
    if volume < 8.0 or float((inside * (lung[box] > 0.5)).sum()) < 0.6 * total:
        return None
    if float((inside * base).sum()) > MOST_HU * total:
        return None  # in a vessel or in dense lung nobody could see it
    core = None
    if look.core_hu is not None:
        deep = max(float(inner.max()), 0.5)
        lean = np.tensordot(rng.normal(0, 0.35, 3).astype(np.float32), mm, 1)
        core = to_voxels(
            ndi.gaussian_filter(np.clip((inner - rng.uniform(0.3, 0.7) * deep + lean) / 2, 0, 1), sigma)
        )
    block[box] = _blend(base, lung[box], alpha, core, look, spacing, rng)
    weights = [
        np.average(np.arange(low[d], high[d]), weights=inside.sum(tuple(i for i in range(3) if i != d)))
        for d in range(3)
    ]
    return Lesion(
        (float(weights[0]), float(weights[1]), float(weights[2])),
        (6 * volume / np.pi) ** (1 / 3),
        look.texture,
    )


def _blend(
    base: Array,
    lung: Array,
    alpha: Array,
    core: Array | None,
    look: Look,
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
) -> Array:
    """Lesion over lung: denser voxels stay, noise is the place's own plus some of the same grain."""
    smooth_mm = rng.uniform(0.5, 0.9)
    slow = ndi.gaussian_filter(base, [0.3, smooth_mm / spacing[1], smooth_mm / spacing[2]])
    residue = base - slow
    quiet = np.abs(residue[slow < -700])
    noise = float(1.48 * np.median(quiet)) if quiet.size > 50 else 15.0
    wobble = ndi.gaussian_filter(rng.standard_normal(base.shape, np.float32), [1.5 / s for s in spacing])
    wobble *= (15.0 if look.texture == "solid" else 50.0) / max(float(wobble.std()), 1e-6)
    target = slow if look.level_hu is None else np.maximum(slow, look.level_hu + wobble)
    if core is not None and look.core_hu is not None:
        target = np.maximum(target, target * (1 - core) + (look.core_hu + wobble) * core)
    share = alpha * np.clip(lung * 1.5, 0, 1)
    grain = ndi.gaussian_filter(
        rng.standard_normal(base.shape, np.float32), [0.35, rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.9)]
    )
    grain *= noise * rng.uniform(0.5, 1.3) / max(float(grain.std()), 1e-6)
    is_vessel = np.clip((slow + 700) / 250, 0, 1)
    keep = 1 - share * (1 - is_vessel) * rng.uniform(0.2, 0.7)
    return (slow + share * (target - slow) + residue * keep + grain * share).astype(np.float32)


def transplant(block: Array, centre: tuple[int, int, int], piece: Array, share: Array) -> None:
    """Put real tissue `piece` (HU, on the block's spacing) into `block` in place, by a soft margin `share` (0 to 1)."""
    low = [c - n // 2 for c, n in zip(centre, piece.shape, strict=True)]
    here = tuple(
        slice(max(0, a), min(n, a + m)) for a, m, n in zip(low, piece.shape, block.shape, strict=True)
    )
    there = tuple(slice(h.start - a, h.stop - a) for h, a in zip(here, low, strict=True))
    block[here] += share[there] * (piece[there] - block[here])
