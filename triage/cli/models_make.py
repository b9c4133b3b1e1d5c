"""`triage models add` and `triage models calibrate`: what puts a new release into TRIAGE_HOME/models."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from triage.cli.common import actor, command, open_database, result, say
from triage.cli.main import State
from triage.detectors.calibration import ENOUGH
from triage.detectors.imported import by_name, importing, importing_scan, ready
from triage.detectors.imported.card import read_card
from triage.detectors.releases import Release, active_release
from triage.dicom.pixels import Decoder
from triage.domain.errors import Refused
from triage.qa import calibrate_films
from triage.settings import Settings
from triage.store import audit
from triage.workflow.offline import film_reader
from triage.workflow.releases import (
    find_release,
    load_detector,
    on_disk,
    own_models,
    places_of,
    verify_release,
)

KINDS = (*importing.KINDS, importing_scan.KIND, "release")


@click.command()
@click.argument("source")
@click.option(
    "--kind", type=click.Choice(KINDS), required=True, help="What the file is; release: a finished folder."
)
@click.option("--version", help="Name of the new release, as people will say it.")
@click.option(
    "--card",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML or JSON: labels, input.",
)
@click.option("--sha256", help="Of the file, as its publisher states it; refused when it differs.")
@click.pass_obj
def add(
    state: State, source: str, kind: str, version: str | None, card: Path | None, sha256: str | None
) -> None:
    """Import weights that others trained, as a release that is not in force.

    SOURCE is a file, a folder (kind release), or torchxrayvision:NAME, which fetches the weights of that name.
    """
    settings = state.settings()
    if kind != "release" and version is None:
        raise click.UsageError("--version names the new release, for instance --version txrv-all-1")
    path = _fetched(source, settings) if source.startswith(by_name.PREFIX) else Path(source)
    if kind == "release":
        release = ready.add_folder(own_models(settings), path)
    elif kind == importing_scan.KIND:
        assert version is not None
        _require_new(settings, "lung_nodule", version)
        release = importing_scan.add_scan(own_models(settings), version, path, sha256=sha256)
    else:
        assert version is not None
        _require_new(settings, "chest_xray", version)
        stated = read_card(card) if card else by_name.card_of(source)
        release = importing.add_film(
            own_models(settings),
            version,
            kind,
            path,
            active_release("chest_xray"),
            card=stated,
            sha256=sha256,
        )
    difference = verify_release(release, places_of(settings))
    _note(settings, "release.imported", release)
    say(f"{release.title} is in {release.folder}; golden case differs by {difference:.2g}")
    say(f"findings: {', '.join(release.content.get('findings', ())) or 'as its package says'}")
    say(f"not covered: {', '.join(release.not_covered)}")
    if not release.calibrated:
        then = f", then {command('models calibrate')}" if release.detector == "chest_xray" else ""
        say(f"next: {command(f'models shadow {release.detector} {release.version}')}{then}")


def _fetched(source: str, settings: Settings) -> Path:
    say(by_name.LICENSE)
    return by_name.fetch(source, settings.home / "downloads")


@click.command()
@click.argument("detector")
@click.argument("version")
@click.option("--cases", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="CSV of labelled films, as for evaluate.")  # fmt: skip
@click.option("--as", "name", help="Version of the new release; VERSION-site1, -site2 ... unless stated.")
@click.option("--json", "as_json", is_flag=True, help="What was measured as one JSON document on stdout.")
@click.pass_obj
def calibrate(
    state: State, detector: str, version: str, cases: Path, name: str | None, as_json: bool
) -> None:
    """Fit probabilities and operating points on the site's own cases; writes a new release with the same weights."""
    settings = state.settings()
    if detector != "chest_xray":
        raise Refused(f"{detector} has no calibration by cases yet; chest_xray has")
    release = find_release(detector, version, places_of(settings))
    new = name or _next(version, [r.version for r in on_disk(detector, places_of(settings))])
    _require_new(settings, detector, new)
    loaded = load_detector(detector, release.digest, settings.runtime, places_of(settings))
    with Decoder() as decoder:
        document = calibrate_films.calibrate(
            release, loaded, cases, film_reader(decoder), own_models(settings), new, datetime.now(UTC)
        )
    made = find_release(detector, new, places_of(settings))
    verify_release(made, places_of(settings))
    _note(settings, "release.calibrated", made)
    if as_json:
        result(document)
    for finding, row in document["findings"].items():
        say(f"{finding:<20} {row['positives']:>5} of {row['n']:<6} {_words(row)}")
    say(f"{made.title} is in {made.folder}; next: {command(f'models shadow {detector} {new}')}")


def _words(row: dict[str, object]) -> str:
    if not row["calibrated"]:
        return f"too few for a calibration ({ENOUGH} of each kind are needed): as it was"
    return f"AUC {row['auc']:.3f}, {'pushed' if row['pushed'] else 'stored, not pushed'}"


def _next(version: str, taken: list[str]) -> str:
    base = version.rsplit("-site", 1)[0]
    return next(n for n in (f"{base}-site{i}" for i in range(1, 10_000)) if n not in taken)


def _require_new(settings: Settings, detector: str, version: str) -> None:
    if version in {r.version for r in on_disk(detector, places_of(settings))}:
        raise Refused(f"{detector} {version} exists and releases do not change: choose another version")


def _note(settings: Settings, act: str, release: Release) -> None:
    origin = release.content.get("origin", {})
    detail = {
        "detector": release.detector, "version": release.version, "digest": release.digest,
        "sha256": origin.get("sha256", ""), "license": origin.get("license", ""),
    }  # fmt: skip
    with open_database(settings).write() as tx:
        audit.append(tx, datetime.now(UTC), actor(), act, "release", release.digest, detail)
