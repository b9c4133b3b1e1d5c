"""Migrations up and down, and what a database says about itself."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from triage.store.database import Database

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def upgrade(database: Database, revision: str = "head") -> None:
    with database.reshape() as tx:
        command.upgrade(_config(tx), revision)


def downgrade(database: Database, revision: str = "-1") -> None:
    with database.reshape() as tx:
        command.downgrade(_config(tx), revision)


def current(database: Database) -> str | None:
    """Revision of the database; None when it is empty."""
    with database.read() as tx:
        return MigrationContext.configure(tx).get_current_revision()


def head() -> str | None:
    """Revision that this code expects."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def _config(tx: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = tx
    return config
