"""Findings of a frontal adult chest radiograph: gate, network, calibration, and an outline of what is pushed.

Loaded once per worker (`load`), then `detect` per film. The order of the network's outputs, its input side,
calibration and thresholds all come from the release; models/chest_xray/ makes such releases.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.detectors._film import PreparedFilm, prepare, resized, to_received
from triage.detectors._runtime import Network, open_network
from triage.detectors.calibration import Calibration
from triage.detectors.protocol import Detection
from triage.detectors.releases import Release, load_release
from triage.detectors.suitability import Gate, UprightFilm, turned_back
from triage.domain.finding import Location
from triage.domain.image import Radiograph
from triage.domain.suitability import NotSuitableError, ReasonCode

_SHORTEST_SIDE = 200  # pixels; standards 4.1
_RAYS = 32  # corners of an outline
_FALL = 0.5  # an outline lies where the map has fallen half way from its peak to its median


class ChestXray:
    """FilmDetector of one release."""

    name = "chest_xray"

    def __init__(self, release: Release, network: Network, gate: Network) -> None:
        self.release, self.digest = release.title, release.digest
        self.findings: tuple[str, ...] = tuple(release.content["findings"])
        self._side = int(release.content["network"]["side"])
        self._calibration = Calibration.from_release(release.content)
        self._not_covered = release.not_covered
        self._network, self._gate = network, Gate(gate, release.content["gate"])
        self._golden, self.runtime = release.folder / "golden.npz", network.runtime

    def detect(self, film: Radiograph) -> Detection:
        """Every finding of the release for one film, actionable or not.

        raises  NotSuitableError when the pixels are no frontal adult chest film, or too few
        """
        rows, columns = film.pixels.shape
        if min(rows, columns) < _SHORTEST_SIDE:
            raise NotSuitableError(ReasonCode.TOO_SMALL, f"{rows} x {columns}, limit {_SHORTEST_SIDE}")
        prepared = prepare(film.pixels)
        upright = self._gate.upright(prepared, (rows, columns))
        logits, maps = self.scores(upright.square)
        findings = tuple(
            self._calibration.finding(name, float(logit), _location(prepared, upright, place))
            for name, logit, place in zip(self.findings, logits, maps, strict=True)
        )
        return Detection(findings, self._not_covered, upright.notes)

    def place(self, film: Radiograph, finding: str) -> Location:
        """Where one finding would be outlined, actionable or not: for measuring how well it points."""
        prepared = prepare(film.pixels)
        upright = self._gate.upright(prepared, film.pixels.shape)
        _, maps = self.scores(upright.square)
        return _location(prepared, upright, maps[self.findings.index(finding)])

    def scores(self, square: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (findings,) and their maps (findings, rows, columns) of one prepared upright square."""
        logits, maps = self._network(resized(square, self._side)[None, None])
        return logits[0], maps[0]

    def verify(self) -> float:
        """Largest difference of the logits of the golden case from those that the release was made with."""
        with np.load(self._golden, allow_pickle=False) as golden:
            pairs = zip(golden["inputs"], golden["logits"], strict=True)
            return float(max(np.abs(self.scores(square[0])[0] - logits).max() for square, logits in pairs))


def load(folder: Path, runtime: str = "openvino") -> ChestXray:
    """The detector of the release in `folder`, verified, warm.

    runtime  "openvino" (CPU, the default), "torch" (CPU, for comparison) or "cuda" (bfloat16)
    raises   Misconfigured when the release is damaged or the runtime is not known
    """
    release = load_release(folder)
    detector = ChestXray(release, _network(release, "model", runtime), _network(release, "gate", runtime))
    detector.scores(np.full((256, 256), 0.5, np.float32))  # the first study must not pay for the start
    return detector


def _network(release: Release, stem: str, runtime: str) -> Network:
    description = release.content["network" if stem == "model" else stem]
    weights = release.folder / ("weights.safetensors" if stem == "model" else f"{stem}.safetensors")

    def build() -> Any:
        from triage.detectors._nets2d import build  # torch: workers on OpenVINO never load it

        return build(description)

    return open_network(runtime, release.folder / f"{stem}.xml", weights, build)


def _location(prepared: PreparedFilm, upright: UprightFilm, place: NDArray[np.float32]) -> Location:
    """Outline around the peak of a finding's map, in pixels of the received image. Side is not guessed (H13)."""
    corners = (turned_back(x, y, upright.turns) for x, y in outline(place))
    return Location(outline=tuple(_rounded(to_received(prepared, x, y)) for x, y in corners))


def _rounded(point: tuple[float, float]) -> tuple[float, float]:
    return round(point[0], 1), round(point[1], 1)


def outline(place: NDArray[np.float32]) -> list[tuple[float, float]]:
    """Closed polygon, x and y from 0 to 1: from the peak outwards along rays until the map has fallen."""
    rows, columns = place.shape
    top, left = divmod(int(place.argmax()), columns)
    floor = float(np.median(place)) + _FALL * float(place.max() - np.median(place))
    polygon = []
    for ray in range(_RAYS):
        angle = 2 * math.pi * ray / _RAYS
        reach = 0.5  # in cells: never less than the peak's own cell
        while reach < max(rows, columns):
            y, x = top + reach * math.sin(angle), left + reach * math.cos(angle)
            inside = -0.5 <= y <= rows - 0.5 and -0.5 <= x <= columns - 0.5
            if not inside or _between_cells(place, y, x) < floor:
                break
            reach += 0.25
        y = min(max(top + reach * math.sin(angle) + 0.5, 0.0), float(rows))
        x = min(max(left + reach * math.cos(angle) + 0.5, 0.0), float(columns))
        polygon.append((x / columns, y / rows))
    return polygon


def _between_cells(place: NDArray[np.float32], y: float, x: float) -> float:
    """Bilinear value of the map at a place given in cells."""
    y = min(max(y, 0.0), place.shape[0] - 1.0)
    x = min(max(x, 0.0), place.shape[1] - 1.0)
    top, left = min(int(y), place.shape[0] - 2), min(int(x), place.shape[1] - 2)
    v, u = y - top, x - left
    corner = place[top : top + 2, left : left + 2]
    upper = corner[0, 0] * (1 - u) + corner[0, 1] * u
    lower = corner[1, 0] * (1 - u) + corner[1, 1] * u
    return float(upper * (1 - v) + lower * v)
