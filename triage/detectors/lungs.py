"""Where the lungs are in a chest CT, and whether they are whole. Called by `lung_nodule` and by its training.

Thresholds and morphology on every second or third voxel: about half a second for 300 slices. Dense disease wider
than about 20 mm at the pleura (effusion, consolidation) stays outside; what is enclosed or smaller is filled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from triage.detectors._grid import Grid

WORK_MM = 2.0  # thresholds and morphology run on voxels of about this size
AIR_HU = -400  # between aerated lung and soft tissue, as in the sketch that the shared scans were cut with
CLOSE_MM = 10.0  # vessels and wall-attached nodules up to about twice this come in
LARGEST_HOLE_CM2 = 13.0  # a disc of 40 mm
LEAST_LUNG_ML = 60.0  # a smaller airspace is bowel, trachea or sinus
SLICE = np.ones((1, 3, 3), bool)  # neighbours within a slice
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Lungs:
    """mask  on a coarse grid with its own affine (x, y, z, 1) to LPS mm; may be empty

    cut_low, cut_high  lung still wide in the first (lowest) or last (highest) slice: part of it is outside
    """

    grid: Grid  # hu is the bool mask
    volume_ml: float
    cut_low: bool
    cut_high: bool

    @property
    def mask(self) -> Mask:
        return self.grid.hu.astype(bool)

    def grown(self, by_mm: float) -> Lungs:
        """The same lungs with a wider mask; the volume stays that of the lungs."""
        return replace(self, grid=Grid(within(self.mask, self.grid.spacing, by_mm), self.grid.affine))

    def on(self, target: Grid) -> Mask:
        """The mask on another grid of the same axes (nearest voxel)."""
        mask = self.mask
        axes = []
        for axis in range(3):
            ends = np.zeros((2, 3))
            ends[1, axis] = target.hu.shape[axis] - 1
            low, high = self.grid.to_index(target.to_lps(ends))[:, axis]
            index = np.rint(np.linspace(low, high, target.hu.shape[axis])).astype(int)
            axes.append(np.clip(index, 0, mask.shape[axis] - 1))
        return mask[np.ix_(*axes)]


def within(mask: Mask, spacing: tuple[float, ...], by_mm: float) -> Mask:
    """Voxels whose middle lies at most by_mm from that of a voxel of the mask.

    What a distance map says, but only as far as asked: axis by axis the least square of the distances so far, in a
    tenth to a half of the time (Felzenszwalb and Huttenlocher 2012, the part that a short reach needs).
    """
    boxes = ndi.find_objects(mask.astype(np.uint8))
    if not boxes:
        return np.zeros_like(mask)
    reach = [int(by_mm / s + 1e-6) for s in spacing]
    box = tuple(
        slice(max(0, b.start - r), min(n, b.stop + r))
        for b, r, n in zip(boxes[0], reach, mask.shape, strict=True)
    )
    square = np.where(mask[box], np.float32(0), np.float32(4 * by_mm**2 + 1))
    for axis, (steps, mm) in enumerate(zip(reach, spacing, strict=True)):
        before = square.copy()
        for k in range(1, steps + 1):
            here = tuple(slice(k, None) if a == axis else slice(None) for a in range(3))
            there = tuple(slice(None, -k) if a == axis else slice(None) for a in range(3))
            further = before + np.float32((k * mm) ** 2)
            np.minimum(square[here], further[there], out=square[here])
            np.minimum(square[there], further[here], out=square[there])
    out = np.zeros_like(mask)
    out[box] = square <= np.float32(by_mm**2 * (1 + 1e-6))
    return out


def find_lungs(scan: Grid) -> Lungs:
    """Lungs of a canonical scan (`_grid.canonical`).

    scan     int16 HU (z, y, x)
    returns  an empty mask when no airspace of lung size lies inside a body
    """
    strides = [max(1, round(WORK_MM / s)) for s in scan.spacing]
    hu = np.ascontiguousarray(scan.hu[:: strides[0], :: strides[1], :: strides[2]])
    affine = scan.affine.copy()
    affine[:3, :3] *= np.array(strides)[::-1]
    spacing = tuple(s * k for s, k in zip(scan.spacing, strides, strict=True))
    voxel_ml = float(np.prod(spacing)) / 1000.0
    mask = _airspaces(hu, _body(hu, spacing), voxel_ml)
    if not mask.any():
        return Lungs(Grid(mask, affine), 0.0, False, False)
    mask = _closed(mask, spacing)
    area_cm2 = mask.sum((1, 2)) * spacing[1] * spacing[2] / 100.0
    wide = max(15.0, 0.15 * float(area_cm2.max()))  # apex and recesses taper below this when they are whole
    return Lungs(
        Grid(mask, affine), float(mask.sum() * voxel_ml), bool(area_cm2[0] > wide), bool(area_cm2[-1] > wide)
    )


def _body(hu: NDArray[np.int16], spacing: tuple[float, ...]) -> Mask:
    """Largest dense part, filled slice by slice: drops the table, arms apart from the trunk, and outside air."""
    dense = ndi.binary_opening(hu > -500, SLICE)
    labels, count = ndi.label(dense)
    if count == 0:
        return np.zeros(hu.shape, bool)
    size = np.bincount(labels.ravel())
    size[0] = 0
    body: Mask = labels == size.argmax()
    rounds = max(1, round(6.0 / spacing[1]))
    plus = ndi.generate_binary_structure(2, 1)
    for k in range(len(body)):
        # Edge-padded, so that a chest wall cut by the field of view closes the lung behind it.
        padded = np.pad(body[k], rounds + 2, mode="edge")
        grown = ndi.binary_closing(padded, plus, iterations=rounds)
        cut = slice(rounds + 2, -rounds - 2)
        body[k] = ndi.binary_fill_holes(grown[cut, cut] | body[k])
    return body


def _airspaces(hu: NDArray[np.int16], body: Mask, voxel_ml: float) -> Mask:
    """The one or two large airspaces of lung density inside the body."""
    air = (hu < AIR_HU) & ndi.binary_erosion(body, SLICE)
    labels, count = ndi.label(ndi.binary_opening(air, SLICE))
    if count == 0:
        return np.zeros(hu.shape, bool)
    size = np.bincount(labels.ravel()) * voxel_ml
    size[0] = 0.0
    # Bowel gas and a hollow phantom are emptier than lung, which always holds blood.
    empty = np.bincount(labels.ravel(), weights=(hu < -970).ravel(), minlength=count + 1) * voxel_ml
    lung_like = np.where(empty < 0.6 * size, size, 0.0)
    largest = float(lung_like.max())
    keep = [
        int(i) for i in np.argsort(lung_like)[::-1][:2] if lung_like[i] > max(LEAST_LUNG_ML, 0.12 * largest)
    ]
    return np.isin(labels, keep)


def _closed(mask: Mask, spacing: tuple[float, ...]) -> Mask:
    """Closed by a ball and filled."""
    box = ndi.find_objects(mask.astype(np.uint8))[0]
    pad = [int(np.ceil(CLOSE_MM / s)) + 1 for s in spacing]
    work = np.pad(mask[box], [(p, p) for p in pad])
    # Repeat the end slices: a lung cut by the scan's end must not be eaten there.
    work[: pad[0]], work[-pad[0] :] = work[pad[0]], work[-pad[0] - 1]
    closed = ~within(~within(work, spacing, CLOSE_MM), spacing, CLOSE_MM)
    closed = closed[tuple(slice(p, -p) for p in pad)] | mask[box]
    for k in range(len(closed)):
        holes, _ = ndi.label(ndi.binary_fill_holes(closed[k]) & ~closed[k])
        area_cm2 = np.bincount(holes.ravel()) * spacing[1] * spacing[2] / 100.0
        # Where the lungs meet in front of it the heart is a hole, too: only those of the size of a mass are filled.
        closed[k] |= (area_cm2 < LARGEST_HOLE_CM2)[holes] & (holes > 0)
    out = mask.copy()
    out[box] = closed
    return out
