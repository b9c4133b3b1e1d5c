"""Measurement of analytic balls in quiet lung, scanned with a blur and noise like a real scanner's."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from triage.detectors._grid import Grid
from triage.detectors.lungs import Lungs
from triage.detectors.measure import measure

LUNG = -860.0


def a_scan(diameter_mm, hu=30.0, spacing=(1.5, 0.7, 0.7), core_mm=0.0, vessel_mm=0.0, seed=0):
    """(grid, lungs, true centre): a ball off the voxel grid, averaged over sub-voxels, blurred, with noise."""
    shape = tuple(int(60 / s) for s in spacing)
    fine = 3
    axes = [(np.arange(n * fine) + 0.5) / fine * s for n, s in zip(shape, spacing, strict=True)]
    centre = np.array([30.3, 29.6, 30.2])
    z, y, x = (a - c for a, c in zip(axes, centre, strict=True))
    away = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
    picture = np.where(away < diameter_mm / 2, hu, LUNG).astype(np.float32)
    if core_mm:
        picture[away < core_mm / 2] = 20.0
    if vessel_mm:
        tube = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2) + 0 * x[None, None, :]
        picture = np.maximum(picture, np.where(tube < vessel_mm / 2, 30.0, LUNG))
    blurred = ndi.gaussian_filter(picture, [0.6 / s * fine for s in spacing])
    n = shape
    voxels = blurred.reshape(n[0], fine, n[1], fine, n[2], fine).mean((1, 3, 5))
    voxels += np.random.default_rng(seed).normal(0, 20, voxels.shape)
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    affine[:3, 3] = (5.0, -40.0, 200.0)
    grid = Grid(np.rint(voxels).astype(np.int16), affine)
    true = grid.to_lps(((centre / spacing) - 0.5)[None])[0]
    return grid, Lungs(Grid(np.ones(shape, bool), affine), 4000.0, False, False), tuple(true)


@pytest.mark.parametrize("diameter_mm", [6.0, 8.0, 12.0, 20.0, 28.0])
def test_a_solid_ball_is_measured_within_a_millimetre_and_a_half(diameter_mm):
    scan, lungs, centre = a_scan(diameter_mm)
    m, _ = measure(scan, lungs, centre, diameter_mm * 1.15)
    assert (m.long_axis_mm + m.short_axis_mm) / 2 == pytest.approx(diameter_mm, abs=1.5)
    assert np.cbrt(6 * m.volume_mm3 / np.pi) == pytest.approx(diameter_mm, abs=1.0)
    assert np.linalg.norm(np.subtract(m.center_lps_mm, centre)) < 0.5
    assert m.texture == "solid"


def test_a_wrong_first_guess_of_place_and_size_does_not_move_the_result():
    scan, lungs, centre = a_scan(12.0)
    m, _ = measure(scan, lungs, (centre[0] + 2.0, centre[1] - 1.5, centre[2] + 1.5), 9.5)
    assert np.cbrt(6 * m.volume_mm3 / np.pi) == pytest.approx(12.0, abs=1.2)
    assert np.linalg.norm(np.subtract(m.center_lps_mm, centre)) < 0.8


def test_a_vessel_through_the_nodule_is_cut_off():
    scan, lungs, centre = a_scan(12.0, vessel_mm=2.5)
    m, _ = measure(scan, lungs, centre, 12.0)
    assert np.cbrt(6 * m.volume_mm3 / np.pi) == pytest.approx(12.0, abs=1.5)


def test_textures_are_told_apart():
    for hu, core, expected in (
        (-630.0, 0.0, "ground_glass"),
        (-600.0, 8.0, "part_solid"),
        (30.0, 0.0, "solid"),
    ):
        scan, lungs, centre = a_scan(15.0, hu=hu, core_mm=core)
        m, _ = measure(scan, lungs, centre, 15.0)
        assert m.texture == expected, (hu, core, m)


def test_what_a_nodule_hangs_on_is_told():
    scan, lungs, centre = a_scan(10.0)
    assert measure(scan, lungs, centre, 10.0)[0].attachment == "free"
    scan, lungs, centre = a_scan(10.0, vessel_mm=3.0)
    assert measure(scan, lungs, centre, 10.0)[0].attachment == "vessel"
    wall = lungs.mask
    wall[:, : int(27.0 / 0.7)] = False  # the ball's edge lies at 25 mm
    at_the_wall = Lungs(Grid(wall, lungs.grid.affine), 4000.0, False, False)
    assert measure(scan, at_the_wall, centre, 10.0)[0].attachment == "pleura"


def test_nothing_there_gives_the_expected_size_and_says_so_by_its_density():
    scan, lungs, centre = a_scan(8.0, hu=LUNG)
    m, outline = measure(scan, lungs, centre, 8.0)
    assert m.mean_hu < -800
    assert outline.mask.any()
