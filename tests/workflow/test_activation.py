"""A release is moved by persons with a reason: two to make it active, one to do less."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories import NOON
from tests.workflow.desk import Desk
from triage.domain.errors import Refused
from triage.store import releases
from triage.workflow import activation


@pytest.fixture
def shadow(desk: Desk) -> int:
    """A calibrated release of the site's own beside the active one."""
    with desk.database.write() as tx:
        made = releases.register(tx, "chest_xray", "2.0.0", "chest_xray-2", [], NOON)
        answer = {"finding": "pneumothorax", "probability": 0.9, "flagged": True}
        releases.note_acceptance(tx, made, calibrated=True, constancy=answer)
    return made


def states(desk: Desk) -> dict[str, str]:
    return {r["version"]: r["state"] for r in desk.rows("release") if r["detector"] == "chest_xray"}


def test_a_proposal_that_was_withdrawn_cannot_be_confirmed_and_may_be_made_again(
    desk: Desk, shadow: int
) -> None:
    with desk.database.write() as tx:
        proposal = activation.propose(tx, shadow, "ada", "better", NOON)
        activation.withdraw(tx, proposal, "ada", NOON)
        with pytest.raises(Refused, match="has ended"):
            activation.confirm(tx, proposal, "ben", NOON)
        activation.propose(tx, shadow, "ada", "better all the same", NOON)

    assert states(desk) == {"1.0.0": "active", "2.0.0": "shadow"}
    assert desk.acts() == ["release.proposed", "release.proposal_withdrawn", "release.proposed"]


@pytest.mark.parametrize(
    ("act", "given", "why"),
    [
        (activation.propose, (1, "ada", "better"), "active already"),
        (activation.propose, (99, "ada", "better"), "no such release"),
        (activation.move, (1, "active", "ada", "better"), "making it active needs two"),
        (activation.move, (1, "retired", "ada", " "), "say why"),
        (activation.roll_back, (1, "ada", "back"), "propose it"),
    ],
)
def test_what_one_person_may_not_do_changes_nothing(desk: Desk, act: Any, given: Any, why: str) -> None:
    with desk.database.write() as tx, pytest.raises(Refused, match=why):
        act(tx, *given, NOON)
    assert states(desk) == {"1.0.0": "active"} and desk.acts() == []


def test_one_person_retires_a_release(desk: Desk, shadow: int) -> None:
    with desk.database.write() as tx:
        activation.move(tx, shadow, "retired", "ada", "too many flags", NOON)
    assert states(desk) == {"1.0.0": "active", "2.0.0": "retired"}
