"""A detector as an outside package writes it, in one file: what docs/detectors.md describes, loaded by a test.

Flags a film whose middle is brighter than the release's threshold: nothing that anybody should use.
"""

from __future__ import annotations

from pathlib import Path

from triage.detectors.calibration import Calibration
from triage.detectors.protocol import Detection
from triage.detectors.releases import Release, load_release
from triage.domain.image import Radiograph


class Brightness:
    """FilmDetector (triage.detectors.protocol)."""

    name = "chest_xray"
    runtime = "numpy"

    def __init__(self, release: Release) -> None:
        self.release, self.digest = release.title, release.digest
        self._calibration = Calibration.from_release(release.content)
        self._not_covered = release.not_covered

    def detect(self, film: Radiograph) -> Detection:
        logit = float(film.pixels.mean()) * 8 - 4
        return Detection((self._calibration.finding("effusion", logit),), self._not_covered)

    def verify(self) -> float:
        return 0.0  # no weights: nothing can have changed


def load(folder: Path, runtime: str = "openvino") -> Brightness:
    """The entry point: `example = "example_plugin:load"` in the group `triage.detectors`."""
    return Brightness(load_release(folder))
