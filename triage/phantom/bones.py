"""Ribs, clavicles, shoulder blades, sternum, vertebrae and upper arms as curved bars round the cavity of an Anatomy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.phantom.anatomy import T1_Z, VERTEBRA_MM, Anatomy, anatomy_of
from triage.phantom.samples import Bar
from triage.phantom.thorax import LEFT, RIGHT, Body

Array = NDArray[Any]
Path = Sequence[Sequence[float]]

# Ribs 3 to 12: fall from head to front end (mm), where it ends round the chest (0 spine, 1 breast bone),
# half height of the section (mm).
_FALL = (60, 72, 80, 85, 88, 88, 84, 76, 56, 36)
_END = (0.93, 0.92, 0.90, 0.87, 0.84, 0.78, 0.71, 0.63, 0.46, 0.32)
_HALF_HEIGHT = (6.0, 6.0, 6.3, 6.5, 6.5, 6.5, 6.2, 6.0, 5.2, 4.5)

# Ribs 1 and 2 lie over the apex, where the cavity's sections are too small to lead them.
_RIB_1 = ((22, 46, 147), (42, 50, 149), (60, 34, 143), (66, 6, 130), (54, -24, 114), (30, -44, 102))
_RIB_2 = (
    (22, 54, 123),
    (50, 66, 126),
    (80, 52, 118),
    (95, 16, 102),
    (86, -26, 84),
    (54, -58, 72),
    (36, -66, 70),
)

_CLAVICLE = ((18, -50, 96), (58, -52, 106), (105, -26, 122), (150, 2, 129))
_GLENOID, _TIP, _MEDIAL = (150.0, 30, 98), (120.0, 84, -22), (100.0, 82, 110)
_BLADE = ((125, 64, 110), (124, 70, 70), (122, 78, 30), (120, 84, -20))
_RIDGE = ((104, 92, 98), (135, 84, 112), (168, 40, 130), (174, 8, 128))
_HUMERUS = (
    (174, 16, 122),
    (175, 16, 117),
    (178, 15, 100),
    (181, 13, 85),
    (188, 10, 60),
    (212, 4, -40),
    (238, 2, -180),
)
_HUMERUS_RADIUS = (8.0, 16.0, 22.0, 19.0, 13.0, 11.0, 11.0)
_STERNUM = ((0, -58, 100), (0, -64, 86), (0, -76, 56), (0, -86, 0), (0, -92, -60))


def _bar(
    points: Path,
    half_out: Sequence[float],
    half_wide: Sequence[float],
    shell_mm: float,
    outward: Sequence[float] = (0, 1, 0),
    scale: Array | float = 1.0,
) -> Bar:
    """A smooth bar through points; the half sizes are spread evenly along it."""
    knots = np.asarray(points, float) * scale
    gaps = np.linalg.norm(np.diff(knots, axis=0), axis=1)
    at = np.concatenate([[0], np.cumsum(gaps)]) / gaps.sum()
    t = np.linspace(0, 1, 48 if len(points) > 3 else 7)
    path = _curved(t, at, knots) if len(points) > 3 else _straight(t, at, knots)
    sizes = []
    for half in (half_out, half_wide):
        where = at if len(half) == len(at) else np.linspace(0, 1, len(half))
        sizes.append(np.interp(t, where, half))
    return Bar(path, np.tile(np.asarray(outward, float), (t.size, 1)), sizes[0], sizes[1], shell_mm)


def _curved(t: Array, at: Array, knots: Array) -> Array:
    """Cubic Hermite through the knots; scipy's splines cost a second of import."""
    slope = np.gradient(knots, at, axis=0)
    i = np.clip(np.searchsorted(at, t, side="right") - 1, 0, len(at) - 2)
    step = (at[i + 1] - at[i])[:, None]
    u = (t - at[i])[:, None] / step
    rise = knots[i + 1] - knots[i]
    bow = (1 - u) * (step * slope[i] - rise) + u * (rise - step * slope[i + 1])
    return np.asarray(knots[i] + u * rise + u * (1 - u) * bow)


def _straight(t: Array, at: Array, knots: Array) -> Array:
    return np.stack([np.interp(t, at, column) for column in knots.T], axis=1)


def _mirrored(points: Path, side: int) -> Path:
    return [(side * x, y, z) for x, y, z in points]


def _upper_rib(anatomy: Anatomy, side: int, points: Path) -> Bar:
    bar = _bar(_mirrored(points, side), [3.2], [5.0, 5.5, 6.0, 7.0], 0.9, scale=anatomy.scale)
    centre = np.array([side * 30.0, 0.0, 0.0]) * anatomy.scale
    outward = (bar.path - centre) * [1, 1, 0] + [0, 0, 25.0]  # the first ribs lie flat, like a lid
    return Bar(bar.path, outward, bar.half_out, bar.half_wide, bar.shell_mm)


