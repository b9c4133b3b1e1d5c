"""Alignment by lungs: a known motion is found again, and foreign bytes are no mask."""

from __future__ import annotations

import numpy as np
import pytest

from triage.detectors._grid import Grid, canonical
from triage.detectors.lungs import Lungs, find_lungs
from triage.detectors.registration import align, pack, unpack
from triage.phantom import make_thorax, render_volume


@pytest.fixture(scope="module")
def lungs() -> Lungs:
    volume = render_volume(make_thorax(5), slices=90, size_px=256)
    return find_lungs(canonical(volume.hu, volume.affine))


def moved(lungs: Lungs, matrix: np.ndarray, rows: slice = slice(None)) -> Lungs:
    affine = matrix @ lungs.grid.affine
    affine[:3, 3] += affine[:3, 2] * (rows.start or 0)
    return Lungs(Grid(lungs.mask[rows], affine), lungs.volume_ml, False, False)


def a_motion() -> np.ndarray:
    a, b = np.radians(4.0), np.radians(-3.0)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_z @ about_x
    matrix[:3, 3] = (12.0, -20.0, 35.0)
    return matrix


@pytest.mark.parametrize("rows", [slice(None), slice(25, None)], ids=["whole", "base cut off"])
def test_a_known_motion_is_found_within_three_millimetres(lungs: Lungs, rows: slice) -> None:
    matrix = a_motion()
    found = align(pack(lungs), pack(moved(lungs, matrix, rows)))
    assert found is not None
    points = lungs.grid.to_lps(np.argwhere(lungs.mask)[::997].astype(float))
    there, here = (points @ m[:3, :3].T + m[:3, 3] for m in (matrix, found))
    assert np.linalg.norm(there - here, axis=1).max() < 3.0


def test_what_is_packed_is_small_and_comes_out_at_its_place(lungs: Lungs) -> None:
    packed = pack(lungs)
    assert len(packed["bits"]) < 8000
    out = unpack(packed)
    middle = lungs.grid.to_lps(np.argwhere(lungs.mask).mean(0)[None])[0]
    again = out.to_lps(np.argwhere(out.hu).mean(0)[None])[0]
    assert np.abs(middle - again).max() < 4.0


def test_lungs_that_are_none_are_not_aligned(lungs: Lungs) -> None:
    empty = Lungs(Grid(np.zeros_like(lungs.mask), lungs.grid.affine), 0.0, False, False)
    assert align(pack(lungs), pack(empty)) is None


def test_a_mask_that_claims_more_than_it_holds_is_refused(lungs: Lungs) -> None:
    packed = pack(lungs)
    with pytest.raises(ValueError, match="shape"):
        unpack({**packed, "shape": [5000, 5000, 5000]})
    with pytest.raises(ValueError, match="short"):
        unpack({**packed, "shape": [n * 2 for n in packed["shape"]]})
