"""The golden case of every active release, once a day: kept in the audit, told when it differs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.workflow.desk import Desk
from triage.detectors.releases import active_release, load_release
from triage.domain.errors import Refused
from triage.domain.monitoring import GOLDEN_TOLERANCE
from triage.store import audit, schema
from triage.store.database import Database
from triage.workflow import golden


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def notices(desk: Desk) -> list[dict[str, Any]]:
    with desk.database.read() as tx:
        return [dict(r) for r in tx.execute(select(schema.operator_notice)).mappings()]


def check(desk: Desk, *, drifts: str = "") -> int:
    def difference(detector: str, version: str, places: Sequence[Path]) -> float:
        if detector == drifts:
            raise Refused("golden case differs by 0.03, at most 0.005 is allowed")
        return 1e-4

    return golden.check_due(desk.database, (), ["hook"], desk.clock, difference, desk.ids)


def test_each_active_release_is_looked_at_once_a_day(desk: Desk) -> None:
    assert [check(desk), check(desk)] == [2, 0]
    desk.clock.advance(23 * 3600)
    assert check(desk) == 0
    desk.clock.advance(3600)
    assert check(desk) == 2
    assert desk.acts().count("golden.fits") == 4 and notices(desk) == []


def test_a_release_that_computes_otherwise_is_told_and_kept(desk: Desk) -> None:
    check(desk, drifts="lung_nodule")
    (notice,) = notices(desk)
    assert notice["route"] == "hook" and "lung_nodule 1.0.0 no longer computes" in notice["text"]
    with desk.database.read() as tx:
        (event,) = audit.between(tx, desk.clock(), desk.clock.advance(1), ["golden.drifted"])
    assert event["detail"]["difference"] is None and "0.03" in event["detail"]["error"]


def test_the_shipped_release_computes_what_it_was_made_with() -> None:
    release = load_release(active_release("chest_xray"), verify=False)
    assert (
        0
        <= golden.in_a_child("chest_xray", release.version, (release.folder.parents[1],))
        <= GOLDEN_TOLERANCE
    )
