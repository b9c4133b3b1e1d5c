"""Between a scan's own voxels and the regular grid that the CT networks read. `lung_nodule` and its training use it.

Everything keeps an affine from (x, y, z, 1) grid indices to patient LPS millimetres (PS3.3 C.7.6.2), so a point
found on any grid goes back to the patient by one product, whatever the order, flips or tilt of the series.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.domain.stack import TILT_DEGREES
from triage.domain.suitability import NotSuitableError, ReasonCode

AIR_HU = -1024
UPRIGHT_BYTES = 2 << 30  # a long stack of many slices would grow without end; the longest chest needs 0.8 GB


@dataclass(frozen=True, eq=False)
class Grid:
    """hu (z, y, x), any number type; affine from (x, y, z, 1) to LPS mm, axes towards left, back and head."""

    hu: NDArray[Any]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    def to_lps(self, zyx: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) grid indices (z, y, x) as (n, 3) LPS mm."""
        xyz = np.asarray(zyx, float)[:, ::-1]
        return np.asarray(xyz @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_index(self, lps: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) LPS mm as (n, 3) fractional grid indices (z, y, x)."""
        inverse = np.linalg.inv(self.affine)
        xyz = np.asarray(lps, float) @ inverse[:3, :3].T + inverse[:3, 3]
        return np.asarray(xyz[:, ::-1])


def canonical(hu: NDArray[np.int16], affine: NDArray[np.float64]) -> Grid:
    """The same voxels as a view whose axes run towards the patient's left (x), back (y) and head (z).

    hu, affine  as in `domain.image.Volume`; a series up to 45 degrees oblique keeps its own axes
    returns     a stack of a tilted gantry is a copy instead, put upright
    raises      NotSuitableError (TOO_LARGE) when that copy would not fit
    """
    hu, affine = _upright(hu, affine)
    towards = np.argmax(np.abs(affine[:3, :3]), axis=0)  # for column, row, slice: the LPS axis it follows
    if sorted(towards) != [0, 1, 2]:
        raise ValueError("the affine does not separate the patient's axes")
    order = [int(np.flatnonzero(towards == axis)[0]) for axis in range(3)]  # index axis of L, P, S
    matrix = affine[:, [*order, 3]].astype(np.float64).copy()
    view = np.transpose(hu, [2 - order[2], 2 - order[1], 2 - order[0]])  # array axes are (slice, row, column)
    for axis in range(3):
        if matrix[axis, axis] < 0:
            last = view.shape[2 - axis] - 1
            matrix[:3, 3] += matrix[:3, axis] * last
            matrix[:3, axis] *= -1
            view = np.flip(view, 2 - axis)
    return Grid(view, matrix)


def _upright(
    hu: NDArray[np.int16], affine: NDArray[np.float64]
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """The same slices with their origins on one normal: each moves in its own plane, none is mixed with another.

    returns  what came where the stack leans by no more than TILT_DEGREES; else larger slices, air beside what was seen
    source   standards 5.2, step 7
    """
    across, down, up = affine[:3, :3].T
    normal = np.cross(across, down) / np.linalg.norm(np.cross(across, down))
    if abs(normal @ up) >= np.cos(np.radians(TILT_DEGREES)) * np.linalg.norm(up):
        return hu, affine
    slips = np.array([up @ down / (down @ down), up @ across / (across @ across)])  # rows, columns a slice
    moves = np.arange(len(hu))[:, None] * slips
    least = moves.min(0)
    moves = moves - least
    rows, columns = (np.array(hu.shape[1:]) + np.ceil(moves.max(0)).astype(int)).tolist()
    if 2 * len(hu) * rows * columns > UPRIGHT_BYTES:
        raise NotSuitableError(ReasonCode.TOO_LARGE, f"{len(hu)} slices of {rows} x {columns}")
    out = np.empty((len(hu), rows, columns), np.int16)
    for k, (by_rows, by_columns) in enumerate(moves):
        plane = _moved(hu[k].astype(np.float32), float(by_rows), rows)
        plane = np.rint(_moved(plane.T, float(by_columns), columns).T)
        out[k] = np.clip(plane, -32768, 32767)  # a curve beside metal goes beyond it
    straight = affine.copy()
    straight[:3, 2] = normal * (normal @ up)
    straight[:3, 3] += down * least[0] + across * least[1]
    return out, straight


def _moved(plane: NDArray[np.float32], by: float, count: int) -> NDArray[np.float32]:
    """(n, m) as (count, m), row 0 at `by` >= 0, air around; cubic convolution between rows (Keys 1981, a = -1/2)."""
    whole = int(by)
    f = by - whole
    taps = (f**3 - f**2, -3 * f**3 + 4 * f**2 + f, 3 * f**3 - 5 * f**2 + 2, -(f**3) + 2 * f**2 - f)
    air = np.full((count + 3, plane.shape[1]), AIR_HU, np.float32)
    air[2 : 2 + count][whole : whole + len(plane)] = plane
    return np.asarray(sum(np.float32(w / 2) * air[k : k + count] for k, w in enumerate(taps)))


def resample(
    source: Grid,
    step_mm: float | tuple[float, float, float],
    low: NDArray[np.float64],
    shape: tuple[int, int, int],
) -> Grid:
    """Part of `source` on a grid of step_mm along the same axes; finer by lines, coarser by local means.

    step_mm  of all axes, or (z, y, x)
    low      fractional source index (z, y, x) of the first grid point
    shape    of the result; points outside the source repeat its border
    returns  float32
    """
    ratio = np.broadcast_to(step_mm, 3) / np.array(source.spacing)
    weights, boxes = [], []
    for axis in range(3):
        points = low[axis] + np.arange(shape[axis]) * ratio[axis]
        matrix, box = _weights(points, source.hu.shape[axis], float(ratio[axis]))
        weights.append(matrix)
        boxes.append(box)
    block = source.hu[boxes[0], boxes[1], boxes[2]]
    planes = np.empty((block.shape[0], shape[1], shape[2]), np.float32)
    for k in range(block.shape[0]):  # slice by slice: the float copy of a whole scan would cost 300 MB
        planes[k] = weights[1] @ (np.ascontiguousarray(block[k], dtype=np.float32) @ weights[2].T)
    out = (weights[0] @ planes.reshape(block.shape[0], -1)).reshape(shape)
    affine = source.affine.copy()
    affine[:3, 3] = source.to_lps(np.asarray([low], float))[0]
    affine[:3, :3] = source.affine[:3, :3] * ratio[::-1]
    return Grid(out, affine)


def _weights(points: NDArray[np.float64], count: int, ratio: float) -> tuple[NDArray[np.float32], slice]:
    """Triangle weights (points, box) on the source indices in `box`; half-width is one grid or one source step."""
    half = max(1.0, ratio)
    first = int(np.clip(np.floor(points[0] - half), 0, count - 1))
    last = int(np.clip(np.ceil(points[-1] + half), 0, count - 1))
    index = np.arange(first, last + 1)
    inside = np.clip(points, first, last)
    matrix = np.maximum(0.0, 1.0 - np.abs(inside[:, None] - index[None, :]) / half)
    return (matrix / matrix.sum(1, keepdims=True)).astype(np.float32), slice(first, last + 1)
