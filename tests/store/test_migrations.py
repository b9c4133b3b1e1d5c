"""Migrations up make exactly the models; down leaves nothing; on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from triage.store import migrate
from triage.store.database import Database
from triage.store.schema import metadata


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A database without a single table."""
    if request.param == "sqlite":
        return Database(f"sqlite:///{tmp_path / 'bare.db'}")
    return Database(request.getfixturevalue("postgres_url"))


def test_up_makes_the_models_and_down_leaves_nothing(bare: Database) -> None:
    assert migrate.current(bare) is None
    migrate.upgrade(bare)
    assert migrate.current(bare) == migrate.head()
    with bare.read() as tx:
        # SQLite gives defaults back as text, quoted in its own way: PostgreSQL compares them for both.
        options = {"compare_type": True, "compare_server_default": not bare.is_sqlite}
        context = MigrationContext.configure(tx, opts=options)
        assert compare_metadata(context, metadata) == []
    migrate.downgrade(bare, "base")
    assert set(inspect(bare.engine).get_table_names()) <= {"alembic_version"}
    migrate.upgrade(bare)
    bare.close()
