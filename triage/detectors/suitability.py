"""Is this picture an upright frontal film of an adult chest? Asked of the pixels, before any finding.

Tags were judged before (domain.suitability); they lie. What stands on its side or in negative is put right for
the network and noted; everything else that is not a frontal adult chest is refused with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.detectors._film import PreparedFilm, resized
from triage.detectors._runtime import Network
from triage.domain.suitability import NotSuitable, NotSuitableError, ReasonCode

# Order of the gate network's outputs: kinds of picture, then quarter turns, then polarity.
KINDS = ("frontal", "lateral", "child", "cropped", "other_radiograph", "other_modality", "not_medical",
         "collage", "blank")  # fmt: skip
TURNS = (0, 1, 2, 3)  # counter-clockwise quarter turns that put the picture upright
REASONS = {
    "lateral": (ReasonCode.LATERAL_ONLY, "by the picture"),
    "child": (ReasonCode.OUT_OF_AGE, "by the picture"),
    "cropped": (ReasonCode.FIELD_OF_VIEW, ""),
    "other_radiograph": (ReasonCode.WRONG_BODY_PART, "by the picture"),
    "other_modality": (ReasonCode.WRONG_BODY_PART, "not a radiograph"),
    "not_medical": (ReasonCode.OUT_OF_DISTRIBUTION, "not a radiograph"),
    "collage": (ReasonCode.OUT_OF_DISTRIBUTION, "several pictures in one"),
    "blank": (ReasonCode.LOW_QUALITY, "blank or saturated"),
}
_LEAST_SPREAD = 0.02  # of the grey range: below this there is no picture at all
# Real train and val films: clipped at most 0.11, and 0.47 where a window cuts 15 % at both ends; bits at least 3.5.
_MOST_CLIPPED, _LEAST_BITS = 0.45, 3.2
_WIDEST = 1.7  # long side over short side; standards 4.1


@dataclass(frozen=True, eq=False)
class UprightFilm:
    """A film that the gate accepted.

    square  (SIDE, SIDE) float32, upright, bone bright
    turns   quarter turns (counter-clockwise) that made it upright; notes says it in words
    inverted  its greys were turned round before that
    """

    square: NDArray[np.float32]
    turns: int
    notes: tuple[str, ...]
    inverted: bool = False


class Gate:
    """The gate network of a release with its cuts."""

    def __init__(self, network: Network, content: dict[str, Any]) -> None:
        self._network = network
        self._side = int(content["side"])
        self._accept = float(content["accept"])
        self._sure = float(content["sure"])

    def upright(self, prepared: PreparedFilm, shape: tuple[int, int]) -> UprightFilm:
        """The film as findings networks want it.

        shape   (rows, columns) of the received image
        raises  NotSuitableError with the reason a reader sees
        """
        if prepared.spread < _LEAST_SPREAD:
            raise NotSuitableError(ReasonCode.LOW_QUALITY, "blank or saturated")
        if max(shape) > _WIDEST * min(shape):
            raise NotSuitableError(ReasonCode.GEOMETRY, f"ratio of sides above {_WIDEST}")
        film = self._put_right(prepared.square)
        refusal = self._refusal(self._ask(film.square)[0])
        if refusal is not None:
            raise NotSuitableError(refusal.code, refusal.detail)
        # Last, since pages and patterns have few greys too and the network knows them for what they are.
        if prepared.clipped > _MOST_CLIPPED or prepared.bits < _LEAST_BITS:
            raise NotSuitableError(ReasonCode.LOW_QUALITY, "driven to black or white")
        return film

    def _put_right(self, square: NDArray[np.float32]) -> UprightFilm:
        """Turned and inverted only where the network is sure; a doubt leaves the film as it came.

        Polarity first: what is a turn can be told much better on a film whose bones are bright.
        """
        notes: list[str] = []
        inverted = bool(self._ask(square)[2][1] >= self._sure)
        if inverted:
            square = 1.0 - square
            notes.append("inverted greys put right")
        turn = self._ask(square)[1]
        turns = int(turn.argmax()) if turn.max() >= self._sure else 0
        if turns:
            square = np.rot90(square, turns)
            notes.append(f"rotated by {90 * turns} degrees to stand upright")
        return UprightFilm(np.ascontiguousarray(square), turns, tuple(notes), inverted)

    def _refusal(self, kinds: NDArray[np.float64]) -> NotSuitable | None:
        if kinds[0] >= self._accept:
            return None
        likeliest = KINDS[1 + int(kinds[1:].argmax())]
        return NotSuitable(*REASONS[likeliest])

    def _ask(self, square: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
        """Probabilities of kinds, turns and polarity."""
        (logits,) = self._network(resized(square, self._side)[None, None])
        cuts = (len(KINDS), len(KINDS) + len(TURNS))
        return tuple(_softmax(part) for part in np.split(logits[0].astype(np.float64), cuts))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


def turned_back(x: float, y: float, turns: int) -> tuple[float, float]:
    """A place in the upright square (0 to 1, from the top left) in the square as it was received."""
    for _ in range(turns):
        x, y = 1.0 - y, x
    return x, y
