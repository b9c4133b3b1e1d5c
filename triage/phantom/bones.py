"""Ribs, clavicles, shoulder blades, sternum, vertebrae and upper arms as curved bars round the cavity of an Anatomy."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.phantom.anatomy import T1_Z, VERTEBRA_MM, Anatomy, anatomy_of
from triage.phantom.samples import Bar
from triage.phantom.thorax import LEFT, RIGHT, Body

Array = NDArray[Any]

# Rib by rib (1 to 12): fall from head to front end (mm), where it ends round the chest (0 spine, 1 breast bone),
# half height of the section (mm).
_FALL = (26, 44, 62, 74, 82, 86, 88, 88, 84, 76, 56, 36)
_END = (0.86, 0.92, 0.93, 0.92, 0.90, 0.87, 0.84, 0.78, 0.71, 0.63, 0.46, 0.32)
_HALF_HEIGHT = (5.5, 5.5, 6.0, 6.0, 6.3, 6.5, 6.5, 6.5, 6.2, 6.0, 5.2, 4.5)


def _rib(anatomy: Anatomy, side: int, number: int) -> Bar:
    sx, _, sz = anatomy.scale
    fall, end = _FALL[number] * sz, _END[number]
    t = np.linspace(0, 1, 72)
    z = (T1_Z - VERTEBRA_MM * number + 6) * sz - fall * (0.30 * t + 0.70 * t**1.7)
    centre, width, y, depth = anatomy.cavity[LEFT].section(np.minimum(z, 128 * sz))
    width, depth = np.maximum(width, 24 * sx) + 4.5, np.maximum(depth, 26) + 4.5
    first = -np.arcsin(np.clip((centre[0] - 24 * sx) / width[0], -0.9, 0.9))
    phi = first + t * end * (np.pi - 2 * first * 0.9)
    s, c = np.sin(phi), np.cos(phi)
    p = 2 / 2.4
    x = centre + width * np.sign(s) * np.abs(s) ** p
    y = y + depth * np.sign(c) * np.abs(c) ** p
    path = np.stack([side * x, y, z], axis=1)
    outward = np.stack([side * s / width, c / depth, 0.12 / width], axis=1)
    outward /= np.linalg.norm(outward, axis=1)[:, None]
    thick = np.interp(t, [0, 0.1, 1], [3.2, 3.6, 2.8])
    high = _HALF_HEIGHT[number] * np.interp(t, [0, 0.12, 0.5, 0.9, 1], [0.75, 0.9, 0.95, 1.15, 1.2])
    return Bar(path, outward, thick, high, 0.9)


def _bar(
    points: Array, outward: Array, half_out: float, half_wide: float | Array, shell: float, scale: Array
) -> Bar:
    points = np.asarray(points, float) * scale
    t = np.linspace(0, 1, 40)
    knots = np.linspace(0, 1, len(points))
    smooth = np.stack([_smooth(t, knots, column) for column in points.T], axis=1)
    wide = np.interp(t, np.linspace(0, 1, np.size(half_wide)), np.atleast_1d(half_wide))
    return Bar(
        smooth, np.tile(np.asarray(outward, float), (40, 1)), np.full(40, float(half_out)), wide, shell
    )


def _smooth(t: Array, knots: Array, values: Array) -> Array:
    degree = min(len(values) - 1, 3)
    return np.asarray(np.polyval(np.polyfit(knots, values, degree), t))


def _clavicle(scale: Array, side: int) -> Bar:
    p = np.array([[20, -46, 100], [60, -46, 108], [105, -22, 122], [152, 0, 128]]) * [side, 1, 1]
    return _bar(p, [0, 1, 0], 5.0, np.array([8.0, 5.5, 5.0, 6.0, 7.0]), 1.6, scale)


def _scapula(scale: Array, side: int) -> list[Bar]:
    """Blade as one thin tapering bar from the upper border to the tip, with its thick lateral border, spine and acromion."""
    m = np.array([side, 1, 1])
    glenoid, tip = np.array([150.0, 30, 100]), np.array([124.0, 84, -18])
    medial = np.array([104.0, 84, 112])
    blade = _bar(
        np.stack([(glenoid + medial) / 2 + [0, 0, 8], (glenoid + medial) / 4 + tip / 2, tip]) * m,
        [side * 0.7, 1, 0], 1.3, np.array([34.0, 24.0, 13.0, 4.0]), 0.6, scale,
    )  # fmt: skip
    lateral = _bar(
        np.stack([glenoid, (glenoid + tip) / 2 + [4, 0, 4], tip]) * m,
        [0, 1, 0],
        4.5,
        np.array([7.0, 3.6, 3.0]),
        1.2,
        scale,
    )
    edge = _bar(np.stack([medial, (medial + tip) / 2 - [3, 0, 0], tip]) * m, [0, 1, 0], 2.0, 1.8, 0.8, scale)
    ridge = _bar(
        np.array([[106, 92, 100], [135, 84, 114], [168, 40, 130], [172, 8, 128]]) * m,
        [0, 1, 0],
        5.0,
        np.array([2.5, 4.0, 6.0, 7.0]),
        1.2,
        scale,
    )
    return [blade, lateral, edge, ridge]


def _arm(scale: Array, side: int) -> list[Bar]:
    m = np.array([side, 1, 1])
    head = _bar(
        np.array([[158, 18, 112], [172, 16, 104], [184, 14, 90]]) * m,
        [0, 1, 0],
        20,
        np.array([12.0, 22.0, 21.0, 15.0]),
        1.2,
        scale,
    )
    shaft = _bar(
        np.array([[180, 14, 94], [196, 8, 40], [212, 4, -40], [236, 2, -180]]) * m,
        [0, 1, 0],
        11,
        np.array([14.0, 11.5, 11.0, 11.0]),
        3.5,
        scale,
    )
    return [head, shaft]


def _vertebra(anatomy: Anatomy, number: int) -> list[Bar]:
    """number 0 is T1, negative ones are of the neck; body, spinous process, pedicles and transverse processes."""
    sz = anatomy.scale[2]
    pitch = VERTEBRA_MM * (1.0 + 0.012 * (number - 5)) if number >= 0 else 18.0
    z = (T1_Z - VERTEBRA_MM * number if number >= 0 else T1_Z + 6 - 18.0 * number) * sz
    _, (width,), (y,), (depth,) = (np.atleast_1d(v) for v in anatomy.spine.section(np.asarray(z)))
    half = pitch * 0.39 * sz
    one = np.ones(3)
    bars = [
        _bar(
            np.array([[0, y, z - half], [0, y, z], [0, y, z + half]]),
            [0, 1, 0],
            depth,
            np.array([width, width * 0.9, width]),
            1.3,
            one,
        )
    ]
    plates = [z - half, z + half]
    bars += [
        _bar(np.array([[0, y, p - 0.9], [0, y, p], [0, y, p + 0.9]]), [0, 1, 0], depth, width, 6.0, one)
        for p in plates
    ]
    back = y + depth
    bars.append(
        _bar(
            np.array([[0, back + 14, z - 2], [0, back + 24, z - 12], [0, back + 34, z - 22]]),
            [1, 0, 0],
            2.6,
            6.0,
            1.2,
            one,
        )
    )
    for side in (LEFT, RIGHT):
        bars.append(
            _bar(
                np.array(
                    [
                        [side * width * 0.62, back - 2, z + 4],
                        [side * width * 0.64, back + 6, z + 4],
                        [side * width * 0.66, back + 14, z + 3],
                    ]
                ),
                [1, 0, 0],
                3.2,
                5.5,
                1.6,
                one,
            )
        )
        bars.append(
            _bar(
                np.array(
                    [
                        [side * width * 0.6, back + 13, z + 2],
                        [side * width, back + 17, z + 4],
                        [side * width * 1.85, back + 19, z + 6],
                    ]
                ),
                [0, 1, 0],
                3.5,
                5.0,
                1.1,
                one,
            )
        )
    return bars


@lru_cache(maxsize=8)
def bones_of(body: Body) -> tuple[tuple[Bar, ...], tuple[Bar, ...]]:
    """(the skeleton of the trunk, the upper arms that only a film shows: for CT they lie above the head)."""
    anatomy = anatomy_of(body)
    trunk: list[Bar] = []
    arms: list[Bar] = []
    for side in (LEFT, RIGHT):
        trunk += [_rib(anatomy, side, number) for number in range(12)]
        trunk.append(_clavicle(anatomy.scale, side))
        trunk += _scapula(anatomy.scale, side)
        arms += _arm(anatomy.scale, side)
    for number in range(-6, 14):
        trunk += _vertebra(anatomy, number)
    front = np.array([[0, -58, 98], [0, -74, 60], [0, -86, 0], [0, -92, -60]])
    trunk.append(_bar(front, [0, 1, 0], 5.0, np.array([22.0, 15.0, 15.0, 17.0, 8.0]), 1.0, anatomy.scale))
    return tuple(trunk), tuple(arms)
