"""Preparation of films: what differs between hospitals without being anatomy is taken away, and places come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triage.detectors._film import SIDE, prepare, resized, to_received


def a_picture(rows: int = 700, columns: int = 600, seed: int = 0) -> np.ndarray:
    """Soft shapes over the whole range, like a film in that no edge line is flat."""
    coarse = np.random.default_rng(seed).random((9, 9))
    y = np.linspace(0, 8, rows)[:, None]
    x = np.linspace(0, 8, columns)[None]
    top, left = np.minimum(y.astype(int), 7), np.minimum(x.astype(int), 7)
    v, u = y - top, x - left
    smooth = (coarse[top, left] * (1 - u) + coarse[top, left + 1] * u) * (1 - v)
    smooth += (coarse[top + 1, left] * (1 - u) + coarse[top + 1, left + 1] * u) * v
    return smooth.astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 900), st.integers(2, 900))
def test_any_size_becomes_one_square_in_zero_to_one(rows: int, columns: int) -> None:
    square = prepare(np.random.default_rng(1).random((rows, columns), dtype=np.float32)).square

    assert square.shape == (SIDE, SIDE) and square.dtype == np.float32
    assert square.min() >= 0 and square.max() <= 1


def test_window_and_exposure_do_not_matter() -> None:
    film = a_picture()

    dim = prepare(0.2 + 0.5 * film).square

    assert np.abs(dim - prepare(film).square).max() < 0.01


def test_the_mean_grey_is_the_same_whatever_the_gamma_of_the_vendor() -> None:
    means = [prepare(a_picture() ** gamma).square.mean() for gamma in (0.6, 1.0, 1.6)]

    assert np.ptp(means) < 0.05


@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_a_flat_rim_is_cut_off_and_known(grey: float) -> None:
    film = a_picture(600, 600)
    framed = np.pad(film, ((60, 30), (0, 90)), constant_values=grey)

    prepared = prepare(framed)

    assert prepared.box == pytest.approx((60, 660, 0, 600), abs=12)
    assert np.abs(prepared.square - prepare(film).square).mean() < 0.03


def test_a_blank_film_has_no_spread_and_harms_nothing() -> None:
    prepared = prepare(np.full((300, 300), 0.3, np.float32))

    assert prepared.spread == 0 and np.isfinite(prepared.square).all()


def test_places_in_the_square_come_back_to_received_pixels() -> None:
    film = a_picture(2400, 2000) * 0.3
    film[1090:1310, 390:610] = 1.0  # more than the one part in a hundred that the window cuts off

    prepared = prepare(film)
    row, column = np.argwhere(prepared.square > 0.999).mean(0)
    x, y = to_received(prepared, (column + 0.5) / SIDE, (row + 0.5) / SIDE)

    assert (x, y) == pytest.approx((500, 1200), abs=8)


def test_resizing_averages() -> None:
    square = prepare(a_picture()).square

    assert resized(square, SIDE) is square
    assert resized(square, 96).mean() == pytest.approx(square.mean(), abs=0.01)
