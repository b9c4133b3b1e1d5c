"""An acknowledgement is the first person's and stays."""

from __future__ import annotations

import pytest

from tests.web.seed import Sown
from tests.workflow.read.acting import LATER, NOW, an_alert, do
from triage.domain.errors import Refused
from triage.store import audit
from triage.workflow.read import answers, claims, reported
from triage.workflow.read.row import Held, NotFound, Stale


def test_an_acknowledgement_is_the_first_persons_and_stays(sown: Sown) -> None:
    _, alert_id = an_alert(sown)
    with pytest.raises(Stale):
        do(sown, answers.acknowledge, alert_id, "ann", NOW, version=99)
    first = do(sown, answers.acknowledge, alert_id, "ann", NOW)
    assert (first["state"], first["acknowledged_by"], first["acknowledged_at"]) == (
        "acknowledged",
        "ann",
        NOW,
    )
    assert do(sown, answers.acknowledge, alert_id, "ann", LATER) == first
    with pytest.raises(Held):
        do(sown, answers.acknowledge, alert_id, "ben", LATER)
    with pytest.raises(Refused):
        do(sown, answers.put_off, alert_id, "ann", NOW)
    with pytest.raises(Refused):
        do(sown, answers.hand_over, alert_id, "ann", "ben", NOW)


def test_a_closed_alert_cannot_be_acknowledged(sown: Sown) -> None:
    uid, alert_id = an_alert(sown)
    do(sown, reported.report, uid, "ann", NOW, state="final")
    with pytest.raises(Refused, match="closed"):
        do(sown, answers.acknowledge, alert_id, "ann", NOW)


def test_an_alert_is_handed_to_a_reader_and_put_off_once(sown: Sown) -> None:
    _, alert_id = an_alert(sown)
    for nobody in ("", "qa", "stranger"):
        with pytest.raises(Refused):
            do(sown, answers.hand_over, alert_id, "ann", nobody, NOW)
    assert do(sown, answers.hand_over, alert_id, "ann", "ben", NOW)["assigned_to"] == "ben"
    assert do(sown, answers.put_off, alert_id, "ben", NOW)["later_until"] == NOW + answers.LATER_LENGTH
    with pytest.raises(Refused, match="once"):
        do(sown, answers.put_off, alert_id, "ben", LATER)


def test_an_alert_that_is_not_there_is_not_found(sown: Sown) -> None:
    with pytest.raises(NotFound):
        do(sown, answers.acknowledge, 999, "ann", NOW)


def test_every_act_leaves_a_whole_chain(sown: Sown) -> None:
    uid, alert_id = an_alert(sown)
    do(sown, claims.claim, uid, "ann", NOW)
    do(sown, answers.acknowledge, alert_id, "ann", NOW)
    do(sown, reported.report, uid, "ann", NOW, state="final")
    with sown.database.read() as tx:
        assert audit.verify(tx).ok
