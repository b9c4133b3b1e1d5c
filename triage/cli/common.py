"""Small things that several commands share."""

from __future__ import annotations

import getpass
import json
import sys
from typing import Any

import click

from triage.domain.errors import Misconfigured
from triage.settings import Settings
from triage.store import migrate
from triage.store.database import Database


def say(text: str) -> None:
    """For people: stderr."""
    click.echo(text, err=True)


def result(document: Any) -> None:
    """For programs: one JSON document on stdout."""
    json.dump(document, sys.stdout, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def actor() -> str:
    """Who sits at the shell, as the audit names them."""
    return f"shell:{getpass.getuser()}"[:80]


def open_database(settings: Settings) -> Database:
    """The database of these settings, at this version.

    raises  Misconfigured when it was never migrated, or by another version
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database_url)
    found, expected = migrate.current(database), migrate.head()
    if found != expected:
        raise Misconfigured(
            f"the database is at revision {found or 'none'}, this program wants {expected}: triage migrate up"
        )
    return database
