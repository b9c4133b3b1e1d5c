"""`triage retention run`: removes what has aged out."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import click

from triage.cli.common import actor, open_database, result, say
from triage.cli.main import State
from triage.store import removal
from triage.workflow.retention import Sum, remove_aged


@click.group()
def retention() -> None:
    """Remove what has aged out."""


@retention.command()
@click.option("--dry-run", is_flag=True, help="Only count what would go.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def run(state: State, dry_run: bool, as_json: bool) -> None:
    """Reported studies older than retention_days, without an unanswered alert."""
    settings = state.settings()
    database = open_database(settings)
    now = datetime.now(UTC)
    if dry_run:
        with database.read() as tx:
            waiting = len(removal.aged(tx, now - timedelta(days=settings.retention_days), limit=1_000_000))
        say(f"{waiting} studies would go (retention_days = {settings.retention_days})")
        found = {"would_remove": waiting}
    else:
        done = remove_aged(database, settings, now, actor(), told=_progress)
        say(f"removed {done.studies} studies, {done.instances} objects, {done.bytes / 2**20:.1f} MiB")
        found = asdict(done)
    database.close()
    if as_json:
        result(found)


def _progress(done: Sum) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{done.studies} studies removed", nl=False, err=True)
