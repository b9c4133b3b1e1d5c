"""The branching trees of a lung: each new twig grows from the nearest branch towards a random point of the lung.

Radii follow Murray's rule from the twigs down, so that hila are thick and the rim is bare.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.phantom.anatomy import HILUM, Anatomy, anatomy_of, collapse_root
from triage.phantom.samples import Segments
from triage.phantom.thorax import LEFT, RIGHT, Body, Thorax

Array = NDArray[Any]

TWIGS = 520  # per tree; two trees (artery, vein) a lung
TWIG_RADIUS_MM = 0.52
MURRAY_POWER = 2.6  # 3 in theory; smaller makes the branches near the hila as thick as real ones
STEP_MM, MAX_STEPS = 7.0, 30
# The great arteries of each hilum: path points with radius, mean adult mm.
_HILAR = {
    RIGHT: (((-8, 0, 14, 10), (-34, 10, 8, 9), (-48, 16, -8, 8), (-56, 24, -40, 5)),
           ((-30, 8, 12, 7), (-46, 4, 34, 5), (-54, 2, 54, 3))),
    LEFT: (((14, 4, 24, 11), (36, 18, 24, 10), (50, 28, 8, 8), (58, 36, -30, 5)),
           ((40, 16, 26, 6), (52, 8, 46, 4), (58, 4, 64, 3))),
}  # fmt: skip
RIM_MM = 4.0  # no vessel is seen in the outermost lung


def points_in_lung(
    anatomy: Anatomy, side: int, count: int, rng: np.random.Generator, margin_mm: float
) -> Array:
    """count random points (n, 3) in a healthy lung, margin_mm from its wall."""
    low = np.array([8.0, -100.0, -150.0]) * anatomy.scale
    high = np.array([140.0, 100.0, 142.0]) * anatomy.scale
    found: list[Array] = []
    for _ in range(40):
        trial = rng.uniform(low, high, (4 * count, 3)) * [side, 1, 1]
        found.append(trial[anatomy.is_lung(trial, side, margin_mm)])
        if sum(len(f) for f in found) >= count:
            break
    return np.concatenate(found)[:count]


def _grow(root: Array, targets: Array) -> tuple[Array, Array]:
    """Nodes (n, 3) and the parent of each (n,); node 0 is the root, a parent comes before its children."""
    order = np.argsort(np.linalg.norm(targets - root, axis=1))
    capacity = MAX_STEPS * len(targets) + 1
    nodes, parents = np.empty((capacity, 3)), np.full(capacity, -1)
    reach = np.zeros(capacity)  # of each node from the root
    nodes[0], used = root, 1
    for target in targets[order]:
        gap = target - nodes[:used]
        distance = np.sqrt(np.einsum("ij,ij->i", gap, gap))
        forwards = np.einsum("ij,ij->i", gap, nodes[:used] - root) / np.maximum(distance * reach[:used], 1e-6)
        parent = int(np.argmin(distance * (1.5 - 0.8 * forwards)))  # a twig leaves its branch forwards
        steps = int(np.clip(distance[parent] / STEP_MM, 1, MAX_STEPS))
        f = np.arange(1, steps + 1)[:, None] / steps
        (gx, gy, gz), end = gap[parent], used + steps
        bend = np.array([gy * 0.8 - gz * 0.5, gz * 0.3 - gx * 0.8, gx * 0.5 - gy * 0.3]) * 0.09
        nodes[used:end] = target - gap[parent] * (1 - f) + bend * np.sin(np.pi * f)
        parents[used:end] = np.arange(used - 1, end - 1)
        parents[used] = parent
        reach[used:end] = np.linalg.norm(nodes[used:end] - root, axis=1)
        used = end
    return nodes[:used], parents[:used]


def _radii(parents: Array) -> Array:
    flow = np.zeros(len(parents))
    leaf = np.ones(len(parents), bool)
    leaf[parents[1:]] = False
    flow[leaf] = TWIG_RADIUS_MM**MURRAY_POWER
    for node in range(len(parents) - 1, 0, -1):
        flow[parents[node]] += flow[node]
    return np.asarray(flow ** (1 / MURRAY_POWER))


@lru_cache(maxsize=4)
def _healthy_tree(body: Body, seed: int, side: int) -> Segments:
    anatomy = anatomy_of(body)
    rng = np.random.default_rng([seed, 31, side + 1])
    starts, ends, radii = [], [], []
    for z_shift in (6.0, -16.0):  # artery above, veins below
        root = HILUM[side] * anatomy.scale + [0, -z_shift * 0.4, z_shift]
        nodes, parents = _grow(root, points_in_lung(anatomy, side, TWIGS, rng, RIM_MM))
        radius = _radii(parents)
        starts.append(nodes[parents[1:]])
        ends.append(nodes[1:])
        radii.append(radius[1:])
    for line in _HILAR[side]:
        knots = np.array(line, float)
        t = np.linspace(0, len(knots) - 1, 24)
        fine = np.stack([np.interp(t, np.arange(len(knots)), c) for c in knots.T], axis=1)
        fine[:, :3] *= anatomy.scale
        starts.append(fine[:-1, :3])
        ends.append(fine[1:, :3])
        radii.append(fine[1:, 3])
    return Segments(np.concatenate(starts), np.concatenate(ends), np.concatenate(radii))


def vessels_of(thorax: Thorax, side: int) -> Segments:
    """Vessels of one lung; where the lung has collapsed they went with it."""
    tree = _healthy_tree(thorax.body, thorax.seed, side)
    return Segments(_with_lung(tree.start, thorax, side), _with_lung(tree.end, thorax, side), tree.radius)


def _with_lung(points: Array, thorax: Thorax, side: int) -> Array:
    """Where points (n, 3) of this lung are after a collapse."""
    air = thorax.pneumothorax
    if air is None or air.side != side:
        return points
    root = collapse_root(anatomy_of(thorax.body), side)
    return np.asarray(root + (points - root) * air.keeps)


def bronchi_of(thorax: Thorax) -> Segments:
    """Main and lobar bronchi, as air."""
    scale = anatomy_of(thorax.body).scale
    lines = np.array(
        [
            [[0, 16, 46], [-18, 18, 34], 7.0], [[-18, 18, 34], [-36, 20, 20], 6.0], [[-36, 20, 20], [-58, 24, 6], 3.2],
            [[-30, 19, 26], [-56, 14, 42], 3.0], [[0, 16, 46], [24, 20, 30], 6.0], [[24, 20, 30], [44, 24, 20], 5.0],
            [[44, 24, 20], [62, 22, 38], 2.8], [[44, 24, 20], [58, 30, -2], 3.0], [[-36, 20, 20], [-46, 32, -20], 3.0],
        ],
        dtype=object,
    )  # fmt: skip
    start = np.array([line[0] for line in lines], float) * scale
    end = np.array([line[1] for line in lines], float) * scale
    for points in (start, end):
        for side in (RIGHT, LEFT):
            inside = side * points[:, 0] > 30 * scale[0]
            points[inside] = _with_lung(points[inside], thorax, side)
    return Segments(start, end, np.array([line[2] for line in lines], float))


def all_vessels(thorax: Thorax) -> Segments:
    parts = [vessels_of(thorax, side) for side in (RIGHT, LEFT)]
    return Segments(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("start", "end", "radius"))
    )