def _rib(anatomy: Anatomy, side: int, i: int) -> Bar:
    """Rib i + 3, led round the cavity a little outside of it."""
    sx, _, sz = anatomy.scale
    t = np.linspace(0, 1, 72)
    z = (T1_Z - VERTEBRA_MM * (i + 2) + 6) * sz - _FALL[i] * sz * (0.30 * t + 0.70 * t**1.7)
    centre, width, y, depth = anatomy.cavity[LEFT].section(z)
    width, depth = width + 4.5, depth + 4.5
    first = -np.arcsin(np.clip((centre[0] - 24 * sx) / width[0], -0.9, 0.9))
    phi = first + t * _END[i] * (np.pi - 1.8 * first)
    s, c = np.sin(phi), np.cos(phi)
    bent = 2 / anatomy.cavity[LEFT].power
    x = centre + width * np.sign(s) * np.abs(s) ** bent
    y = y + depth * np.sign(c) * np.abs(c) ** bent
    outward = np.stack([side * s / width, c / depth, 0.12 / width], axis=1)
    thick = np.interp(t, [0, 0.1, 1], [3.2, 3.6, 2.8])
    high = _HALF_HEIGHT[i] * np.interp(t, [0, 0.12, 0.5, 0.9, 1], [0.75, 0.9, 0.95, 1.15, 1.2])
    return Bar(np.stack([side * x, y, z], axis=1), outward, thick, high, 0.9)


def _scapula(scale: Array, side: int) -> list[Bar]:
    """Blade, its thick lateral border, its medial border, spine with acromion."""
    middle = tuple((a + b) / 2 for a, b in zip(_GLENOID, _TIP, strict=True))
    edge = tuple((a + b) / 2 for a, b in zip(_MEDIAL, _TIP, strict=True))
    tilt = (side * 0.5, 1, 0)
    return [
        _bar(_mirrored(_BLADE, side), [1.2], [26.0, 21.0, 14.0, 4.0], 0.6, tilt, scale),
        _bar(_mirrored((_GLENOID, middle, _TIP), side), [4.5, 4.0, 3.0], [9.0, 3.6, 2.5], 1.2, scale=scale),
        _bar(_mirrored((_MEDIAL, edge, _TIP), side), [2.0], [1.6], 0.7, scale=scale),
        _bar(_mirrored(_RIDGE, side), [5.0], [2.5, 4.0, 6.0, 7.0], 1.2, scale=scale),
    ]


def _vertebra(anatomy: Anatomy, number: int) -> list[Bar]:
    """number 0 is T1, negative ones are of the neck: body, end plates, spinous process, pedicles, transverse processes."""
    pitch = 18.0 if number < 0 else VERTEBRA_MM
    z = (T1_Z - 3 - pitch * (number + (0.15 if number < 0 else 0))) * anatomy.scale[2]
    _, w, y, depth = (float(v) for v in anatomy.spine.section(np.asarray(z)))
    half, back = pitch * 0.39 * anatomy.scale[2], y + depth
    bars = [_bar(((0, y, z - half), (0, y, z), (0, y, z + half)), [depth], [w, w * 0.9, w], 1.1)]
    for plate in (z - half, z + half):
        bars.append(_bar(((0, y, plate - 0.3), (0, y, plate + 0.3)), [depth], [w], depth))
    spinous = ((0, back + 14, z - 2), (0, back + 24, z - 12), (0, back + 34, z - 22))
    bars.append(_bar(spinous, [2.2], [6.0], 1.0, (1, 0, 0)))
    for s in (LEFT, RIGHT):
        pedicle = ((s * w * 0.62, back - 2, z + 4), (s * w * 0.66, back + 14, z + 3))
        bars.append(_bar(pedicle, [3.0], [5.5], 1.2, (1, 0, 0)))
        transverse = (
            (s * w * 0.6, back + 13, z + 2),
            (s * w, back + 17, z + 4),
            (s * w * 1.85, back + 19, z + 6),
        )
        bars.append(_bar(transverse, [3.5], [5.0], 1.0))
    return bars


@lru_cache(maxsize=8)
def bones_of(body: Body) -> tuple[tuple[Bar, ...], tuple[Bar, ...]]:
    """(the skeleton of the trunk, the upper arms that only a film shows: for CT they lie above the head)."""
    anatomy = anatomy_of(body)
    scale = anatomy.scale
    trunk, arms = [], []
    for side in (LEFT, RIGHT):
        trunk += [_upper_rib(anatomy, side, points) for points in (_RIB_1, _RIB_2)]
        trunk += [_rib(anatomy, side, i) for i in range(10)]
        trunk.append(_bar(_mirrored(_CLAVICLE, side), [5.0], [8.0, 5.5, 5.0, 6.0, 7.0], 1.6, scale=scale))
        trunk += _scapula(scale, side)
        arms.append(_bar(_mirrored(_HUMERUS, side), _HUMERUS_RADIUS, _HUMERUS_RADIUS, 2.2, scale=scale))
    for number in range(-3, 17):
        trunk += _vertebra(anatomy, number)
    trunk.append(_bar(_STERNUM, [5.0], [22.0, 20.0, 13.0, 15.0, 8.0], 1.0, scale=scale))
    return tuple(trunk), tuple(arms)
