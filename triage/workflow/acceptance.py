"""What is asked of a release of the site's own before anybody may propose it: calibrated, and known to the phantom."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from triage.detectors.protocol import Detection
from triage.detectors.releases import MODELS, Release
from triage.dicom.pixels import Decoder
from triage.domain.errors import Refused
from triage.domain.suitability import NotSuitableError
from triage.workflow.constancy import FINDING_OF, Phantoms
from triage.workflow.offline import film_reader, scan_reader
from triage.workflow.releases import load_detector


def require_calibrated(release: Release) -> None:
    if not release.calibrated:
        raise Refused(
            f"{release.title} was never calibrated: its probabilities mean nothing here, and no finding would be "
            f"pushed. Run: triage models calibrate {release.detector} {release.version} --cases FILE"
        )


def phantom_answer(release: Release, runtime: str, places: Sequence[Path]) -> dict[str, Any] | None:
    """What a release of the site's own says to the constancy phantom, so that the check can hold it to that.

    Shipped releases are made to flag it, so they need no answer (None). Foreign weights may not know a phantom.
    """
    if release.folder.is_relative_to(MODELS):
        return None
    detection = _of_phantom(release, load_detector(release.detector, release.digest, runtime, places))
    wanted = FINDING_OF[release.detector]
    names = [f.name for f in detection.findings]
    name = wanted if wanted in names or not names else names[0]
    known = [f for f in detection.findings if f.name == name]
    return {
        "finding": name,
        "probability": round(max((f.probability for f in known), default=0.0), 6),
        "flagged": any(f.actionable for f in known if name == wanted),
    }


def _of_phantom(release: Release, detector: Any) -> Detection:
    with tempfile.TemporaryDirectory() as folder, Decoder() as decoder:
        files = Phantoms(Path(folder)).files(release.detector, datetime(2026, 1, 1))  # noqa: DTZ001 - a phantom's
        try:
            image: Any = (
                film_reader(decoder)(files[0])
                if release.detector == "chest_xray"
                else scan_reader(decoder)(files[0].parent)
            )
            detection: Detection = detector.detect(image)
        except NotSuitableError as error:
            raise Refused(
                f"{release.title} does not accept the constancy phantom ({error.answer.code.value}): /health would be "
                "red as long as it is in force"
            ) from error
    return detection
