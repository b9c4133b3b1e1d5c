"""MONAI's lung nodule bundle as a `ScanDetector`: its boxes, then our lungs, measurements and findings.

The network sees the lungs with a margin rather than the whole scan, and a box whose middle is outside them is dropped.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from triage.detectors._grid import Grid, resample
from triage.detectors._runtime import RUNTIMES, inference_threads, load_safetensors
from triage.detectors.imported.retinanet import HIGH_HU, LOW_HU, STEP_MM, Array, Boxes, network
from triage.detectors.lung_nodule import GROW_MM, LungNodule, Place
from triage.detectors.lungs import Lungs
from triage.detectors.releases import Release, load_release
from triage.domain.errors import Misconfigured
from triage.domain.finding import Finding, Measurements, SliceMask

_MARGIN_MM = 16.0  # of tissue around the lungs that the network sees
_CERTAIN = 1e-7  # a probability of 0 or 1 has no logit


class ImportedNodule(LungNodule):
    """`ScanDetector` of one imported release."""

    def __init__(self, release: Release, boxes: Boxes) -> None:
        self.release, self.digest = release.title, release.digest
        self.not_covered, self._calibrated = release.not_covered, release.calibrated
        self._content, self._boxes, self.runtime = release.content, boxes, boxes.runtime
        self._golden = release.folder / "golden.npz"

    def places(self, source: Grid, lungs: Lungs) -> list[Place]:
        """The boxes in the lungs, best first."""
        inside = lungs.grown(GROW_MM)
        return [p for p in boxed(self._boxes, around(source, lungs)) if _holds(inside, p)]

    def probability(self, place: Place) -> tuple[float, float]:
        """(raw, calibrated): the score of the box, which nobody fitted to anything here."""
        score = float(1 / (1 + np.exp(-place.finder)))
        return score, score

    def verify(self) -> float:
        """Largest difference of the network's golden output from the one that the release was made with."""
        with np.load(self._golden, allow_pickle=False) as golden:
            return float(np.abs(self._boxes.raw(golden["image"]) - golden["output"]).max())

    def _finding(
        self, raw: float, probability: float, m: Measurements, region: tuple[SliceMask, ...], lungs: Lungs
    ) -> Finding:
        found = super()._finding(raw, probability, m, region, lungs)
        return found if self._calibrated else replace(found, actionable=False, threshold=None)


def load(folder: Path, runtime: str = "openvino") -> ImportedNodule:
    """The detector of the imported release in `folder`, verified. "openvino" computes with torch on the CPU here.

    raises   Misconfigured when the release is damaged, MONAI is absent, or there is no such runtime
    """
    if runtime not in RUNTIMES:
        raise Misconfigured(f"runtime {runtime!r} is not known; choose one of {', '.join(RUNTIMES)}")
    release = load_release(folder)
    module = load_safetensors(network(), folder / "weights.safetensors")
    return ImportedNodule(release, Boxes(module, "cuda" if runtime == "cuda" else "cpu", inference_threads()))


def around(source: Grid, lungs: Lungs) -> Grid:
    """The lungs with their margin on the bundle's grid."""
    where = np.argwhere(lungs.mask)
    corners = source.to_index(lungs.grid.to_lps(np.array([where.min(0), where.max(0)], float)))
    margin = _MARGIN_MM / np.array(source.spacing)
    low = np.maximum(corners[0] - margin, 0)
    high = np.minimum(corners[1] + margin, np.array(source.hu.shape) - 1)
    counts = np.floor((high - low) * np.array(source.spacing) / np.array(STEP_MM)).astype(int) + 1
    return resample(source, STEP_MM, low, (int(counts[0]), int(counts[1]), int(counts[2])))


def boxed(boxes: Boxes, grid: Grid) -> list[Place]:
    """Places of the boxes on a grid of `STEP_MM`, best first; a place's diameter is the mean side of its box."""
    values = np.clip((grid.hu.astype(np.float32) - LOW_HU) / (HIGH_HU - LOW_HU), 0.0, 1.0)
    image: Array = np.ascontiguousarray(
        values[:, ::-1, ::-1].transpose(2, 1, 0)
    )  # (x, y, z), to right and front
    corners, scores = boxes(image)
    middles = (corners[:, :3] + corners[:, 3:]).astype(float) / 2
    middles[:, :2] = np.array(image.shape[:2]) - 1 - middles[:, :2]
    sides = (corners[:, 3:] - corners[:, :3]) * np.array(STEP_MM)[::-1]
    certain = np.clip(scores.astype(float), _CERTAIN, 1 - _CERTAIN)
    logits = np.log(certain / (1 - certain))
    return [
        Place((float(at[0]), float(at[1]), float(at[2])), float(side), float(logit))
        for at, side, logit in zip(grid.to_lps(middles[:, ::-1]), sides.mean(1), logits, strict=True)
    ]


def _holds(lungs: Lungs, place: Place) -> bool:
    index = np.round(lungs.grid.to_index(np.array([place.center_lps_mm]))[0]).astype(int)
    shape = np.array(lungs.mask.shape)
    return bool((index >= 0).all() and (index < shape).all() and lungs.mask[tuple(index)])
