"""One act on many studies: each is done or says why not, and none of the others waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories import NOON, a_finding, uid
from tests.workflow.desk import Desk
from triage.domain.errors import Refused
from triage.store import users
from triage.store.database import Database
from triage.workflow import bulk


@pytest.fixture
def desk(database: Database) -> Desk:
    made = Desk(database)
    with database.write() as tx:
        for name, role in (("ann", "reader"), ("ben", "reader"), ("ada", "admin")):
            users.add_user(tx, name, role, "x", NOON)
    for study in (1, 2, 3):
        made.flagged(a_finding("effusion"), study=study)
    return made


def act(desk: Desk, name: str, *studies: object, person: str = "lea", **wishes: Any) -> tuple[int, list[str]]:
    """(how many were done, why the others were not)."""
    with desk.database.write() as tx:
        done, refused = bulk.act(tx, name, [uid(s) for s in studies], person, desk.clock(), **wishes)
    return done, [why for _, why in refused]


def test_studies_are_assigned_to_a_colleague_and_who_holds_one_keeps_it(desk: Desk) -> None:
    assert act(desk, "assign", 1, to="ben") == (1, [])
    assert act(desk, "assign", 1, 2, 2, to="ann") == (1, ["the study is claimed by ben"])
    assert {i["state"] for i in desk.rows("worklist_item")} == {"claimed", "to_read"}
    assert desk.acts().count("study.assigned") == 2
    assert act(desk, "release", 1, 2, person="ann") == (1, ["the study is claimed by ben"])


@pytest.mark.parametrize("to", ["", "nobody", "ada", "ben"])
def test_nothing_is_assigned_to_who_cannot_read(desk: Desk, to: str) -> None:
    with desk.database.write() as tx:
        users.change_user(tx, "ben", disabled=True)
    with pytest.raises(Refused, match="cannot read studies"):
        act(desk, "assign", 1, to=to)


def test_many_are_raised_with_a_reason_and_none_is_lowered(desk: Desk) -> None:
    with pytest.raises(Refused, match="say why"):
        act(desk, "raise", 1, 2, reason=" ")
    assert act(desk, "raise", 1, priority_class="critical", reason="trauma list") == (1, [])
    done, why = act(desk, "raise", 1, 2, 9, priority_class="high", reason="trauma list")
    assert done == 1 or why[0] == "the study is critical already"
    assert why == ["the study is critical already", "no such study"]
    assert [desk.item(n)["priority_class"] for n in (1, 2, 3)] == [3, 2, desk.item(3)["priority_class"]]


def test_a_label_is_kept_short_and_what_is_not_there_is_said(desk: Desk) -> None:
    assert act(desk, "label", 1, 2, 9, label=" " + "x" * 50) == (2, ["no such study"])
    assert [desk.item(n)["label"] for n in (1, 2, 3)] == ["x" * 40, "x" * 40, ""]
    assert desk.acts().count("study.labelled") == 2
