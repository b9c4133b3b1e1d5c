"""CT volumes: what is known of the person is what the voxels say."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from triage.domain.image import Volume
from triage.phantom import NoduleSpec, Thorax, make_thorax, render_volume
from triage.phantom.anatomy import anatomy_of, lung_of

SLICES = 100  # fewer and smaller than a real scan, for speed
SIZE = 256


@cache
def scan(thorax: Thorax) -> Volume:
    return render_volume(thorax, slices=SLICES, size_px=SIZE)


def voxel(volume: Volume, point: tuple[float, float, float]) -> tuple[int, int, int]:
    """(slice, row, column) nearest to an LPS point."""
    column, row, i, _ = np.linalg.solve(volume.affine, [*point, 1.0])
    return round(i), round(row), round(column)


def around(volume: Volume, point: tuple[float, float, float], reach: int = 1) -> float:
    """Mean HU of the (2 reach + 1)^2 pixels of the slice round a point."""
    i, row, column = voxel(volume, point)
    return float(volume.hu[i, row - reach : row + reach + 1, column - reach : column + reach + 1].mean())


def places(thorax: Thorax, volume: Volume) -> np.ndarray:
    """(3, slices, rows, columns) LPS position of each voxel."""
    s, r, c = np.indices(volume.hu.shape, dtype=np.float32)
    a = volume.affine
    return np.stack([a[0, 0] * c + a[0, 3], a[1, 1] * r + a[1, 3], a[2, 2] * s + a[2, 3]])


def test_the_same_seed_gives_the_same_voxels() -> None:
    thorax = make_thorax(6)
    again = render_volume(thorax, slices=SLICES, size_px=SIZE)
    assert np.array_equal(scan(thorax).hu, again.hu)
    assert np.array_equal(scan(thorax).affine, again.affine)


def test_tissues_have_their_hounsfield_values() -> None:
    volume = scan(make_thorax(6))
    hu = volume.hu
    assert hu.dtype == np.int16
    assert hu[:, :20, :20].mean() < -950  # air beside the patient
    lung = hu[(hu > -950) & (hu < -700)]
    assert lung.size > 0.08 * hu.size
    assert (hu > 700).sum() > 1000  # cortical bone
    assert -20 < np.median(hu[(hu > -200) & (hu < 200)]) < 80


@pytest.mark.parametrize(
    ("texture", "low", "high"), [("solid", 0, 80), ("part_solid", -20, 80), ("ground_glass", -680, -560)]
)
def test_a_nodule_has_its_density_at_its_true_place(texture: str, low: float, high: float) -> None:
    thorax = make_thorax(9, nodules=[NoduleSpec(20, texture, center_lps_mm=(66.0, 20.0, 12.0))])
    assert low < around(scan(thorax), (66.0, 20.0, 12.0)) < high


def test_a_nodule_has_its_true_volume() -> None:
    thorax = make_thorax(9, nodules=[NoduleSpec(18, "solid", center_lps_mm=(66.0, 20.0, 12.0))])
    extra = scan(thorax).hu.astype(float) - scan(make_thorax(9)).hu
    s, r, c = scan(thorax).spacing_mm
    i, row, column = voxel(scan(thorax), (66.0, 20.0, 12.0))
    box = extra[i - 6 : i + 7, row - 12 : row + 13, column - 12 : column + 13]
    # Vessels that were there already make the measured volume a little smaller than the ball.
    assert box.sum() * s * r * c / (40 + 865) == pytest.approx(np.pi * 18**3 / 6, rel=0.12)


def test_beyond_the_pleural_line_there_is_air_and_no_vessel() -> None:
    thorax = make_thorax(4, ["pneumothorax"])
    air = thorax.pneumothorax
    assert air is not None
    anatomy, volume = anatomy_of(thorax.body), scan(thorax)
    x, y, z = places(thorax, volume)
    plane_x, plane_z = x[:, 0, :], z[:, 0, :]
    wide = tuple(min(k + 0.04, 1.0) for k in air.keeps)
    lung = lung_of(anatomy, air.side, plane_x, plane_z, (wide[0], wide[1], wide[2]))
    outwards = plane_x + 5 * air.side  # keep off the chest wall
    cavity = anatomy.cavity_interval(air.side, outwards, plane_z)
    inside = (y > cavity[0][:, None] + 4) & (y < cavity[1][:, None] - 4) & (air.side * x > 45)
    beyond = inside & ~((y > lung[0][:, None]) & (y < lung[1][:, None])) & (z > 10)
    beyond[:-2] &= inside[2:]
    assert beyond.sum() > 5000
    assert np.percentile(volume.hu[beyond], 99) < -850
    assert volume.hu[beyond].mean() < -960


def test_fluid_lies_behind_its_level_and_lung_before_it() -> None:
    thorax = make_thorax(4, ["effusion"])
    fluid = thorax.effusion
    assert fluid is not None
    x = fluid.side * 75.0 * thorax.body.scale[0]
    assert around(scan(thorax), (x, fluid.level_y_mm + 5, 20.0)) == pytest.approx(12, abs=25)
    assert around(scan(thorax), (x, fluid.level_y_mm - 8, 20.0)) < -650


def test_consolidated_lung_is_dense() -> None:
    thorax = make_thorax(4, ["consolidation"])
    filled = thorax.consolidation
    assert filled is not None
    dense = [around(scan(thorax), (x, y, z)) for x, y, z, r in filled.blobs if r > 9]
    assert np.median(dense) > -150


def test_the_affine_leads_from_voxels_to_the_patient() -> None:
    volume = scan(make_thorax(6))
    assert np.all(np.diag(volume.affine)[:3] > 0)  # columns to the left, rows to the back, slices to the head
    assert volume.thickness_mm == pytest.approx(volume.spacing_mm[0])
    i, row, column = voxel(volume, (0.0, 72.0 * 0.95, 0.0))
    assert volume.hu[i, row - 8 : row + 8, column - 8 : column + 8].mean() > 80  # the spine is at the back
