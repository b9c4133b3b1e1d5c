"""What a detector is. A detector takes one suitable input and returns findings; it never sees files, rows or clocks.

An outside package offers one through the entry point group `triage.detectors` (docs/detectors.md): a callable
`load(release: Path, runtime: str) -> Detector`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from triage.domain.finding import Finding
from triage.domain.image import Radiograph, Volume


@dataclass(frozen=True)
class Detection:
    """findings: everything the release covers, also below threshold; not_covered: names it declares it cannot see.

    notes: what the gate or geometry did ("inverted", "rotated 90 degrees"), recorded with the Run.
    lung_map: the lungs of a scan as `registration.pack` makes them, kept to align a later scan with this one.
    """

    findings: tuple[Finding, ...]
    not_covered: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lung_map: dict[str, Any] | None = None


class FilmDetector(Protocol):
    name: str  # "chest_xray"
    release: str  # "chest_xray 1.0.0"
    digest: str  # sha256 over the release's files: what a Run stores
    runtime: str  # what computed: "openvino", "torch-cpu", "torch-cuda"

    def verify(self) -> float:
        """Largest difference of the golden case's outputs from those that the release was made with."""
        ...

    def detect(self, film: Radiograph) -> Detection:
        """raises NotSuitableError when the pixels say that this is no adult frontal chest film."""


class ScanDetector(Protocol):
    name: str  # "lung_nodule"
    release: str
    digest: str
    runtime: str

    def verify(self) -> float: ...

    def detect(self, scan: Volume) -> Detection:
        """raises NotSuitableError when the volume holds too little lung to look at."""
