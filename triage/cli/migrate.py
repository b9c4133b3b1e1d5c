"""`triage migrate up|down|status`."""

from __future__ import annotations

import click

from triage.cli.common import result, say
from triage.cli.main import State
from triage.store import migrate as migrations
from triage.store.database import Database


@click.command()
@click.argument("direction", type=click.Choice(["up", "down", "status"]), default="up")
@click.pass_obj
def migrate(state: State, direction: str) -> None:
    """Bring the database to this version (up), one step back (down), or say where it is (status)."""
    settings = state.settings()
    settings.make_home()
    database = Database(settings.database_url)
    if direction == "up":
        migrations.upgrade(database)
    elif direction == "down":
        migrations.downgrade(database)
    found, head = migrations.current(database), migrations.head()
    wanted = "as this program wants it" if found == head else f"this program wants {head}"
    say(f"database at revision {found or 'none'}, {wanted}")
    result({"revision": found, "head": head})
