"""`triage models`: releases of the detectors, on disk and in force."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from sqlalchemy import Connection

from triage.cli.common import actor, command, open_database, result, say
from triage.cli.main import State
from triage.cli.models_make import add, calibrate
from triage.detectors.releases import Release, load_release
from triage.domain.errors import Misconfigured, Refused
from triage.settings import Settings
from triage.store import proposals, releases, users
from triage.store.database import Database
from triage.workflow import acceptance, accounts, activation
from triage.workflow.releases import find_release, on_disk, places_of, register_releases, verify_release

because = click.option("--reason", default="", help="Why; it goes into the audit.")


@click.group()
def models() -> None:
    """Releases of the detectors."""


models.add_command(add)
models.add_command(calibrate)


@models.command("list")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def list_(state: State, as_json: bool) -> None:
    """Releases on disk, and which of them is in force."""
    settings = state.settings()
    with open_database(settings).read() as tx:
        rows = {r["digest"]: r for r in releases.in_states(tx)}
        proposed = {p["release_id"]: p["proposed_by"] for p in proposals.listing(tx) if p["state"] == "open"}
    found = [
        {
            "detector": r.detector,
            "version": r.version,
            "digest": r.digest,
            "state": rows[r.digest]["state"] if r.digest in rows else "unknown",
            "proposed_by": proposed.get(rows[r.digest]["id"], "") if r.digest in rows else "",
            "calibrated": r.calibrated,
            "loader": r.loader,
            "folder": str(r.folder),
        }
        for detector in settings.detectors
        for r in on_disk(detector, places_of(settings))
    ]
    if as_json:
        result(found)
        return
    for r in found:
        notes = [] if r["calibrated"] else ["not calibrated"]
        notes += [f"proposed by {r['proposed_by']}"] if r["proposed_by"] else []
        click.echo(
            f"{r['detector']} {r['version']}  {r['state']:<8} {str(r['digest'])[:12]}  {', '.join(notes)}".rstrip()
        )


@models.command()
@click.argument("detector", required=False)
@click.pass_obj
def verify(state: State, detector: str | None) -> int:
    """Files against their digests, and the golden case against its outputs; exit 1 when one does not fit."""
    bad = 0
    settings = state.settings()
    for name in [detector] if detector else settings.detectors:
        for release in on_disk(name, places_of(settings)):
            try:
                load_release(release.folder)
                difference = verify_release(release, places_of(settings))
            except (Misconfigured, Refused) as error:
                bad += 1
                say(f"{release.title}: {error}")
                continue
            say(f"{release.title}: files are its own, golden case differs by {difference:.2g}")
    return 1 if bad else 0


@models.command()
@click.argument("detector")
@click.argument("version")
@click.option("--by", help="Administrator who wants it; their password is asked for.")
@click.option("--second", help="The second administrator, when both are here.")
@click.option("--password-stdin", is_flag=True, help="Read the passwords from standard input, one a line.")
@because
@click.pass_obj
def activate(
    state: State,
    detector: str,
    version: str,
    by: str | None,
    second: str | None,
    password_stdin: bool,
    reason: str,
) -> int:
    """Make a release the one whose findings count, from the next run on. A new one needs two administrators.

    The first proposes it, the second confirms with the same command (exit 1 until then). One person, and no password,
    is enough for the way back to a release that was in force before.
    """
    settings = state.settings()
    release = find_release(detector, version, places_of(settings))
    acceptance.require_calibrated(release)
    verify_release(release, places_of(settings))
    database = open_database(settings)
    now = datetime.now(UTC)
    release_id = _registered(settings, database, release, now)
    if not by:
        with database.write() as tx:
            activation.roll_back(tx, release_id, actor(), reason or "command line", now)
        say(f"{release.title} is active again")
        return 0
    persons = _persons(database, [n for n in (by, second) if n], password_stdin, now)
    answer = acceptance.phantom_answer(release, settings.runtime, places_of(settings))
    with database.write() as tx:
        releases.note_acceptance(tx, release_id, calibrated=True, constancy=answer)
        done = _agreed(tx, release_id, persons, reason or "command line", now)
    if not done:
        say(f"{release.title} is proposed by {by}; another administrator confirms with: "
            f"{command(f'models activate {detector} {version} --by NAME')}")  # fmt: skip
        return 1
    say(f"{release.title} is now active")
    if answer and not answer["flagged"]:
        say(
            f"it does not flag the constancy phantom ({answer['finding']} {answer['probability']:.3f}): the check holds "
            "it to that answer, and the way of an alert is proved by the other detector alone"
        )
    return 0


def _agreed(tx: Connection, release_id: int, persons: Sequence[str], reason: str, now: datetime) -> bool:
    """True when two persons want it: these two, or one of these and who proposed it before."""
    for person in persons:
        waiting = [p for p in proposals.listing(tx) if p["state"] == "open" and p["release_id"] == release_id]
        if waiting and waiting[0]["proposed_by"] != person:
            activation.confirm(tx, waiting[0]["id"], person, now)
            return True
        if not waiting:
            activation.propose(tx, release_id, person, reason, now)
    return False


def _registered(settings: Settings, database: Database, release: Release, now: datetime) -> int:
    """The row of a release, the shipped ones before it: the first release of a detector counts at once."""
    with database.write() as tx:
        register_releases(tx, settings.detectors, now, places_of(settings))
        release_id = releases.register(
            tx, release.detector, release.version, release.digest, release.not_covered, now,
            release.preferred_kernels,
        )  # fmt: skip
        releases.note_acceptance(tx, release_id, calibrated=release.calibrated)
    return release_id


@models.command()
@click.argument("detector")
@click.argument("version")
@because
@click.pass_obj
def shadow(state: State, detector: str, version: str, reason: str) -> None:
    """Let a release run and store, and never reorder."""
    _aside(state.settings(), detector, version, "shadow", reason)


@models.command()
@click.argument("detector")
@click.argument("version")
@because
@click.pass_obj
def retire(state: State, detector: str, version: str, reason: str) -> None:
    """No more runs of this release; what it found stays."""
    _aside(state.settings(), detector, version, "retired", reason)


def _aside(settings: Settings, detector: str, version: str, to: str, reason: str) -> None:
    release = find_release(detector, version, places_of(settings))
    now = datetime.now(UTC)
    database = open_database(settings)
    release_id = _registered(settings, database, release, now)
    if to == "shadow" and release.calibrated:  # the page that proposes it cannot ask the phantom
        answer = acceptance.phantom_answer(release, settings.runtime, places_of(settings))
        with database.write() as tx:
            releases.note_acceptance(tx, release_id, calibrated=True, constancy=answer)
    with database.write() as tx:
        activation.move(tx, release_id, to, actor(), reason or "command line", now)
    say(f"{release.title} is now {to}")


def _persons(database: Database, names: Sequence[str], from_standard_input: bool, now: datetime) -> list[str]:
    """The named administrators, each proved by password. raises Refused."""
    if len(set(names)) < len(names):
        raise Refused("--by and --second are the same person")
    for name in names:
        if from_standard_input:
            password = sys.stdin.readline().rstrip("\r\n")
        else:
            password = click.prompt(f"Password of {name}", hide_input=True, err=True)
        with database.write() as tx:
            found = users.find_user(tx, name)
            fits = accounts.password_fits(tx, name, password, now)
            if not fits:
                accounts.note_failure(tx, name, now)
        if not fits or found is None:
            raise Refused(f"name or password of {name} is wrong")
        if found["role"] != "admin":
            raise Refused(f"{name} has the role {found['role']}; releases are decided by the role admin")
    return list(names)
