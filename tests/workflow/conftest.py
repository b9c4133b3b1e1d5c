"""A department for each test of the steps."""

from __future__ import annotations

import pytest

from tests.workflow.desk import Desk
from triage.store.database import Database


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


@pytest.fixture
def any_desk(any_database: Database) -> Desk:
    """Both databases in turn."""
    return Desk(any_database)
