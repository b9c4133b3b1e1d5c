"""Which detectors this installation has: entry points, their releases on disk, and the rows that name them."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import entry_points
from typing import Any

from sqlalchemy import Connection

from triage.detectors.protocol import FilmDetector, ScanDetector
from triage.detectors.releases import MODELS, Release, active_release, load_release
from triage.domain.errors import Misconfigured, Refused
from triage.store import audit, runs

GOLDEN_TOLERANCE = 5e-3  # of outputs; weights rest in fp16, and runtimes round differently
KNOWN = ("chest_xray", "lung_nodule")


def on_disk(detector: str) -> list[Release]:
    """Every release folder of a detector, by version; files are not verified here."""
    folders = sorted(p.parent for p in (MODELS / detector).glob("*/release.json"))
    return [load_release(folder, verify=False) for folder in folders]


def register_releases(tx: Connection, detectors: tuple[str, ...], now: datetime) -> None:
    """Rows for the release that each detector's ACTIVE file names; a new one takes over, and the audit says so."""
    for detector in sorted(
        {*KNOWN, *detectors}
    ):  # also those switched off: their inputs get a run that says so
        release = load_release(active_release(detector))
        held = {r["digest"]: r for r in runs.releases(tx)}
        release_id = runs.register_release(
            tx, detector, release.version, release.digest, release.not_covered, now
        )
        if release.digest not in held:  # what an administrator moved since stays where it was moved to
            runs.activate_release(tx, release_id)
            audit.append(
                tx, now, "triage", "release.activated", "release", release_id,
                {"detector": detector, "version": release.version, "digest": release.digest},
            )  # fmt: skip


class Loader:
    """Detectors by (name, digest), each loaded once and verified against its digest (F17)."""

    def __init__(self, runtime: str = "openvino") -> None:
        self._runtime = runtime
        self._loaded: dict[str, FilmDetector | ScanDetector] = {}

    def __call__(self, detector: str, digest: str) -> FilmDetector | ScanDetector:
        if digest not in self._loaded:
            self._loaded[digest] = load_detector(detector, digest, self._runtime)
        return self._loaded[digest]


def load_detector(detector: str, digest: str = "", runtime: str = "openvino") -> Any:
    """The detector of one release; of the active one without a digest.

    raises  Misconfigured when no release on this machine has that digest, or its files are not its own
    """
    if digest:
        found = [r.folder for r in on_disk(detector) if r.digest == digest]
        if not found:
            raise Misconfigured(
                f"this worker has no release of {detector} with digest {digest[:12]}; install the same models folder "
                "on every worker"
            )
        folder = found[0]
    else:
        folder = active_release(detector)
    points = [p for p in entry_points(group="triage.detectors") if p.name == detector]
    if not points:
        raise Misconfigured(f"no detector is called {detector!r}: is its package installed?")
    return points[0].load()(folder, runtime)


def verify_release(release: Release) -> float:
    """Largest difference of the golden case's outputs from those it was released with.

    raises  Refused when it exceeds GOLDEN_TOLERANCE
    """
    difference = float(load_detector(release.detector, release.digest).verify())
    if difference > GOLDEN_TOLERANCE:
        raise Refused(f"golden case differs by {difference:.3g}, at most {GOLDEN_TOLERANCE:.3g} is allowed")
    return difference
