"""From received pixels to the square that every film network sees: one way for training and for hospitals.

The steps take away what differs between sources without being anatomy: black or white rims, window and
exposure, picture size, aspect ratio (NIH films were squashed to squares by their publisher, so all are).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 320  # pixels of a prepared film; networks resize from here
_WORKING = 512  # the long way down goes by whole-block means to about this size first
_PERCENTILES = (1.0, 99.0)
_GREY = 0.5  # the mean grey that gamma aims at, so that exposure is no feature
_FLATTEST, _STEEPEST = 0.4, 2.5
_RIM = 0.06  # a rim line varies less than this part of the whole range
_OUTER, _END, _ENDS = 0.15, 0.02, (0.5, 99.5)
_LEAST_LEFT = 0.6  # a crop that would leave less than this of a side is not believed


@dataclass(frozen=True, eq=False)
class PreparedFilm:
    """A film as networks see it, and the way back.

    square  (SIDE, SIDE) float32 in [0, 1], dense bone bright, mean grey near one half
    box     (top, bottom, left, right) of the received image that the square shows, in pixels
    spread  98 % range of the received grey values, 0 for a blank film
    clipped share of the middle's pixels that lie at the darkest or brightest end of the picture's greys
    bits    entropy of the middle's greys in 64 classes: 6 when all are used alike, 0 for one grey
    """

    square: NDArray[np.float32]
    box: tuple[float, float, float, float]
    spread: float
    clipped: float
    bits: float


def prepare(pixels: NDArray[np.float32]) -> PreparedFilm:
    """The network's square of one film.

    pixels  (rows, columns) float32 in [0, 1], any size from 2 x 2 on
    """
    small, factor = _reduced(pixels)
    low, high = np.percentile(small, _PERCENTILES)
    top, bottom, left, right = _without_rim(small, float(high - low))
    inner = small[top:bottom, left:right]
    square = _exposed(_resized(inner, SIDE))
    clipped, bits = _use_of_greys(inner)
    return PreparedFilm(
        clipped=clipped,
        bits=bits,
        square=square,
        box=(top * factor, bottom * factor, left * factor, right * factor),
        spread=float(high - low),
    )


def resized(square: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """A prepared square at a network's own input side, by area averaging."""
    return square if square.shape[0] == side else _resized(square, side)


def to_received(prepared: PreparedFilm, x: float, y: float) -> tuple[float, float]:
    """(column, row) in the received image of a place in the square, x and y from 0 to 1."""
    top, bottom, left, right = prepared.box
    return left + x * (right - left) - 0.5, top + y * (bottom - top) - 0.5


def _use_of_greys(inner: NDArray[np.float32]) -> tuple[float, float]:
    """(clipped, bits) of PreparedFilm; the outer 15 % at each side may be air, collimator or text and say nothing."""
    rows, columns = (int(_OUTER * n) for n in inner.shape)
    middle = inner[rows : inner.shape[0] - rows, columns : inner.shape[1] - columns]
    low, high = (float(v) for v in np.percentile(inner, _ENDS))  # a lead marker must not press all else
    if high <= low:
        return 1.0, 0.0
    unit = np.clip((middle - low) / (high - low), 0, 1)
    shares = np.histogram(unit, 64, (0, 1))[0] / unit.size
    shares = shares[shares > 0]
    clipped = float(np.mean((unit < _END) | (unit > 1 - _END)))
    return clipped, float(-(shares * np.log2(shares)).sum())


def _reduced(pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    factor = max(1, min(pixels.shape) // _WORKING)
    if factor == 1:
        return np.ascontiguousarray(pixels, dtype=np.float32), 1
    rows, columns = (n // factor * factor for n in pixels.shape)
    # Whole blocks only: a partial last block would shift the way back by a fraction of a pixel.
    picture = Image.fromarray(np.ascontiguousarray(pixels[:rows, :columns], dtype=np.float32))
    return np.asarray(picture.reduce(factor), dtype=np.float32), factor


def _without_rim(small: NDArray[np.float32], spread: float) -> tuple[int, int, int, int]:
    """Rows and columns to keep: flat lines at the edges (collimator, padding) go."""
    rows, columns = small.shape
    if spread <= 0:
        return 0, rows, 0, columns
    top, bottom = _span(np.percentile(small, 95, axis=1) - np.percentile(small, 5, axis=1), spread)
    left, right = _span(
        np.percentile(small[top:bottom], 95, 0) - np.percentile(small[top:bottom], 5, 0), spread
    )
    return top, bottom, left, right


def _span(variation: NDArray[np.floating], spread: float) -> tuple[int, int]:
    lively = np.flatnonzero(variation > _RIM * spread)
    if lively.size == 0 or lively[-1] + 1 - lively[0] < _LEAST_LEFT * variation.size:
        return 0, int(variation.size)
    return int(lively[0]), int(lively[-1]) + 1


def _resized(picture: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    image = Image.fromarray(np.ascontiguousarray(picture, dtype=np.float32))
    smaller = min(picture.shape) >= side
    how = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
    return np.array(image.resize((side, side), how), dtype=np.float32)  # a copy: torch wants it writable


def _exposed(square: NDArray[np.float32]) -> NDArray[np.float32]:
    """Percentile window, then the gamma that brings the mean grey to one half."""
    low, high = (float(v) for v in np.percentile(square, _PERCENTILES))
    if high - low < 1e-6:
        return np.full_like(square, _GREY)
    unit = np.clip((square - low) / (high - low), 0.0, 1.0)
    mean = float(np.clip(unit.mean(), 0.05, 0.95))
    gamma = float(np.clip(np.log(_GREY) / np.log(mean), _FLATTEST, _STEEPEST))
    return np.asarray(unit**gamma, dtype=np.float32)
