"""A received film as a foreign network was trained to see it: size, crop, range, channels. Stated in the release.

Two ways down, each as its users' reference does it: TorchXRayVision crops the middle square and resizes it as
scikit-image does; ImageNet descendants resize an 8-bit picture as Pillow does, then crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse

from triage.domain.errors import Refused

FITS = ("crop", "short_side", "squash")
_SIDES = (32, 1024)
Array = NDArray[np.float32]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PictureInput:
    """What the network eats.

    side        pixels of its square; channels 1 or 3 (the grey repeated)
    low, high   what black and white become, before mean and std of each channel
    fit         "crop": middle square, smoothed and resized; "short_side": resized so that the short side has
                `short_side` pixels, then its middle; "squash": the whole picture, whatever its ratio
    """

    side: int
    channels: int
    low: float
    high: float
    fit: str
    short_side: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def from_card(cls, card: dict[str, Any]) -> PictureInput:
        """[input] of a card or release. raises Refused naming what is missing or impossible."""
        try:
            low, high = (float(v) for v in card["range"])
            made = cls(
                side=int(card["side"]), channels=int(card["channels"]), low=low, high=high,
                fit=str(card["fit"]), short_side=int(card.get("short_side", 0)),
                mean=tuple(float(v) for v in card.get("mean", ())),
                std=tuple(float(v) for v in card.get("std", ())),
            )  # fmt: skip
        except KeyError as error:
            raise Refused(
                f"the card's [input] does not state {error.args[0]!r}; it needs side, channels, range, fit"
            ) from error
        except (TypeError, ValueError) as error:
            raise Refused(f"the card's [input] cannot be understood: {error}") from error
        made._check()
        return made

    def as_card(self) -> dict[str, Any]:
        return {
            "side": self.side, "channels": self.channels, "range": [self.low, self.high], "fit": self.fit,
            "short_side": self.short_side, "mean": list(self.mean), "std": list(self.std),
        }  # fmt: skip

    def _check(self) -> None:
        wrong = [
            ("side", _SIDES[0] <= self.side <= _SIDES[1], f"{_SIDES[0]} to {_SIDES[1]} pixels"),
            ("channels", self.channels in (1, 3), "1 or 3"),
            ("range", self.low != self.high, "two different values"),
            ("fit", self.fit in FITS, f"one of {', '.join(FITS)}"),
            ("short_side", self.fit != "short_side" or self.side <= self.short_side <= 2048, "side to 2048"),
            ("mean", len(self.mean) in (0, self.channels), "one value for each channel"),
            (
                "std",
                len(self.std) in (0, self.channels) and 0 not in self.std,
                "one value for each channel, not 0",
            ),
        ]
        for name, fits, expected in wrong:
            if not fits:
                raise Refused(f"the card's [input] has an impossible {name}: expected {expected}")

    def scaled(self, pixels: Array) -> Array:
        """Greys from 0 to 1 in the network's units."""
        return np.asarray(np.float32(self.low) + np.float32(self.high - self.low) * pixels, np.float32)

    def batch(self, pixels: Array) -> tuple[Array, Box]:
        """(1, channels, side, side) of an upright film, and the (top, bottom, left, right) of it that they show."""
        grey, box = _ways[self.fit](self, pixels)
        planes = np.repeat(grey[None], self.channels, 0)
        if self.mean:
            planes = planes - np.array(self.mean, np.float32)[:, None, None]
        if self.std:
            planes = planes / np.array(self.std, np.float32)[:, None, None]
        return np.ascontiguousarray(planes[None], dtype=np.float32), box


def _cropped(to: PictureInput, pixels: Array) -> tuple[Array, Box]:
    rows, columns = pixels.shape
    edge = min(rows, columns)
    top, left = rows // 2 - edge // 2, columns // 2 - edge // 2
    # In the network's own units first: what lies outside the picture is 0 of those (skimage, mode="constant").
    square = to.scaled(pixels[top : top + edge, left : left + edge])
    down = _smoothed_down(edge, to.side)
    small = down @ (down @ square).T  # both steps are linear and act on rows and columns alike
    return np.clip(small.T, square.min(), square.max()), (top, top + edge, left, left + edge)


@lru_cache(maxsize=8)
def _smoothed_down(edge: int, side: int) -> sparse.csr_array:
    """(side, edge) weights of a Gaussian and of linear interpolation after it, 0 outside.

    Only the pixels that are kept are computed: a twentieth of the work of smoothing all of a large film first.
    source  skimage.transform.resize with anti_aliasing; its Gaussian ends at four spreads
    """
    factor = edge / side
    spread = (factor - 1) / 2
    reach = int(4 * spread + 0.5) if factor > 1 else 0
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (steps / spread) ** 2) if reach else np.ones(1)
    at = (np.arange(side) + 0.5) * factor - 0.5
    below = np.floor(at).astype(np.int64)
    weights = np.zeros((side, edge))
    for near, share in ((below, 1 - (at - below)), (below + 1, at - below)):
        reached = near[:, None] + steps
        inside = (reached >= 0) & (reached < edge) & ((near >= 0) & (near < edge))[:, None]
        weights[np.nonzero(inside)[0], reached[inside]] += (share[:, None] * kernel / kernel.sum())[inside]
    return sparse.csr_array(weights.astype(np.float32))


def _by_short_side(to: PictureInput, pixels: Array) -> tuple[Array, Box]:
    rows, columns = pixels.shape
    edge = min(rows, columns)
    height, width = (int(to.short_side * n / edge) for n in (rows, columns))
    small = _pillow(pixels, width, height)
    top, left = round((height - to.side) / 2.0), round((width - to.side) / 2.0)
    y, x = rows / height, columns / width
    box = (top * y, (top + to.side) * y, left * x, (left + to.side) * x)
    return to.scaled(small[top : top + to.side, left : left + to.side]), box


def _squashed(to: PictureInput, pixels: Array) -> tuple[Array, Box]:
    rows, columns = pixels.shape
    return to.scaled(_pillow(pixels, to.side, to.side)), (0.0, float(rows), 0.0, float(columns))


def _pillow(pixels: Array, width: int, height: int) -> Array:
    grey = Image.fromarray(np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    return np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR), np.float32) / np.float32(255)


_ways = {"crop": _cropped, "short_side": _by_short_side, "squash": _squashed}
