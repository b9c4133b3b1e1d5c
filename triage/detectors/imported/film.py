"""A chest film classifier that others trained, as a FilmDetector: our gate and bands around their network.

Where the network tells places (a DenseNet's class activation map), what is pushed has an outline; else none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.detectors._film import prepare
from triage.detectors._runtime import Network, OpenVinoNetwork, inference_threads, open_network
from triage.detectors.calibration import Calibration
from triage.detectors.chest_xray import outline
from triage.detectors.imported.picture import Array, Box, PictureInput
from triage.detectors.protocol import Detection
from triage.detectors.releases import Release, load_release
from triage.detectors.suitability import Gate, UprightFilm, turned_back
from triage.domain.finding import Location
from triage.domain.image import Radiograph
from triage.domain.suitability import NotSuitableError, ReasonCode

_SHORTEST_SIDE = 200  # pixels; standards 4.1
_CERTAIN = 1e-7  # a probability of 0 or 1 has no logit


class ImportedFilm:
    """FilmDetector of one imported release."""

    name = "chest_xray"

    def __init__(self, release: Release, network: Network, gate: Network) -> None:
        self.release, self.digest = release.title, release.digest
        self.findings: tuple[str, ...] = tuple(release.content["findings"])
        self._outputs = [int(release.content["outputs"][name]) for name in self.findings]
        self._description = release.content["network"]
        self.input = PictureInput.from_card(release.content["input"])
        self._calibration = Calibration.from_release(release.content)
        self._not_covered = release.not_covered
        self._network, self._gate = network, Gate(gate, release.content["gate"])
        self._golden, self.runtime = release.folder / "golden.npz", network.runtime

    def detect(self, film: Radiograph) -> Detection:
        """Every finding of the release for one film.

        raises  NotSuitableError when the pixels are no frontal adult chest film, or too few
        """
        rows, columns = film.pixels.shape
        if min(rows, columns) < _SHORTEST_SIDE:
            raise NotSuitableError(ReasonCode.TOO_SMALL, f"{rows} x {columns}, limit {_SHORTEST_SIDE}")
        upright = self._gate.upright(prepare(film.pixels), (rows, columns))
        pixels = np.rot90(1 - film.pixels if upright.inverted else film.pixels, upright.turns)
        batch, box = self.input.batch(np.ascontiguousarray(pixels))
        logits, maps = self.scores(batch)
        findings = tuple(
            self._calibration.finding(name, float(logit), _location(place, box, upright, (rows, columns)))
            for name, logit, place in zip(self.findings, logits, maps, strict=True)
        )
        return Detection(findings, self._not_covered, upright.notes)

    def scores(self, batch: Array) -> tuple[NDArray[np.float32], list[NDArray[np.float32] | None]]:
        """Logits (findings,) of one batch of one, and the map of each where the network has maps."""
        outputs = self._network(
            batch.transpose(0, 2, 3, 1) if self._description["layout"] == "NHWC" else batch
        )
        values = outputs[int(self._description["output"])][0][self._outputs]
        if self._description["result"] == "probabilities":
            certain = np.clip(values.astype(np.float64), _CERTAIN, 1 - _CERTAIN)
            values = np.log(certain / (1 - certain)).astype(np.float32)
        if self._description["kind"] != "densenet121":
            return values, [None] * len(self.findings)
        return values, [outputs[1][0][i] for i in self._outputs]

    def verify(self) -> float:
        """Largest difference of the logits of the golden case from those that the release was made with."""
        with np.load(self._golden, allow_pickle=False) as golden:
            pairs = zip(golden["greys"], golden["logits"], strict=True)
            return float(max(np.abs(self.answered(grey) - logits).max() for grey, logits in pairs))

    def answered(self, grey: Array) -> NDArray[np.float32]:
        """Logits of a grey square, without gate: what golden cases are made of."""
        return self.scores(self.input.batch(grey)[0])[0]


def load(folder: Path, runtime: str = "openvino") -> ImportedFilm:
    """The detector of the imported release in `folder`, verified.

    raises   Misconfigured when the release is damaged or has no such runtime
    """
    return opened(load_release(folder), runtime)


def opened(release: Release, runtime: str) -> ImportedFilm:
    """The detector of a release whose files were checked, or are just being made."""
    folder = release.folder
    network = open_network(
        runtime, folder / "model.xml", folder / "weights.safetensors", lambda: _module(release.content)
    )
    # The gate is a hundredth of the work: OpenVINO on every machine.
    return ImportedFilm(release, network, OpenVinoNetwork(folder / "gate.xml", inference_threads()))


def _module(content: dict[str, Any]) -> Any:
    from triage.detectors.imported.densenet import DenseNet121  # torch: workers on OpenVINO never load it

    return DenseNet121(int(content["input"]["channels"]), len(content["labels"]))


def _location(
    place: NDArray[np.float32] | None, box: Box, upright: UprightFilm, shape: tuple[int, int]
) -> Location | None:
    """Outline around the peak of a map, in pixels of the received image. Side is not guessed (H13)."""
    if place is None:
        return None
    rows, columns = shape if upright.turns % 2 == 0 else shape[::-1]
    top, bottom, left, right = box
    corners = []
    for x, y in outline(place):
        across, down = (left + x * (right - left)) / columns, (top + y * (bottom - top)) / rows
        u, v = turned_back(across, down, upright.turns)
        corners.append((round(u * shape[1] - 0.5, 1), round(v * shape[0] - 0.5, 1)))
    return Location(outline=tuple(corners))
