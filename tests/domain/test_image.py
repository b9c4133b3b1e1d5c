"""Frames of decoded pixels."""

from __future__ import annotations

import numpy as np

from triage.domain.image import Volume


def test_spacing_is_the_length_of_a_step_whatever_way_the_series_lies() -> None:
    turn = np.deg2rad(20.0)  # about the left-right axis, as a tilted head
    affine = np.eye(4)
    affine[:3, 0] = [-0.7, 0, 0]  # columns run from left to right
    affine[:3, 1] = [0, 0.8 * np.cos(turn), 0.8 * np.sin(turn)]
    affine[:3, 2] = [0, -1.25 * np.sin(turn), 1.25 * np.cos(turn)]
    volume = Volume(hu=np.zeros((2, 3, 4), np.int16), affine=affine)
    assert np.allclose(volume.spacing_mm, (1.25, 0.8, 0.7))
