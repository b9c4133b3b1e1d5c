"""`triage models`: releases of the detectors, on disk and in force."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from triage.cli.common import open_database, result, say
from triage.cli.main import State
from triage.detectors.releases import load_release
from triage.domain.errors import Misconfigured, Refused
from triage.store import audit, runs
from triage.workflow.releases import on_disk, verify_release


@click.group()
def models() -> None:
    """Releases of the detectors."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def list_(state: State, as_json: bool) -> None:
    """Releases on disk, and which of them is in force."""
    settings = state.settings()
    with open_database(settings).read() as tx:
        rows = {r["digest"]: r["state"] for r in runs.releases(tx)}
    found = [
        {
            "detector": r.detector,
            "version": r.version,
            "digest": r.digest,
            "state": rows.get(r.digest, "unknown"),
        }
        for detector in settings.detectors
        for r in on_disk(detector)
    ]
    if as_json:
        result(found)
        return
    for r in found:
        click.echo(f"{r['detector']} {r['version']}  {r['state']:<8} {r['digest'][:12]}")


@models.command()
@click.argument("detector", required=False)
@click.pass_obj
def verify(state: State, detector: str | None) -> int:
    """Files against their digests, and the golden case against its outputs; exit 1 when one does not fit."""
    bad = 0
    for name in [detector] if detector else state.settings().detectors:
        for release in on_disk(name):
            try:
                load_release(release.folder)
                difference = verify_release(release)
            except (Misconfigured, Refused) as error:
                bad += 1
                say(f"{release.title}: {error}")
                continue
            say(f"{release.title}: files are its own, golden case differs by {difference:.2g}")
    return 1 if bad else 0


@models.command()
@click.argument("detector")
@click.argument("version")
@click.pass_obj
def activate(state: State, detector: str, version: str) -> None:
    """Make a release the one whose findings count; runs started after this use it."""
    _move(state, detector, version, "active")


@models.command()
@click.argument("detector")
@click.argument("version")
@click.pass_obj
def shadow(state: State, detector: str, version: str) -> None:
    """Let a release run and store, and never reorder."""
    _move(state, detector, version, "shadow")


@models.command()
@click.argument("detector")
@click.argument("version")
@click.pass_obj
def retire(state: State, detector: str, version: str) -> None:
    """No more runs of this release; what it found stays."""
    _move(state, detector, version, "retired")


def _move(state: State, detector: str, version: str, to: str) -> None:
    releases = [r for r in on_disk(detector) if r.version == version]
    if not releases:
        raise Refused(f"no release {version} of {detector} on disk; triage models list shows what there is")
    release = load_release(releases[0].folder)
    now = datetime.now(UTC)
    with open_database(state.settings()).write() as tx:
        release_id = runs.register_release(tx, detector, version, release.digest, release.not_covered, now)
        if to == "active":
            runs.activate_release(tx, release_id)
        else:
            runs.set_release_state(tx, release_id, to)
        detail: dict[str, Any] = {
            "detector": detector,
            "version": version,
            "digest": release.digest,
            "to": to,
        }
        audit.append(tx, now, "command line", "release.moved", "release", release_id, detail)
    say(f"{release.title} is now {to}")
