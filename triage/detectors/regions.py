"""A nodule's outline brought back to the slices that were received, for segmentation objects. `lung_nodule` calls it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from triage.detectors.measure import Outline
from triage.domain.finding import SliceMask
from triage.domain.image import Volume


def on_slices(outline: Outline, scan: Volume) -> tuple[SliceMask, ...]:
    """The voxels of `scan` whose centres lie inside `outline`, slice by slice; slices without one are left out.

    returns  () where slices are not one received object each (multi-frame), so that no slice could be named
    """
    if len(set(scan.sop_instance_uids)) != scan.hu.shape[0]:
        return ()
    to_index = np.linalg.inv(scan.affine)
    where = outline.grid.to_lps(np.argwhere(outline.mask).astype(np.float64))
    if not len(where):
        return ()
    source = where @ to_index[:3, :3].T + to_index[:3, 3]  # column, row, slice
    low = np.maximum(np.floor(source.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(source.max(0)).astype(int) + 1, scan.hu.shape[::-1])
    found = []
    for k in range(low[2], high[2]):
        row, column = np.mgrid[low[1] : high[1], low[0] : high[0]]
        xyz = np.stack([column.ravel(), row.ravel(), np.full(row.size, k)], 1)
        lps = xyz @ scan.affine[:3, :3].T + scan.affine[:3, 3]
        index = np.rint(outline.grid.to_index(lps)).astype(int)
        inside = ((index >= 0) & (index < outline.mask.shape)).all(1)
        hit = np.zeros(row.size, bool)
        hit[inside] = outline.mask[tuple(index[inside].T)]
        if hit.any():
            found.append(_boxed(scan.sop_instance_uids[k], hit.reshape(row.shape), int(low[1]), int(low[0])))
    return tuple(found)


def _boxed(sop_instance_uid: str, mask: NDArray[np.bool_], row: int, column: int) -> SliceMask:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return SliceMask(
        sop_instance_uid,
        row + int(rows[0]),
        column + int(columns[0]),
        box.shape[0],
        box.shape[1],
        np.packbits(box).tobytes().hex(),
    )
