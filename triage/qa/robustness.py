"""How far a film detector's figures fall when the same films come with noise, another dose or window, turned or marked.

Each disturbance stands for a difference between hospitals or exposures that leaves the findings as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from triage.detectors.protocol import FilmDetector
from triage.domain import statistics
from triage.domain.image import Radiograph
from triage.domain.suitability import NotSuitableError

Grey = NDArray[np.float32]
Change = Callable[[Grey, np.random.Generator], Grey]
UNDISTURBED = "as they are"
_QUANTA = (
    100  # per pixel in the brightest part: about a tenth of a chest film's usual dose at this pixel size
)


def _quantum_noise(film: Grey, dice: np.random.Generator) -> Grey:
    quanta = np.clip(1 - film, 0.02, 1) * _QUANTA
    return np.clip(1 - dice.poisson(quanta) / _QUANTA, 0, 1).astype(np.float32)


def _marked(film: Grey, _: np.random.Generator) -> Grey:
    """A white plate at the top left, about as large as a lead letter with its holder."""
    marked, side = film.copy(), min(film.shape)
    marked[side // 25 : side // 8, side // 25 : side // 12] = 1.0
    return marked


CHANGES: Mapping[str, Change] = {
    UNDISTURBED: lambda film, _: film,
    "noise, sigma 0.05": lambda film, dice: np.clip(
        film + 0.05 * dice.standard_normal(film.shape, np.float32), 0, 1
    ),
    "blur, sigma 0.4 % of the side": lambda film, _: ndimage.gaussian_filter(film, 0.004 * min(film.shape)),
    f"lower dose, {_QUANTA} quanta a pixel": _quantum_noise,
    "gamma 0.6": lambda film, _: film**0.6,
    "gamma 1.6": lambda film, _: film**1.6,
    "window cut by 15 % on both ends": lambda film, _: np.clip((film - 0.15) / 0.7, 0, 1),
    "turned by 5 degrees": lambda film, _: ndimage.rotate(film, 5, reshape=False, order=1),
    "black border of 12 %": lambda film, _: np.pad(film, int(0.12 * min(film.shape))),
    "white marker": _marked,
    "mirrored": lambda film, _: film[:, ::-1],
}


def disturbed_scores(
    film: Radiograph, detector: FilmDetector, dice: np.random.Generator
) -> dict[str, dict[str, float] | None]:
    """Raw probability of each finding under each of CHANGES; None where the detector refuses."""
    scores: dict[str, dict[str, float] | None] = {}
    for name, change in CHANGES.items():
        pixels = np.ascontiguousarray(change(film.pixels, dice), dtype=np.float32)
        try:
            found = detector.detect(Radiograph(pixels)).findings
        except NotSuitableError:
            scores[name] = None
            continue
        scores[name] = {f.name: f.probability_raw for f in found}
    return scores


def robustness(
    labels: Sequence[Mapping[str, bool]], scores: Sequence[Mapping[str, dict[str, float] | None]]
) -> dict[str, Any]:
    """By disturbance: refused films, mean AUC, and by how much it lies below that of the undisturbed same films.

    labels, scores  one entry a film
    """
    table = {}
    for change in CHANGES:
        kept = [i for i, s in enumerate(scores) if s[change] is not None and s[UNDISTURBED] is not None]
        now, before = (_areas(labels, scores, kept, name) for name in (change, UNDISTURBED))
        means = [float(np.mean(list(areas.values()))) if areas else float("nan") for areas in (now, before)]
        table[change] = {
            "refused": sum(s[change] is None for s in scores),
            "mean_auc": _rounded(means[0]),
            "fall": _rounded(means[1] - means[0]),
            "findings": {name: _rounded(area) for name, area in now.items()},
        }
    return table


def _areas(
    labels: Sequence[Mapping[str, bool]],
    scores: Sequence[Mapping[str, dict[str, float] | None]],
    kept: Sequence[int],
    change: str,
) -> dict[str, float]:
    found = {}
    for name in {n: None for i in kept for n in labels[i]}:
        rows = [i for i in kept if name in labels[i] and name in (scores[i][change] or {})]
        truth = [labels[i][name] for i in rows]
        if 0 < sum(truth) < len(truth):
            found[name] = statistics.auc(truth, [(scores[i][change] or {})[name] for i in rows]).value
    return found


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
