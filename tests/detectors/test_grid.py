"""Grids: whatever the order, flips or tilt of a series, a point keeps its place in the patient."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triage.detectors._grid import Grid, canonical, resample
from triage.domain.suitability import NotSuitableError


def a_series(order, signs, tilt=0.0):
    """A small stack whose voxel values encode their index, with array axes along the patient's axes `order`."""
    hu = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)  # slice, row, column
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for column, (axis, sign, size) in enumerate(zip(order, signs, (0.7, 0.8, 2.0), strict=True)):
        affine[axis, column] = sign * size
    affine[1, 2] += tilt
    affine[:3, 3] = (12.0, -30.0, 100.0)
    return hu, affine


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_every_voxel_keeps_its_place_in_the_patient(order, signs):
    hu, affine = a_series(order, signs)
    grid = canonical(hu, affine)
    assert (np.diag(grid.affine[:3, :3]) > 0).all()
    for k, j, i in ((0, 0, 0), (4, 5, 6), (2, 3, 1)):
        lps = (affine @ [i, j, k, 1.0])[:3]
        index = tuple(np.rint(grid.to_index(lps[None])[0]).astype(int))
        assert grid.hu[index] == hu[k, j, i]
        assert np.allclose(grid.to_lps(np.array([index], float))[0], lps)


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1)])
@pytest.mark.parametrize(("tilt", "slant"), [(0.3, 0.0), (-0.5, 0.2), (-0.2, -0.3)])
def test_a_tilted_stack_is_put_upright_and_everything_keeps_its_place(tilt, slant, signs):
    """A field that is linear in the patient stays that field: cubic convolution gives lines back exactly."""
    _, affine = a_series((0, 1, 2), signs, tilt)
    affine[0, 2] += slant
    index = np.stack(np.meshgrid(*map(np.arange, (9, 12, 14)), indexing="ij"), -1)
    there = index[..., ::-1] @ affine[:3, :3].T + affine[:3, 3]
    field = np.array([20.0, -30.0, 10.0])
    grid = canonical(np.rint(there @ field).astype(np.int16), affine)
    x, y, z = grid.affine[:3, :3].T
    assert abs(x @ z) < 1e-9 and abs(y @ z) < 1e-9
    inner = there[:, 3:-3, 3:-3].reshape(-1, 3)
    at = np.rint(grid.to_index(inner)).astype(int)
    assert np.abs(grid.hu[tuple(at.T)] - grid.to_lps(at.astype(float)) @ field).max() <= 1.5  # rounded twice
    assert len(inner) == 9 * 6 * 8


def test_metal_beside_air_stays_metal_when_a_tilted_stack_is_put_upright():
    hu, affine = a_series((0, 1, 2), (1, 1, 1), tilt=0.3)
    hu = np.full_like(hu, -1000)
    hu[:, hu.shape[1] // 2 :] = 32767
    assert canonical(hu, affine).hu.min() > -10_000


def test_a_tilted_stack_that_no_scanner_makes_is_refused_before_it_fills_the_memory():
    hu, affine = np.zeros((20_000, 4, 4), np.int16), np.diag([0.35, 0.35, 3.0, 1.0])
    affine[1, 2] = 0.8
    with pytest.raises(NotSuitableError, match="20000 slices of 45716 x 4"):
        canonical(hu, affine)


def test_a_stack_that_leans_by_less_than_half_a_degree_is_left_alone():
    hu, affine = a_series((0, 1, 2), (1, 1, 1), tilt=0.01)
    assert np.shares_memory(canonical(hu, affine).hu, hu)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.6, 3.0),
    st.tuples(st.floats(-0.4, 1.5), st.floats(-0.4, 1.5), st.floats(-0.4, 1.5)),
)
def test_resampling_a_linear_field_gives_that_field_at_the_new_points(step, low):
    z, y, x = np.meshgrid(np.arange(20), np.arange(30), np.arange(30), indexing="ij")
    affine = np.diag([0.8, 0.7, 1.5, 1.0])
    source = Grid((10 * z + 3 * y - 2 * x).astype(np.float32), affine)
    out = resample(source, step, np.array([6.0, 8.0, 8.0]) + low, (4, 4, 4))
    index = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    there = source.to_index(out.to_lps(index.astype(float)))
    expected = 10 * there[:, 0] + 3 * there[:, 1] - 2 * there[:, 2]
    # A mean over a window that the sampling does not halve exactly may sit off by a small part of a voxel.
    assert np.abs(out.hu.reshape(-1) - expected).max() < 1.5
