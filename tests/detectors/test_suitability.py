"""The gate: only upright adult frontal films pass; what can be put right is, and the reader hears why."""

from __future__ import annotations

import numpy as np
import pytest

from triage.detectors._film import PreparedFilm, prepare
from triage.detectors.suitability import KINDS, REASONS, TURNS, Gate, turned_back
from triage.domain.suitability import NotSuitableError, ReasonCode

CONTENT = {"side": 96, "accept": 0.3, "sure": 0.9}


class CornerNetwork:
    """Knows its one film by a bright upper left corner: turned and inverted ones it sees by where that went."""

    runtime = "fake"

    def __init__(self, kind: str = "frontal", surety: float = 20.0) -> None:
        self.kind, self.surety = kind, surety

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        square = batch[0, 0]
        logits = np.zeros((1, len(KINDS) + len(TURNS) + 2), np.float32)
        logits[0, KINDS.index(self.kind)] = self.surety
        inverted = square.mean() > 0.5
        corner = 1 - square if inverted else square
        corners = [corner[:20, :20], corner[:20, -20:], corner[-20:, -20:], corner[-20:, :20]]
        turns = int(
            np.argmax([c.mean() for c in corners])
        )  # a corner at the right needs one turn to the left
        logits[0, len(KINDS) + turns] = self.surety
        logits[0, len(KINDS) + len(TURNS) + int(inverted)] = self.surety
        return (logits,)


def marked() -> np.ndarray:
    square = np.full((256, 256), 0.2, np.float32)
    square[:60, :60] = 1.0
    return square


def prepared(square: np.ndarray) -> PreparedFilm:
    whole = (0, 256, 0, 256)
    return PreparedFilm(np.ascontiguousarray(square), box=whole, spread=0.8, clipped=0.0, bits=5.0)


@pytest.mark.parametrize("threshold", [0.35, 0.5, 0.65])
def test_a_film_driven_to_black_and_white_is_refused(threshold: float) -> None:
    soft = np.random.default_rng(0).random((12, 12)).astype(np.float32)
    film = np.kron(soft, np.ones((50, 50), np.float32))
    driven = np.clip((film - threshold) * 12 + 0.5, 0, 1)

    Gate(CornerNetwork(surety=0.0), CONTENT | {"accept": 0.1}).upright(prepare(film), film.shape)
    with pytest.raises(NotSuitableError) as refusal:
        Gate(CornerNetwork(), CONTENT).upright(prepare(driven), film.shape)

    assert refusal.value.answer.code is ReasonCode.LOW_QUALITY


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("inverted", [False, True])
def test_turned_and_inverted_films_are_put_right_and_noted(turns: int, inverted: bool) -> None:
    received = np.rot90(marked(), -turns)
    received = 1 - received if inverted else received

    film = Gate(CornerNetwork(), CONTENT).upright(prepared(received), (256, 256))

    assert np.allclose(film.square, marked())
    assert film.turns == turns
    assert len(film.notes) == bool(turns) + inverted


def test_a_doubtful_turn_is_left_alone() -> None:
    film = Gate(CornerNetwork(surety=1.5), CONTENT).upright(prepared(np.rot90(marked())), (256, 256))

    assert film.turns == 0 and film.notes == ()


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "frontal"])
def test_every_other_kind_of_picture_is_refused_with_its_reason(kind: str) -> None:
    with pytest.raises(NotSuitableError) as refusal:
        Gate(CornerNetwork(kind), CONTENT).upright(prepared(marked()), (256, 256))

    assert refusal.value.answer.code is REASONS[kind][0]


def test_a_blank_film_and_a_strip_are_refused_without_asking_the_network() -> None:
    gate = Gate(CornerNetwork(), CONTENT)

    with pytest.raises(NotSuitableError) as blank:
        gate.upright(prepare(np.full((400, 400), 0.5, np.float32)), (400, 400))
    with pytest.raises(NotSuitableError) as strip:
        gate.upright(prepared(marked()), (1000, 400))

    assert blank.value.answer.code is ReasonCode.LOW_QUALITY
    assert strip.value.answer.code is ReasonCode.GEOMETRY


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_places_in_the_upright_film_come_back_to_the_received_one(turns: int) -> None:
    received = np.zeros((100, 100), np.float32)
    received[20, 70] = 1.0
    row, column = np.unravel_index(int(np.rot90(received, turns).argmax()), (100, 100))

    x, y = turned_back((column + 0.5) / 100, (row + 0.5) / 100, turns)

    assert (x, y) == pytest.approx((0.705, 0.205))
