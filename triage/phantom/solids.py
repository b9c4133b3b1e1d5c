"""Shapes that a ray from front to back meets once: each gives the interval of y that it fills at (x, z).

The same interval is a path length for a radiograph and a run of voxels for a CT slice, so that both pictures show
one body. Frame: patient LPS, millimetres (x to the left, y to the back, z to the head).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32 while drawing, float64 while building
Interval = tuple[Array, Array]  # y from, y to; empty where from >= to
FAR = 1e4


def length(interval: Interval) -> Array:
    """Millimetres of y inside; 0 where empty."""
    return np.asarray(np.maximum(interval[1] - interval[0], 0))


def meet(one: Interval, other: Interval) -> Interval:
    return np.maximum(one[0], other[0]), np.minimum(one[1], other[1])


def covered(within: Interval, parts: Sequence[Interval]) -> Array:
    """Millimetres of `within` that the union of `parts` covers."""
    shape = within[0].shape
    lo, hi = np.empty((2, len(parts), *shape), np.float32)
    for i, part in enumerate(parts):
        np.maximum(within[0], part[0], out=lo[i])
        np.minimum(within[1], part[1], out=hi[i])
    lengths = np.maximum(hi - lo, 0)
    total = np.asarray(lengths.sum(axis=0))
    # Most rays meet one organ or none: only where two may overlap is there something to sort.
    crowded = np.nonzero((lengths > 0).sum(axis=0) > 1)
    total[crowded] = _union(lo[:, *crowded], hi[:, *crowded])
    return total


def _union(lo: Array, hi: Array) -> Array:
    """Length of the union of (parts, rays) intervals, ray by ray."""
    hi = np.maximum(hi, lo)  # an empty part has no length and hides nothing
    order = np.argsort(lo, axis=0)
    lo, hi = np.take_along_axis(lo, order, 0), np.take_along_axis(hi, order, 0)
    total = hi[0] - lo[0]
    reached = hi[0].copy()
    for start, end in zip(lo[1:], hi[1:], strict=True):
        total += np.maximum(end - np.maximum(start, reached), 0)
        np.maximum(reached, end, out=reached)
    return np.asarray(total)


@dataclass(frozen=True, eq=False)
class Loft:
    """Superelliptic sections stacked along z.

    knots   (n, 5) rows of z, x centre, x half width, y centre, y half depth; z rising
    power   2 is an ellipse, more is boxier; side -1 mirrors x (the right half of the body)
    """

    knots: Array
    power: float = 2.0
    side: int = 1

    def section(self, z: Array) -> tuple[Array, Array, Array, Array]:
        """x centre (of the left-sided shape), x half width, y centre, y half depth at z."""
        columns = [np.interp(z, self.knots[:, 0], self.knots[:, i]) for i in (1, 2, 3, 4)]
        return columns[0], columns[1], columns[2], columns[3]

    def interval(self, x: Array, z: Array) -> Interval:
        centre, width, y, depth = (v.astype(np.float32) for v in self.section(np.asarray(z)))
        u = np.abs(self.side * x - centre) / np.maximum(width, np.float32(1e-3))
        rest = np.maximum(1 - u**self.power, 0)
        half = depth * (np.sqrt(rest) if self.power == 2 else rest ** np.float32(1 / self.power))
        inside = (z >= self.knots[0, 0]) & (z <= self.knots[-1, 0])
        half = np.where(inside, half, np.float32(0))
        return y - half, y + half


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """centre (3,), radii (3,) and axes (3, 3), one unit vector a row."""

    centre: Array
    radii: Array
    axes: Array

    @property
    def _shape(self) -> Array:
        scaled = self.axes / self.radii[:, None]
        return np.asarray(scaled.T @ scaled)

    def half_extent(self) -> Array:
        """Half widths of the bounding box."""
        return np.asarray(np.sqrt(((self.axes * self.radii[:, None]) ** 2).sum(axis=0)))

    def interval(self, x: Array, z: Array) -> Interval:
        q = self._shape.astype(np.float32)
        dx, dz = x - np.float32(self.centre[0]), z - np.float32(self.centre[2])
        half_b = q[0, 1] * dx + q[1, 2] * dz
        c = q[0, 0] * dx**2 + 2 * q[0, 2] * dx * dz + q[2, 2] * dz**2 - 1
        root = np.sqrt(np.maximum(half_b**2 - q[1, 1] * c, 0))
        middle = np.float32(self.centre[1]) - half_b / q[1, 1]
        return middle - root / q[1, 1], middle + root / q[1, 1]


@dataclass(frozen=True, eq=False)
class Dome:
    """A half of the diaphragm with all below it: an ellipsoid's upper half on an endless floor."""

    top: Ellipsoid
    floor_z: float

    def interval(self, x: Array, z: Array) -> Interval:
        lo, hi = self.top.interval(x, z)
        below = np.broadcast_to(z < self.floor_z, lo.shape)
        return np.where(below, np.float32(-FAR), lo), np.where(below, np.float32(FAR), hi)


@dataclass(frozen=True, eq=False)
class Mound:
    """What rises from the front of a Loft: flat above, full below, as a breast hangs (x, z centre, radius, height)."""

    base: Loft
    x: float
    z: float
    radius: float
    height: float

    def interval(self, x: Array, z: Array) -> Interval:
        front, _ = self.base.interval(x, z)
        u, w = (x - np.float32(self.x)) / self.radius, (z - np.float32(self.z)) / self.radius
        w = np.where(w > 0, w * np.float32(0.55), w)  # reaches far up the chest
        rest = np.maximum(1 - u**2 - w**2, 0)
        # Linear at the upper rim, so that it fades in; round below, so that the fold shows.
        rise = np.where(w > 0, rest, np.sqrt(rest) * (1 - (1 - rest) * np.float32(0.3)))
        return front - np.float32(self.height) * rise, np.where(
            rest > 0, front + 1, front - np.float32(self.height)
        )


def ball(centre: Sequence[float], radii: Sequence[float] | Array | float) -> Ellipsoid:
    return Ellipsoid(
        np.asarray(centre, float), np.broadcast_to(np.asarray(radii, float), 3).copy(), np.eye(3)
    )


def turned(centre: Sequence[float], radii: Sequence[float], long_axis: Sequence[float]) -> Ellipsoid:
    """An ellipsoid whose first radius lies along long_axis."""
    first = np.asarray(long_axis, float) / np.linalg.norm(long_axis)
    second = np.cross([0.0, 0.0, 1.0], first)
    second /= np.linalg.norm(second)
    axes = np.stack([first, second, np.cross(first, second)])
    return Ellipsoid(np.asarray(centre, float), np.asarray(radii, float), axes)
