"""A sown worklist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.seed import Sown, sow
from tests.workflow.read.acting import NOW


@pytest.fixture
def sown(tmp_path: Path) -> Iterator[Sown]:
    found = sow(tmp_path / "triage.db", NOW)
    yield found
    found.database.close()
