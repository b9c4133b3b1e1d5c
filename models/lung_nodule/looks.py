"""What the judge learns from: places that the finder names in train scans full of drawn nodules, and real crops.

Also where the finder errs on a scan as it is: its training shows it such places more often.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from data import Crop, Scan
from sampler import Sampler

from triage.detectors._grid import Grid
from triage.detectors.lung_nodule import LOOK, Place, find_places, look_at

ROOM = 4  # voxels a stored look is larger on each side, for shifts
SIDE = LOOK + 2 * ROOM
PER_SCAN = 24  # things drawn into one copy of a scan
FLOOR = -4.0  # logit of the finder below which a peak is nothing
HARD_MOST = 40  # places of a scan that are shown more often


def hard_places(finder: Any, scan: Scan) -> Any:
    """(n, 3) LPS mm where the finder sees nodules on the scan as it is, away from all marks."""
    marks = scan.known + scan.ignored
    places = [p.center_lps_mm for p in find_places(finder, scan.grid, scan.lungs, FLOOR)]
    away = [p for p in places if all(np.linalg.norm(np.subtract(p, m)) > d / 2 + 5 for m, d in marks)]
    return np.array(away[:HARD_MOST], float).reshape(-1, 3)


def crowded(sampler: Sampler, scan: Scan) -> tuple[Grid, list[tuple[Any, float]]]:
    """A copy of the scan with many things drawn into it, and the nodules (LPS mm, diameter) among them."""
    hu = np.ascontiguousarray(scan.grid.hu, dtype=np.float32)
    native = Grid(hu, scan.grid.affine)
    lung = scan.lungs.on(native).astype(np.float32)
    nodules, taken = list(scan.known), [p for p, _ in scan.known + scan.ignored]
    for _ in range(PER_SCAN):
        spot = sampler.spot(scan, np.arange(len(scan.places)))
        if any(np.linalg.norm(spot - t) < 22 for t in taken):
            continue
        taken.append(spot)
        lesion = sampler.put(native, lung, spot, sampler.rng.random())
        if lesion is not None:
            nodules.append((native.to_lps(np.array([lesion.centre]))[0], lesion.diameter_mm))
    return native, nodules


def examples(native: Grid, nodules: list[Any], scan: Scan, places: list[Place]) -> Iterator[tuple[Any, int]]:
    """(look, label) of each place the finder named, and of each nodule it missed."""
    found: set[int] = set()
    for place in places:
        gaps = [np.linalg.norm(np.subtract(place.center_lps_mm, p)) for p, _ in nodules]
        hit = [i for i, g in enumerate(gaps) if g < max(nodules[i][1] / 2, 2.5)]
        near = any(g < nodules[i][1] / 2 + 6 for i, g in enumerate(gaps))
        unsure = any(np.linalg.norm(np.subtract(place.center_lps_mm, p)) < d / 2 + 3 for p, d in scan.ignored)
        if hit:
            found.update(hit)
            yield look_at(native, place.center_lps_mm, SIDE), 1
        elif not near and not unsure:
            yield look_at(native, place.center_lps_mm, SIDE), 0
    for i, (place_mm, _) in enumerate(nodules):
        if i not in found:
            yield look_at(native, tuple(place_mm), SIDE), 1


def looks_of(sampler: Sampler, scan: Scan, finder: Any) -> tuple[Any, Any]:
    """(looks (n, 2, side, side, side) of 8 bits, labels (n,)) of one crowded copy of the scan."""
    native, nodules = crowded(sampler, scan)
    places = find_places(finder, native, scan.lungs, FLOOR)
    pairs = [
        ((look * 255).astype(np.uint8), label) for look, label in examples(native, nodules, scan, places)
    ]
    looks = np.stack([look for look, _ in pairs]) if pairs else np.zeros((0, 2, SIDE, SIDE, SIDE), np.uint8)
    return looks, np.array([label for _, label in pairs], np.uint8)


def crop_look(crop: Crop, rng: np.random.Generator) -> Any:
    """A real crop as the judge would see it in its scan, 8 bits."""
    affine = np.eye(4)
    affine[:3, 3] = -25.0
    shift = rng.uniform(-1.5, 1.5, 3)
    look = look_at(Grid(crop.hu, affine), (shift[0], shift[1], shift[2]), SIDE)
    return (look * 255).astype(np.uint8)
