"""Thin things (bones, vessels, bronchi) as weighted points: summed into pixels they are path lengths, into voxels parts.

A point's weight is the volume in mm3 that it stands for, so that the sum over a column of pixels is exact whatever the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Segments:
    """Straight round tubes: start and end (n, 3) mm, radius (n,) mm."""

    start: Array
    end: Array
    radius: Array


@dataclass(frozen=True, eq=False)
class Bar:
    """One curved bone: a path (n, 3), the outward normal at each point (n, 3) and the two half sizes of its section.

    half_out along the normal, half_wide across it, (n,) each; shell_mm is the thickness of the cortex.
    """

    path: Array
    outward: Array
    half_out: Array
    half_wide: Array
    shell_mm: float = 1.0


def _disc(count: int) -> Array:
    """count points spread evenly over the unit disc (sunflower)."""
    i = np.arange(count) + 0.5
    r, angle = np.sqrt(i / count), i * np.pi * (3 - np.sqrt(5))
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)


def tube_points(tubes: Segments, step_mm: float) -> tuple[Array, Array]:
    """Points (n, 3) and weights (n,) mm3 that fill the tubes about every step_mm."""
    along = tubes.end - tubes.start
    reach = np.linalg.norm(along, axis=1)
    direction = along / np.maximum(reach, 1e-6)[:, None]
    helper = np.where(np.abs(direction[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    first = np.cross(direction, helper)
    first /= np.maximum(np.linalg.norm(first, axis=1), 1e-9)[:, None]
    second = np.cross(direction, first)
    wanted = np.pi * tubes.radius**2 / step_mm**2
    level = np.clip(np.ceil(np.log2(np.maximum(wanted, 1)) / 0.75), 0, 18).astype(int)
    points, weights = [], []
    for lev in np.unique(level):
        disc = _disc(round(2 ** (0.75 * lev)))
        chosen = np.flatnonzero(level == lev)
        steps = np.maximum(np.ceil(reach[chosen] / step_mm), 1).astype(int)
        who = np.repeat(chosen, steps)
        turn = np.arange(who.size) - np.repeat(np.cumsum(steps) - steps, steps) + 0.5
        t = turn / np.repeat(steps, steps)
        spot = tubes.start[who] + t[:, None] * along[who]
        off = tubes.radius[who, None, None] * (
            disc[None, :, :1] * first[who, None, :] + disc[None, :, 1:] * second[who, None, :]
        )
        points.append((spot[:, None, :] + off).reshape(-1, 3))
        volume = np.pi * tubes.radius[who] ** 2 * reach[who] / np.repeat(steps, steps) / len(disc)
        weights.append(np.repeat(volume, len(disc)))
    return np.concatenate(points), np.concatenate(weights)


def _resample(bar: Bar, step_mm: float) -> tuple[Array, Array, Array, Array, float]:
    gaps = np.linalg.norm(np.diff(bar.path, axis=0), axis=1)
    at = np.concatenate([[0], np.cumsum(gaps)])
    count = max(int(at[-1] / step_mm), 2)
    s = (np.arange(count) + 0.5) * at[-1] / count

    def pick(values: Array) -> Array:
        return np.stack([np.interp(s, at, column) for column in values.T], axis=1)

    path, normal = pick(bar.path), pick(bar.outward)
    normal /= np.linalg.norm(normal, axis=1)[:, None]
    half_out, half_wide = np.interp(s, at, bar.half_out), np.interp(s, at, bar.half_wide)
    fine = [a.astype(np.float32) for a in (path, normal, half_out, half_wide)]
    return fine[0], fine[1], fine[2], fine[3], float(at[-1] / count)


def _section(count: int) -> tuple[Array, Array]:
    """cos and sin of count angles round a section."""
    angle = ((np.arange(count) + 0.5) * 2 * np.pi / count).astype(np.float32)
    return np.cos(angle), np.sin(angle)


def bar_points(bar: Bar, step_mm: float) -> tuple[Array, Array, Array]:
    """Points (n, 3), weights (n,) mm3 and cortex flags (n,) of one bone: a dense skin around a loose core.

    The core is sampled at twice the step: it is smooth, and most of the points would be its.
    """
    path, normal, half_out, half_wide, ds = _resample(bar, step_mm)
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1)[:, None]
    across = _cross(tangent, normal)
    around = max(int(2.3 * (half_out.max() + half_wide.max()) / step_mm), 8)
    layers = max(round(bar.shell_mm / step_mm / 1.5), 1)
    u, v = _section(around)
    parts, weights = [], []
    for depth in (np.arange(layers) + 0.5) * bar.shell_mm / layers:
        a, b = np.maximum(half_out - depth, 0.0), np.maximum(half_wide - depth, 0.0)
        parts.append(_placed(path, normal, across, a[:, None] * u, b[:, None] * v))
        arc = np.hypot(a[:, None] * v, b[:, None] * u) * (2 * np.pi / around)
        weights.append((arc * bar.shell_mm / layers * ds).ravel())
    shell_size = sum(w.size for w in weights)
    a, b = np.maximum(half_out - bar.shell_mm, 0.1), np.maximum(half_wide - bar.shell_mm, 0.1)
    every = slice(None, None, 2)
    count = max(int(np.pi * a.mean() * b.mean() / (2 * step_mm) ** 2), 6)
    # At random, because any lattice makes a moire on the film; the seed is the bone's own.
    radius, angle = np.random.default_rng(count).random((2, a[every].size, count), dtype=np.float32)
    core_u = a[every, None] * np.sqrt(radius) * np.cos(2 * np.pi * angle)
    core_v = b[every, None] * np.sqrt(radius) * np.sin(2 * np.pi * angle)
    parts.append(_placed(path[every], normal[every], across[every], core_u, core_v))
    volume = (
        np.pi * (a * b).sum() * ds / core_u.size * a[every, None] * b[every, None] / (a * b)[every].mean()
    )
    weights.append(np.broadcast_to(volume, core_u.shape).ravel())
    total = np.concatenate(weights)
    return np.concatenate(parts), total, np.arange(total.size) < shell_size


def _placed(path: Array, normal: Array, across: Array, u: Array, v: Array) -> Array:
    """(n * k, 3) points at path + u normal + v across, for (n, k) u and v."""
    placed = np.empty((*u.shape, 3), u.dtype)
    for i in range(3):
        placed[..., i] = path[:, i, None] + u * normal[:, i, None] + v * across[:, i, None]
    return placed.reshape(-1, 3)


def _cross(a: Array, b: Array) -> Array:
    """Row by row; numpy's own is slow for many small arrays."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)
