"""A report ends claim and alerts."""

from __future__ import annotations

import pytest

from tests.web.seed import Sown
from tests.workflow.read.acting import LATER, NOW, an_alert, do, holder, item
from triage.domain.errors import Refused
from triage.store import alerts
from triage.workflow.read import claims, reported
from triage.workflow.read.row import Held


def test_a_report_ends_claim_and_alerts(sown: Sown) -> None:
    uid, alert_id = an_alert(sown)
    do(sown, claims.claim, uid, "ann", NOW)
    with pytest.raises(Held):
        do(sown, reported.report, uid, "ben", NOW, state="final")
    do(sown, reported.report, uid, "ann", NOW, state="preliminary")
    do(sown, reported.report, uid, "ann", LATER, state="final")
    found = item(sown, uid)
    assert (found["state"], found["report_state"], found["read_at"]) == ("read", "final", NOW)
    assert holder(sown, uid, NOW) is None
    with sown.database.read() as tx:
        closed = alerts.get(tx, alert_id)
    assert closed is not None
    assert closed["state"] == "closed"
    with pytest.raises(Refused):
        do(sown, reported.report, uid, "ann", NOW, state="scribble")
