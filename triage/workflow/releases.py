"""Which detectors this installation has: entry points, their releases on disk, and the rows that name them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from triage.detectors.protocol import FilmDetector, ScanDetector
from triage.detectors.releases import MODELS, Release, active_release, load_release
from triage.domain.errors import Misconfigured, Refused
from triage.domain.monitoring import GOLDEN_TOLERANCE
from triage.settings import Settings
from triage.store import audit, releases

KNOWN = ("chest_xray", "lung_nodule")


def own_models(settings: Settings) -> Path:
    """Where this site keeps the releases that it imported or calibrated; the shipped ones lie beside the program."""
    return settings.home / "models"


def places_of(settings: Settings) -> tuple[Path, ...]:
    return MODELS, own_models(settings)


def on_disk(detector: str, places: Sequence[Path] = (MODELS,)) -> list[Release]:
    """Every release folder of a detector, by version; files are not verified here."""
    folders = sorted(p.parent for place in places for p in (place / detector).glob("[!.]*/release.json"))
    return [load_release(folder, verify=False) for folder in folders]


def find_release(detector: str, version: str, places: Sequence[Path] = (MODELS,)) -> Release:
    """The release of this version, its files verified. raises Refused when there is none, Misconfigured when damaged."""
    for release in on_disk(detector, places):
        if release.version == version:
            return load_release(release.folder)
    raise Refused(f"no release {version} of {detector} on disk; triage models list shows what there is")


def register_releases(
    tx: Connection, detectors: tuple[str, ...], now: datetime, places: Sequence[Path] = (MODELS,)
) -> None:
    """Rows for the release that each detector's ACTIVE file names; a new one takes over, and the audit says so.

    Not from a release of the site's own: that was put in force by two persons, and the new one waits in shadow.
    """
    for detector in sorted(
        {*KNOWN, *detectors}
    ):  # also those switched off: their inputs get a run that says so
        release = load_release(active_release(detector))
        held = {r["digest"]: r for r in releases.in_states(tx)}
        own = {r.digest for r in on_disk(detector, places[1:])}
        chosen = any(held[d]["state"] == "active" for d in own & held.keys())
        release_id = releases.register(
            tx, detector, release.version, release.digest, release.not_covered, now, release.preferred_kernels
        )
        if (
            release.digest not in held and not chosen
        ):  # what an administrator moved since stays where it was moved to
            releases.activate(tx, release_id)
            audit.append(
                tx, now, "triage", "release.activated", "release", release_id,
                {"detector": detector, "version": release.version, "digest": release.digest},
            )  # fmt: skip


class Loader:
    """Detectors by (name, digest), each loaded once and verified against its digest (F17)."""

    def __init__(self, runtime: str = "openvino", places: Sequence[Path] = (MODELS,)) -> None:
        self._runtime, self._places = runtime, tuple(places)
        self._loaded: dict[str, FilmDetector | ScanDetector] = {}

    def __call__(self, detector: str, digest: str) -> FilmDetector | ScanDetector:
        if digest not in self._loaded:
            self._loaded[digest] = load_detector(detector, digest, self._runtime, self._places)
        return self._loaded[digest]


def load_detector(
    detector: str, digest: str = "", runtime: str = "openvino", places: Sequence[Path] = (MODELS,)
) -> Any:
    """The detector of one release; of the shipped active one without a digest.

    raises  Misconfigured when no release on this machine has that digest, or its files are not its own
    """
    if digest:
        found = [r for r in on_disk(detector, places) if r.digest == digest]
        if not found:
            raise Misconfigured(
                f"this worker has no release of {detector} with digest {digest[:12]}; install the same models folder "
                "on every worker"
            )
        release = found[0]
    else:
        release = load_release(active_release(detector), verify=False)
    points = [p for p in entry_points(group="triage.detectors") if p.name == release.loader]
    if not points:
        raise Misconfigured(
            f"{release.title} wants the detector package {release.loader!r}: is it installed in this environment?"
        )
    return points[0].load()(release.folder, runtime)


def chosen_detector(settings: Settings, detector: str, version: str | None) -> Any:
    """For tools on files: the release of this version, or without one the shipped active release."""
    places = places_of(settings)
    digest = "" if version is None else find_release(detector, version, places).digest
    return load_detector(detector, digest, settings.runtime, places)


def verify_release(release: Release, places: Sequence[Path] = (MODELS,)) -> float:
    """Largest difference of the golden case's outputs from those it was released with.

    raises  Refused when it exceeds GOLDEN_TOLERANCE
    """
    difference = float(load_detector(release.detector, release.digest, places=places).verify())
    if difference > GOLDEN_TOLERANCE:
        raise Refused(f"golden case differs by {difference:.3g}, at most {GOLDEN_TOLERANCE:.3g} is allowed")
    return difference
