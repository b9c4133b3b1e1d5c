"""Beyond the alarm budget operators hear of it once a week, and every alert goes out all the same."""

from __future__ import annotations

from tests.factories import a_finding
from tests.workflow.desk import Desk
from triage.domain.alerting import JUDGED_MIN, Loudness, beyond_budget
from triage.store import audit, reading
from triage.workflow import budget


def watch(desk: Desk) -> int:
    with desk.database.write() as tx:
        return budget.watch(tx, ["hook"], desk.ids, desk.clock())


def opened(desk: Desk, reader: str) -> None:
    with desk.database.write() as tx:
        audit.append(tx, desk.clock(), reader, "study.opened", "study", "1.2.3")


def test_a_loud_day_is_told_once_a_week_and_holds_back_no_alert(any_desk: Desk) -> None:
    for study in range(1, 4):
        any_desk.flagged(a_finding(), study=study)
    assert watch(any_desk) == 0  # nobody was at work: no rate
    opened(any_desk, "ann")
    any_desk.clock.advance(1)
    assert [watch(any_desk), watch(any_desk)] == [1, 0]
    (notice,) = any_desk.rows("operator_notice")
    assert notice["kind"] == "alerts.budget" and "chart 14" in notice["text"]
    any_desk.flagged(a_finding(), study=4)
    assert len({d["alert_id"] for d in any_desk.deliveries()}) == 4
    opened(any_desk, "ann")
    any_desk.clock.advance(7 * 24 * 3600)
    assert watch(any_desk) == 0  # a quiet day again


def test_flags_that_readers_mostly_disagree_with_spend_the_other_budget(desk: Desk) -> None:
    for study in range(1, 4):
        desk.flagged(a_finding(), study=study)
    with desk.database.write() as tx:
        reading.add_feedback(tx, 1, "ann", "agree", desk.clock())
        reading.add_feedback(
            tx, 1, "ann", "disagree", desk.clock(), finding="pneumothorax"
        )  # the last word counts
        reading.add_feedback(tx, 2, "ann", "agree", desk.clock(), finding="effusion")  # of another finding
        reading.add_feedback(tx, 3, "ben", "agree", desk.clock())
        desk.clock.advance(1)
        found = budget.loudness(tx, desk.clock())
    assert found == Loudness(alerts=3, reader_hours=0, agreed=1, disagreed=1)
    assert budget.as_json(found)["beyond"] == []


def test_which_budgets_are_spent() -> None:
    half = JUDGED_MIN // 2
    assert beyond_budget(Loudness(20, 10, half, half)) == []
    assert beyond_budget(Loudness(21, 10, half - 1, half + 1)) == ["banners", "precision"]
    assert beyond_budget(Loudness(1, 0, 0, JUDGED_MIN - 1)) == []
