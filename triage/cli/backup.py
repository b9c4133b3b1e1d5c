"""`triage backup FILE` and `triage restore FILE`: the database while it runs, and the way back."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from triage.cli.common import actor, open_database, result, say
from triage.cli.main import State
from triage.workflow import backup as work

file_argument = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.command()
@file_argument
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def backup(state: State, file: Path, as_json: bool) -> None:
    """Save the database into FILE while the product runs. Images lie in the spool: save TRIAGE_HOME too."""
    settings = state.settings()
    open_database(settings).close()  # says so when there is none
    digest = work.backup(settings, file, datetime.now(UTC), actor())
    say(
        f"{file}: {file.stat().st_size / 2**20:.1f} MiB, sha256 {digest}. It holds patients' data: keep it apart and "
        f"closed, with a copy of {settings.spool} and {settings.home / 'audit'}"
    )
    if as_json:
        result({"file": str(file), "bytes": file.stat().st_size, "sha256": digest})


@click.command()
@file_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def restore(state: State, file: Path, yes: bool, as_json: bool) -> None:
    """Put a saved database in place (triage stopped); what was received since is read again from the spool."""
    settings = state.settings()
    if not yes:
        click.confirm("Replace the database by this backup?", abort=True, err=True)
    done = work.restore(settings, file, datetime.now(UTC), actor(), told=_progress)
    say(
        f"restored: {done.reread} objects read again from the spool, {done.unreadable} unreadable, "
        f"{done.removed_again} removed studies removed again. {done.alerts} alerts and {done.deliveries} deliveries "
        "wait for a person: nothing of them is sent again by itself"
    )
    if as_json:
        result(asdict(done))


def _progress(seen: int) -> None:
    if seen % 100 == 0 and sys.stderr.isatty():
        click.echo(f"\r{seen} objects of the spool looked at", nl=False, err=True)
