"""What we answered with success is kept, whatever fails in what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.workflow.desk import Desk
from tests.workflow.door import open_door
from tests.workflow.test_evidence import begin, change, create, end
from triage.domain.errors import Unavailable
from triage.workflow import other_services


def test_an_outage_right_after_a_step_was_taken_is_no_failure_of_the_step(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is stored; what follows from it is the sweeper's then, and no reason to hear a failure."""
    series_id = desk.receive_scan(10, association_id="node:1").series_id

    def away(*_: Any) -> Any:
        raise Unavailable("the database does not answer")

    with open_door(desk.database, tmp_path, desk.site, desk.clock) as door:
        create(door, begin())
        with monkeypatch.context() as outage:
            outage.setattr(other_services, "complete_series", away)
            assert change(door, end()).Status == 0
        assert door.woken == []
    assert desk.rows("performed_step")[0]["state"] == "COMPLETED"
    assert desk.rows("series")[0]["judge_at"] <= desk.clock()  # the sweeper's next turn
    assert desk.judge(series_id) == [(1, "routine")]
