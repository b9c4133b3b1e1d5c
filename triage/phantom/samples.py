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
        disc = _disc(int(round(2 ** (0.75 * lev))))
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
    return path, normal, np.interp(s, at, bar.half_out), np.interp(s, at, bar.half_wide), at[-1] / count


def bar_points(bar: Bar, step_mm: float) -> tuple[Array, Array, Array]:
    """Points (n, 3), weights (n,) mm3 and cortex flags (n,) of one bone: a dense skin around a loose core."""
    path, normal, half_out, half_wide, ds = _resample(bar, step_mm)
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1)[:, None]
    across = np.cross(tangent, normal)
    around = max(int(2.6 * (half_out.max() + half_wide.max()) / step_mm), 8)
    angle = (np.arange(around) + 0.5) * 2 * np.pi / around
    layers = max(int(np.ceil(bar.shell_mm / step_mm)), 1)
    depth = (np.arange(layers) + 0.5) * bar.shell_mm / layers
    u = np.concatenate([np.cos(angle)] * layers)
    v = np.concatenate([np.sin(angle)] * layers)
    inset = np.repeat(depth, around)
    shell = (
        path[:, None]
        + (np.maximum(half_out[:, None] - inset, 0.3) * u)[..., None] * normal[:, None]
        + (np.maximum(half_wide[:, None] - inset, 0.3) * v)[..., None] * across[:, None]
    )
    arc = np.hypot(half_out[:, None] * v, half_wide[:, None] * u) * (2 * np.pi / around)
    shell_weight = arc * bar.shell_mm / layers * ds
    core_out, core_wide = np.maximum(half_out - bar.shell_mm, 0.2), np.maximum(half_wide - bar.shell_mm, 0.2)
    disc = _disc(max(int(np.pi * core_out.mean() * core_wide.mean() / step_mm**2), 6))
    core = (
        path[:, None]
        + (core_out[:, None] * disc[:, 0])[..., None] * normal[:, None]
        + (core_wide[:, None] * disc[:, 1])[..., None] * across[:, None]
    )
    core_weight = np.repeat((np.pi * core_out * core_wide * ds / len(disc))[:, None], len(disc), axis=1)
    points = np.concatenate([shell.reshape(-1, 3), core.reshape(-1, 3)])
    weights = np.concatenate([shell_weight.ravel(), core_weight.ravel()])
    return points, weights, np.arange(len(weights)) < shell_weight.size
