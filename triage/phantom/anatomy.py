"""The organs of one Body as solids. Measures of the mean adult, in mm, then scaled; the shapes are ours.

Frame: LPS, origin between the hila. Apex of the lungs near z = 140, domes of the diaphragm near -90.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.phantom.solids import Dome, Ellipsoid, Interval, Loft, Mound, ball, meet, turned
from triage.phantom.thorax import LEFT, RIGHT, Body

Array = NDArray[Any]
Solid = Loft | Ellipsoid | Dome
HILUM = {RIGHT: np.array([-34.0, 12.0, 2.0]), LEFT: np.array([36.0, 16.0, 12.0])}
VERTEBRA_MM = 24.0  # mean height of a thoracic vertebra with its disc
T1_Z = 142.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """All solids of a body. cavity: what the ribs enclose, one a side; organs: what is not lung inside of it."""

    scale: Array
    torso: Loft
    muscle: Loft
    arms: tuple[Loft, Loft]
    breasts: tuple[Mound, ...]
    cavity: dict[int, Loft]
    heart: tuple[Ellipsoid, ...]
    vessels: tuple[Loft | Ellipsoid, ...]  # great vessels
    mediastinum: Loft
    spine: Loft
    domes: dict[int, Dome]
    trachea: Loft
    stomach_air: Ellipsoid

    def organs(self, side: int) -> tuple[Solid, ...]:
        """Everything that takes room from the lung of this side."""
        return (self.mediastinum, self.spine, *self.heart, *self.vessels, self.domes[side])

    def cavity_interval(self, side: int, x: Array, z: Array) -> Interval:
        """The half of the chest on this side; empty beyond the midline."""
        lo, hi = self.cavity[side].interval(x, z)
        return lo, np.where(side * x > 0, hi, lo)

    def is_lung(self, points: Array, side: int, margin_mm: float = 0.0) -> Array:
        """For (n, 3) points: inside the lung of that side, and margin_mm from what is not lung (probed on six sides)."""
        probes = np.concatenate([np.zeros((1, 3)), margin_mm * np.eye(3), -margin_mm * np.eye(3)])
        if margin_mm == 0:
            probes = probes[:1]
        good = np.ones(len(points), bool)
        for probe in probes:
            x, y, z = (points + probe).T
            lo, hi = self.cavity_interval(side, x, z)
            good &= (y > lo) & (y < hi)
            for organ in self.organs(side):
                a, b = organ.interval(x, z)
                good &= ~((y >= a) & (y <= b) & (b > a))
        return good

    def cardiothoracic_ratio(self) -> float:
        """Widest heart over widest inner chest, as measured on a frontal film."""
        right = min(h.centre[0] - h.half_extent()[0] for h in self.heart)
        left = max(h.centre[0] + h.half_extent()[0] for h in self.heart)
        knots = self.cavity[LEFT].knots
        seen = knots[knots[:, 0] > -140 * self.scale[2]]
        return float((left - right) / (2 * (seen[:, 1] + seen[:, 2]).max()))


def _loft(scale: Array, rows: Array, power: float = 2.0, side: int = 1) -> Loft:
    """rows (n, 5) of mean measures: z, x centre, half width, y centre, half depth; any z order."""
    rows = np.asarray(rows, float)
    rows = rows[np.argsort(rows[:, 0])]
    factors = np.array([scale[2], scale[0], scale[0], scale[1], scale[1]])
    return Loft(rows * factors, power, side)


def _cavity_rows() -> Array:
    depth = np.concatenate([[0, 0.4, 1, 2, 3.5], np.arange(5, 345, 5)])  # below the apex
    z = 140 - depth
    dome = 1 - (1 - np.minimum(depth / 170, 1)) ** 2.2
    outer = 50 + 84 * dome**0.62 - 0.06 * np.maximum(depth - 260, 0)
    inner = 50 - 72 * (1 - (1 - np.minimum(depth / 120, 1)) ** 2) ** 0.6
    half_depth = 88 * (1 - (1 - np.minimum(depth / 190, 1)) ** 2) ** 0.55
    y = 30 * (1 - np.minimum(depth / 150, 1)) - 2
    return np.stack([z, (inner + outer) / 2, (outer - inner) / 2, y, half_depth], axis=1)


def _grown(loft: Loft, by_mm: float) -> Loft:
    return Loft(loft.knots + np.array([0, 0, by_mm, 0, by_mm]), loft.power, loft.side)


def _heart(scale: Array, size: float, breath: float) -> tuple[Ellipsoid, ...]:
    sx, sy, sz = scale
    low = breath * 0.5
    left = turned(
        (20 * sx * size**1.3, -25 * sy, -66 * sz - 10 * (size - 1) + low),
        np.array([70.0, 43.0, 46.0]) * size * (sx * sy * sz) ** (1 / 3),
        (0.70, -0.34, -0.64),
    )
    right = ball((-13 * sx * size, -10 * sy, -58 * sz + low), (31 * sx * size, 42 * sy, 56 * sz * size**0.3))
    trunk = ball((19 * sx, -18 * sy, 8 * sz), (25 * sx, 26 * sy, 36 * sz))
    return left, right, trunk


@lru_cache(maxsize=8)
def anatomy_of(body: Body) -> Anatomy:
    """Build (or recall) the solids of a body; pure, some milliseconds."""
    scale = np.array(body.scale)
    sx, sy, sz = body.scale
    fat = body.fat_mm
    muscle = _loft(
        scale,
        np.array(
            [
                [-330, 0, 142, 0, 100], [-200, 0, 145, 0, 104], [-100, 0, 149, 0, 107], [-20, 0, 156, 0, 108],
                [40, 0, 164, 2, 104], [80, 0, 172, 6, 96], [105, 0, 178, 10, 84], [125, 0, 172, 14, 70],
                [140, 0, 148, 16, 60], [155, 0, 108, 18, 54], [172, 0, 70, 18, 50], [192, 0, 60, 16, 52],
                [330, 0, 58, 6, 60],
            ]
        ),
        2.4,
    )  # fmt: skip
    torso = _grown(muscle, fat + 2.0)
    # Film posture: shoulders rolled forward, hands on the hips.
    arm = np.array([[-330, 262, 40, 0, 40], [-150, 236, 46, 2, 46], [0, 214, 50, 2, 50], [90, 192, 50, 4, 54],
                    [118, 176, 50, 6, 50], [136, 160, 40, 8, 40], [146, 152, 16, 8, 16]], float)  # fmt: skip
    arm[:, [2, 4]] += fat * 0.6
    domes = {
        RIGHT: _dome(scale, RIGHT, 66, -152, 64 + body.domes_mm[0]),
        LEFT: _dome(scale, LEFT, 70, -156, 56 + body.domes_mm[1]),
    }
    breasts = tuple(
        Mound(torso, side * 72 * sx, -72 * sz, body.breast_mm * 1.25, body.breast_mm)
        for side in (LEFT, RIGHT)
        if body.breast_mm > 0
    )
    cavity = {side: _loft(scale, _cavity_rows(), 2.4, side) for side in (LEFT, RIGHT)}
    mediastinum = np.array([[-330, 0, 34, -4, 80], [-120, 0, 31, -4, 78], [0, 0, 27, -2, 74],
                            [50, 0, 25, 2, 66], [90, 0, 27, 10, 52], [120, 0, 30, 16, 42], [150, 0, 34, 18, 38],
                            [210, 0, 28, 14, 30]])  # fmt: skip
    spine = np.array([[-330, 0, 24, 62, 20], [-150, 0, 21, 68, 19], [0, 0, 17, 72, 17], [100, 0, 16, 58, 15],
                      [150, 0, 15, 44, 13], [330, 0, 13, 28, 12]])  # fmt: skip
    return Anatomy(
        scale=scale,
        torso=torso,
        muscle=muscle,
        arms=(_loft(scale, arm, 2.0, LEFT), _loft(scale, arm, 2.0, RIGHT)),
        breasts=breasts,
        cavity=cavity,
        heart=_heart(scale, body.heart_scale, sum(body.domes_mm) / 2),
        vessels=_great_vessels(scale),
        mediastinum=_loft(scale, mediastinum, 2.7),
        spine=_loft(scale, spine, 2.4),
        domes=domes,
        trachea=_loft(
            scale,
            np.array([[42, 0, 12, 16, 7], [60, 0, 10, 14, 10], [120, -1, 10, 8, 10], [260, 0, 10, -6, 10]]),
        ),
        stomach_air=ball((64 * sx, -12 * sy, (-124 + body.domes_mm[1]) * sz), (24 * sx, 26 * sy, 11 * sz)),
    )


def _dome(scale: Array, side: int, x: float, floor: float, height: float) -> Dome:
    sx, sy, sz = scale
    radii = np.array([76 * sx, 98 * sy, height * sz])
    return Dome(ball((side * x * sx, -8 * sy, floor * sz), radii), floor * sz)


def _great_vessels(scale: Array) -> tuple[Loft | Ellipsoid, ...]:
    sx, sy, sz = scale
    descending = np.array(
        [
            [-330, 6, 11, 48, 11],
            [-60, 12, 12, 50, 12],
            [30, 21, 12, 46, 12],
            [62, 22, 12, 40, 12],
            [76, 20, 5, 36, 5],
        ]
    )
    ascending = np.array(
        [[-20, -8, 17, -22, 16], [36, -16, 18, -26, 17], [66, -12, 16, -20, 16], [76, -8, 8, -16, 8]]
    )
    cava = np.array(
        [[-20, -24, 14, -6, 13], [60, -25, 10, -10, 11], [110, -26, 9, -8, 9], [150, -32, 9, 0, 9]]
    )
    left_neck = np.array([[58, 20, 11, 14, 13], [100, 23, 9, 14, 10], [150, 32, 8, 10, 8]])
    arch = turned((15 * sx, 12 * sy, 60 * sz), np.array([46.0, 17.0, 20.0]) * sx, (0.47, 0.88, 0.0))
    return (
        _loft(scale, descending),
        _loft(scale, ascending),
        _loft(scale, cava),
        _loft(scale, left_neck),
        arch,
    )


def lung_of(anatomy: Anatomy, side: int, x: Array, z: Array, keeps: tuple[float, float, float]) -> Interval:
    """A collapsed lung: the cavity shrunk towards hilum, back and base. keeps is the part left along x, y, z."""
    kx, ky, kz = (np.float32(k) for k in keeps)
    root = collapse_root(anatomy, side).astype(np.float32)
    wide_x, wide_z = root[0] + (x - root[0]) / kx, root[2] + (z - root[2]) / kz
    lo, hi = anatomy.cavity[side].interval(wide_x, wide_z)
    lo, hi = root[1] + (lo - root[1]) * ky, root[1] + (hi - root[1]) * ky
    return meet((lo, hi), anatomy.cavity_interval(side, x, z))


def collapse_root(anatomy: Anatomy, side: int) -> Array:
    """The point (x, y, z) towards which a lung collapses."""
    return np.asarray(np.array([side * 30.0, 40.0, -150.0]) * anatomy.scale)
