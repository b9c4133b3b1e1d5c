"""An outline on its fine grid comes back to the slices that were received, whatever their order and direction."""

from __future__ import annotations

import numpy as np
import pytest

from triage.detectors._grid import Grid
from triage.detectors.measure import Outline
from triage.detectors.regions import on_slices
from triage.dicom.objects.nodules import pixels
from triage.domain.image import Volume

CENTER = np.array([12.0, -8.0, -140.0])
RADIUS_MM = 6.0
STEP = 0.5


def _ball() -> Outline:
    """6 mm around CENTER on a grid of 0.5 mm."""
    count = 33
    affine = np.diag([STEP, STEP, STEP, 1.0])
    affine[:3, 3] = CENTER - (count // 2) * STEP
    away = np.linalg.norm((np.indices((count,) * 3) - count // 2) * STEP, axis=0)
    return Outline(Grid(np.zeros((count,) * 3, np.float32), affine), away <= RADIUS_MM)


def _scan(z_step: float = 1.25, flip: bool = False, uids: int = 40) -> Volume:
    affine = np.diag([0.7, 0.7, z_step, 1.0])
    affine[:3, 3] = (-40.0, -50.0, -165.0)
    if flip:  # rows from back to front
        affine[1, 1], affine[1, 3] = -0.7, 30.0
    hu = np.zeros((40, 128, 128), np.int16)
    return Volume(hu, affine, sop_instance_uids=tuple(f"1.2.{i}" for i in range(uids)))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("z_step", [0.8, 1.25, 2.5])
def test_a_ball_is_the_same_ball_on_the_received_slices(z_step: float, flip: bool) -> None:
    scan = _scan(z_step, flip)
    found = on_slices(_ball(), scan)
    volume_mm3, total = 0.0, np.zeros(3)
    for m in found:
        k = scan.sop_instance_uids.index(m.sop_instance_uid)
        rows, columns = np.nonzero(pixels(m))
        xyz = np.stack([columns + m.column, rows + m.row, np.full(len(rows), k)], 1)
        lps = xyz @ scan.affine[:3, :3].T + scan.affine[:3, 3]
        assert np.linalg.norm(lps - CENTER, axis=1).max() <= RADIUS_MM + STEP
        total += lps.sum(0)
        volume_mm3 += len(rows) * 0.7 * 0.7 * z_step
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3, rel=0.08)
    assert total / (volume_mm3 / (0.7 * 0.7 * z_step)) == pytest.approx(CENTER, abs=0.5)


def test_a_nodule_at_the_end_of_the_scan_keeps_what_is_inside() -> None:
    scan = _scan()
    scan.affine[2, 3] = -140.0  # the first slice cuts the ball in half
    assert [m.sop_instance_uid for m in on_slices(_ball(), scan)] == [f"1.2.{i}" for i in range(6)]


def test_frames_of_one_object_are_not_named() -> None:
    assert on_slices(_ball(), _scan(uids=1)) == ()
