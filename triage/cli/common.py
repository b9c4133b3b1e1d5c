"""Small things that several commands share."""

from __future__ import annotations

import getpass
import json
import shlex
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


def command(words: str) -> str:
    """A command of ours to type next, with the settings file that this one was given: "triage --config F WORDS"."""
    context = click.get_current_context(silent=True)
    config = context.find_root().params.get("config") if context else None
    return f"triage --config {shlex.quote(str(config))} {words}" if config else f"triage {words}"


def open_database(settings: Settings) -> Database:
    """The database of these settings, at this version; none is made by looking for one.

    raises  Misconfigured when it is not there, was never migrated, or by another version
    """
    file = settings.embedded_database
    if file is not None and not file.exists():
        raise Misconfigured(
            f"there is no database at {file}. Is --config or TRIAGE_HOME missing? "
            f"A new installation begins with: {command('migrate up')}"
        )
    database = Database(settings.database_url)
    found, expected = migrate.current(database), migrate.head()
    if found != expected:
        raise Misconfigured(
            f"the database is at revision {found or 'none'}, this program wants {expected}: {command('migrate up')}"
        )
    return database
