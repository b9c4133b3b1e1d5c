"""A few seconds of what the fuzzer does for minutes: its findings, and blind mutations of sound inputs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.seeds import inputs
from tests.fuzz.upper_layer import TARGETS

CORPUS = Path(__file__).parent / "corpus"
ROUNDS = {"associate": 1500, "command": 1500, "header": 400, "association": 150}


@pytest.mark.parametrize("target", TARGETS)
def test_mutations_of_sound_inputs_find_nothing(target: str) -> None:
    chance = random.Random(20261126)
    found = inputs(target)
    for _ in range(ROUNDS[target]):
        data = bytearray(chance.choice(found))
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(data))
            if chance.random() < 0.2:
                del data[at : at + chance.randint(1, 9)]
            data[at:at] = chance.randbytes(chance.randint(0, 2))
            if at < len(data):
                data[at] = chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 0x7F, 0xFF, chance.randrange(256)))
        TARGETS[target](bytes(data))


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda p: f"{p.parent.name}-{p.name[:16]}")
def test_what_the_fuzzer_once_found_is_mended(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())
