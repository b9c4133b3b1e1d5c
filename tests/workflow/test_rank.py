"""Where a study stands: the fold of its runs (I17), and the cap on lifts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import a_finding
from tests.workflow.desk import Desk
from triage.domain.priority import Policy
from triage.store import policies
from triage.workflow.rank import fold, rank


def a_run(detector: str, state: str, reason: str = "") -> dict[str, Any]:
    return {"detector": detector, "state": state, "reason_code": reason, "reason_detail": "", "series_id": 1}


@pytest.mark.parametrize(
    ("current", "said"),
    [
        ([], ("", "")),
        ([a_run("x", "completed")], ("completed", "")),
        ([a_run("x", "completed"), a_run("x", "not_analysed", "LATERAL_ONLY")], ("completed", "")),
        (
            [a_run("x", "completed"), a_run("y", "not_analysed", "GAP_IN_SERIES")],
            ("not_analysed", "GAP_IN_SERIES"),
        ),
        ([a_run("x", "completed"), a_run("y", "running")], ("running", "")),
        ([a_run("x", "failed", "crashed"), a_run("x", "completed")], ("failed", "crashed")),
    ],
)
def test_what_the_list_says_of_several_runs(current: list[dict[str, Any]], said: tuple[str, str]) -> None:
    assert fold(current)[:2] == said


states = st.sampled_from(["running", "requested", "failed", "not_analysed", "completed"])


@given(st.lists(st.builds(a_run, st.sampled_from(["x", "y"]), states), min_size=1, max_size=6))
def test_completed_is_never_said_while_a_detector_has_no_completed_run(current: list[dict[str, Any]]) -> None:
    said = fold(current)[0]

    if said == "completed":
        for detector in {r["detector"] for r in current}:
            assert "completed" in {r["state"] for r in current if r["detector"] == detector}
    if any(r["state"] in ("running", "requested") for r in current):
        assert said in ("running", "requested")


def test_beyond_the_cap_of_the_hour_a_flag_does_not_lift_and_says_so(desk: Desk) -> None:
    with desk.database.write() as tx:
        policies.adopt(tx, replace(Policy(), raised_per_hour=2), "admin", "trial", desk.clock())

    classes = [
        desk.item(desk.flagged(a_finding("consolidation"), study=n))["priority_class"] for n in range(3)
    ]

    assert classes == [2, 2, 0]
    assert "hourly limit" in str(desk.item(3)["reasons"])
    desk.clock.advance(3601)
    assert desk.item(desk.flagged(a_finding("consolidation"), study=9))["priority_class"] == 2


def test_who_was_lifted_stays_lifted_when_looked_at_again(desk: Desk) -> None:
    study_id = desk.flagged(a_finding("consolidation"))
    with desk.database.write() as tx:
        policies.adopt(tx, replace(Policy(), raised_per_hour=0), "admin", "trial", desk.clock())
        rank(tx, study_id, desk.clock())

    assert desk.item()["priority_class"] == 2


def test_a_study_without_an_item_is_ranked_nowhere(desk: Desk) -> None:
    with desk.database.write() as tx:
        rank(tx, 99, desk.clock())
    assert desk.rows("event") == []
