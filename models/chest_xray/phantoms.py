"""Phantom films for the training mix and for the check of a release, with findings at known places.

    python -m models.chest_xray.phantoms --out /tmp/cxr-phantoms.npz --first 10000 --count 360

Only seeds from 10000 to 10999 are trained on: tests, demo and the constancy check draw theirs elsewhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.chest_xray.films import AUXILIARY, FINDINGS, Films
from triage.detectors._film import SIDE, prepare
from triage.phantom import FINDINGS as SHOWN
from triage.phantom import make_thorax, render_radiograph

FIRST_TRAINED = 10000
_FREE = 0.3  # part without any finding
_EACH = 0.3  # chance of each finding in the others


def findings_of(seed: int) -> tuple[str, ...]:
    """What the phantom of a training seed shows."""
    dice = np.random.default_rng([seed, 99])
    if dice.random() < _FREE:
        return ()
    return tuple(name for name in SHOWN if dice.random() < _EACH)


def rendered(seed: int, findings: tuple[str, ...], size_px: int) -> NDArray[np.uint8]:
    """The prepared square of one phantom film."""
    film = render_radiograph(make_thorax(seed, findings), size_px=size_px)
    return np.rint(prepare(film.pixels).square * 255).astype(np.uint8)


def load_phantoms(path: Path) -> Films:
    """The films that this program wrote, with labels: what a phantom cannot show is not known, not absent."""
    with np.load(path) as stored:
        squares, shown = stored["squares"], stored["shown"]
    n = len(squares)
    labels = np.full((n, len(FINDINGS) + len(AUXILIARY)), np.nan, np.float32)
    for column, name in enumerate(SHOWN):
        labels[:, FINDINGS.index(name)] = shown[:, column]
    anything = shown.any(1)
    labels[:, FINDINGS.index("abnormal")] = anything
    labels[:, len(FINDINGS) + AUXILIARY.index("no_finding")] = ~anything
    for healthy_only in ("edema", "atelectasis", "infiltration", "pneumonia", "mass", "lung_opacity"):
        labels[~anything, FINDINGS.index(healthy_only)] = 0
    word = np.full(n, "phantom")
    return Films(
        ids=[f"phantom_{i}" for i in range(n)], squares=squares, labels=labels, source=word, stratum=word,
        split=np.full(n, "train"), fold=np.full(n, -1), core=np.zeros(n, bool), view=np.full(n, "PA"), patient=word,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=FIRST_TRAINED)
    parser.add_argument("--count", type=int, default=360)
    parser.add_argument("--only", choices=("mixed", "pairs"), default="mixed",
                        help="pairs: none and pneumothorax in turn, for the operating point")  # fmt: skip
    arguments = parser.parse_args()
    squares = np.empty((arguments.count, SIDE, SIDE), np.uint8)
    shown = np.zeros((arguments.count, len(SHOWN)), bool)
    for i in range(arguments.count):
        pair: tuple[str, ...] = ("pneumothorax",) if i % 2 else ()
        findings = findings_of(arguments.first + i) if arguments.only == "mixed" else pair
        shown[i] = [name in findings for name in SHOWN]
        squares[i] = rendered(arguments.first + i, findings, (512, 640, 1000)[i % 3])
        if (i + 1) % 40 == 0:
            print(f"phantoms {i + 1}/{arguments.count}", flush=True)
    np.savez(arguments.out, squares=squares, shown=shown)


if __name__ == "__main__":
    main()
