"""The lung mask against phantoms whose lungs are known to be where air is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from triage.detectors._grid import Grid, canonical
from triage.detectors.lungs import find_lungs, within
from triage.phantom import make_thorax, render_volume


@pytest.fixture(scope="module")
def chest() -> Grid:
    volume = render_volume(make_thorax(3), slices=90, size_px=256)
    return canonical(volume.hu, volume.affine)


def test_the_lungs_of_a_phantom_are_found_whole(chest):
    lungs = find_lungs(chest)
    assert 2500 < lungs.volume_ml < 8500
    assert not lungs.cut_low
    assert not lungs.cut_high


def test_the_mask_holds_the_air_inside_the_chest_and_little_else(chest):
    mask = find_lungs(chest).on(chest)
    lung_like = (chest.hu > -960) & (chest.hu < -700)
    assert lung_like[mask].mean() > 0.85
    middle = mask[len(mask) // 2]
    assert middle[:, : middle.shape[1] // 2].any()  # both sides
    assert middle[:, middle.shape[1] // 2 :].any()


def test_lungs_cut_by_the_end_of_the_series_are_told(chest):
    middle = len(chest.hu) // 2
    affine = chest.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (middle - 10)
    lungs = find_lungs(Grid(chest.hu[middle - 10 : middle + 10], affine))
    assert lungs.volume_ml > 300
    assert lungs.cut_low
    assert lungs.cut_high


def test_a_body_without_lungs_gives_an_empty_mask():
    hu = np.full((30, 80, 80), -1000, np.int16)
    hu[:, 15:65, 15:65] = 40
    lungs = find_lungs(Grid(hu, np.diag([3.0, 3.0, 3.0, 1.0])))
    assert lungs.volume_ml == 0
    assert not lungs.mask.any()


def test_an_empty_room_gives_an_empty_mask():
    hu = np.full((20, 64, 64), -1000, np.int16)
    assert find_lungs(Grid(hu, np.eye(4))).volume_ml == 0


@given(
    seed=st.integers(0, 2**32 - 1),
    spacing=st.tuples(*[st.floats(0.5, 3.0)] * 3),
    by_mm=st.floats(0.3, 9.0),
    share=st.sampled_from([0.0, 0.01, 0.2, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_what_lies_within_reach_is_what_a_distance_map_says(seed, spacing, by_mm, share):
    mask = np.random.default_rng(seed).random((7, 9, 11)) < share
    away = ndi.distance_transform_edt(~mask, sampling=spacing) if mask.any() else np.full(mask.shape, np.inf)
    clear = np.abs(away - by_mm) > 1e-4  # a tie is decided by rounding
    assert (within(mask, spacing, by_mm) == (away <= by_mm))[clear].all()
