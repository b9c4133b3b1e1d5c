"""Rigid alignment of two scans of one person by their lungs, from masks small enough to be kept with every Run.

Images are removed after their retention; the packed mask (two to four kB) lets a later scan be compared all the same.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import scipy  # its parts load when they are first used
from numpy.typing import NDArray

from triage.detectors._grid import Grid
from triage.detectors.lungs import Lungs

PACKED_MM = 6.0
MOST_VOXELS = 4_000_000  # of a packed mask, checked before it is opened
WORST_MM = 8.0  # mean distance of the surfaces above which the lungs do not match
LEAST_POINTS = 200
Array = NDArray[np.float64]


def pack(lungs: Lungs) -> dict[str, Any]:
    """The mask on voxels of about 6 mm as JSON: shape (z, y, x), affine from (x, y, z, 1) to LPS mm, zlib bits."""
    strides = [max(1, round(PACKED_MM / s)) for s in lungs.grid.spacing]
    share = scipy.ndimage.uniform_filter(lungs.mask.astype(np.float32), strides)
    mask = share[:: strides[0], :: strides[1], :: strides[2]] > 0.5
    affine = lungs.grid.affine.copy()
    affine[:3, :3] *= np.array(strides)[::-1]
    bits = base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()
    return {"shape": list(mask.shape), "affine": np.round(affine, 4).tolist(), "bits": bits}


def unpack(packed: dict[str, Any]) -> Grid:
    """The mask of `pack`. raises ValueError when it is not one."""
    shape = tuple(int(n) for n in packed["shape"])
    count = int(np.prod(shape))
    if len(shape) != 3 or min(shape) < 1 or count > MOST_VOXELS:
        raise ValueError(f"no packed lung mask: shape {shape}")
    raw = zlib.decompressobj().decompress(base64.b64decode(packed["bits"]), (count + 7) // 8)
    bits = np.unpackbits(np.frombuffer(raw, np.uint8))
    if bits.size < count:
        raise ValueError("packed lung mask too short")
    return Grid(bits[:count].reshape(shape).astype(bool), np.array(packed["affine"], float))


def align(current: dict[str, Any], prior: dict[str, Any]) -> Array | None:
    """(4, 4) rigid matrix from LPS mm of `current` to LPS mm of `prior`; None when the lungs do not match.

    Least squares of the distance of one surface's points from the other surface, robust against parts that only one
    of the scans shows. Lungs cut by the end of a series give no surface there.
    """
    here, there = unpack(current), unpack(prior)
    points = _surface(here)
    if len(points) < LEAST_POINTS or len(_surface(there)) < LEAST_POINTS:
        return None
    away = _distance(there)
    middle = points.mean(0)
    inverse = np.linalg.inv(there.affine)

    def gaps(x: Array) -> Array:
        moved = _moved(points, x, middle)
        index = (moved @ inverse[:3, :3].T + inverse[:3, 3])[:, ::-1].T
        return np.asarray(
            scipy.ndimage.map_coordinates(away, index, order=1, mode="nearest"), dtype=np.float64
        )

    best = None
    for start in (_surface(there).mean(0) - middle, np.zeros(3)):  # a cut scan has its middle elsewhere
        found = scipy.optimize.least_squares(
            gaps, np.concatenate([np.zeros(3), start]), loss="soft_l1", f_scale=4.0, max_nfev=60
        )
        best = found if best is None or found.cost < best.cost else best
    assert best is not None
    if float(np.mean(np.abs(gaps(best.x)))) > WORST_MM:
        return None
    matrix = np.eye(4)
    matrix[:3, :3] = _turn(best.x[:3])
    matrix[:3, 3] = middle + best.x[3:] - matrix[:3, :3] @ middle
    return matrix


def _surface(grid: Grid) -> Array:
    """(n, 3) LPS mm of the mask's outermost voxels but for those in its first and last slice."""
    mask = grid.hu.astype(bool)
    edge = mask & ~scipy.ndimage.binary_erosion(mask, border_value=1)
    filled = np.flatnonzero(mask.any((1, 2)))
    if filled.size:
        edge[[filled[0], filled[-1]]] = False
    return grid.to_lps(np.argwhere(edge).astype(float))


def _distance(grid: Grid) -> NDArray[np.float32]:
    """Distance in mm from the surface, both sides counted up."""
    mask = grid.hu.astype(bool)
    edge = mask & ~scipy.ndimage.binary_erosion(mask, border_value=1)
    return np.asarray(scipy.ndimage.distance_transform_edt(~edge, sampling=grid.spacing), dtype=np.float32)


def _moved(points: Array, x: Array, middle: Array) -> Array:
    return np.asarray((points - middle) @ _turn(x[:3]).T + middle + x[3:])


def _turn(angles: Array) -> Array:
    """Rotation by small angles (radians) about x, y and z."""
    (a, b, c), (d, e, f) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, a, -d], [0, d, a]])
    about_y = np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
    about_z = np.array([[c, -f, 0], [f, c, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)
