"""When alarms are too loud (ux 9)."""

from __future__ import annotations

from triage.domain.alerting import (
    BANNERS_PER_READER_HOUR,
    JUDGED_MIN,
    Loudness,
    beyond_budget,
)


def test_a_budget_is_spent_by_too_many_banners_or_too_few_that_were_right() -> None:
    many = int(BANNERS_PER_READER_HOUR) * 8 + 8
    assert beyond_budget(Loudness(many, 8, JUDGED_MIN, 0)) == ["banners"]
    assert beyond_budget(Loudness(0, 8, 0, JUDGED_MIN)) == ["precision"]


def test_without_a_reader_at_work_or_too_few_judged_nothing_is_spent() -> None:
    assert beyond_budget(Loudness(1000, 0, 0, JUDGED_MIN - 1)) == []
