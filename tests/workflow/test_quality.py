"""Acts of QA: who is drawn for a second read is nobody's choice, and what was signed stays."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.factories import NOON, a_finding, uid
from tests.workflow.desk import Desk
from triage.domain.errors import Conflict, Refused
from triage.qa.report import build
from triage.settings import Settings
from triage.store import double_reads, quality
from triage.workflow.quality import (
    DOUBLE_READ_SHARE,
    draw_double_reads,
    is_drawn,
    record_double_read,
    sign_report,
)
from triage.workflow.read import claims, reported

DAY = timedelta(days=1)


def test_the_draw_takes_its_share_and_always_the_same() -> None:
    drawn = [is_drawn(uid(n), DOUBLE_READ_SHARE) for n in range(20_000)]
    assert 300 < sum(drawn) < 500
    assert drawn[:100] == [is_drawn(uid(n), DOUBLE_READ_SHARE) for n in range(100)]
    assert not is_drawn("1.2.3", 0.0) and is_drawn("1.2.3", 1.0)


def read_study(desk: Desk, study: int, **values: Any) -> str:
    with desk.database.write() as tx:
        claims.claim(tx, uid(study), "anna", desk.clock())
        reported.report(tx, uid(study), "anna", desk.clock(), **values)
    return uid(study)


def test_read_studies_without_a_flag_are_drawn_once_and_flagged_or_unread_ones_never(any_desk: Desk) -> None:
    desk = any_desk
    desk.analyse(desk.receive(study=1).wake[0][0])
    desk.flagged(a_finding("pneumothorax", 0.95), study=2)
    desk.analyse(desk.receive(study=3).wake[0][0])  # nobody reads it
    read_study(desk, 1, state="final")
    read_study(desk, 2, state="final")
    with desk.database.write() as tx:
        assert draw_double_reads(tx, NOON - DAY, NOON + DAY, NOON, share=1.0) == 1
        assert draw_double_reads(tx, NOON - DAY, NOON + DAY, NOON, share=1.0) == 0
        (waiting,) = double_reads.waiting(tx)
    assert waiting["study_instance_uid"] == uid(1)
    assert desk.acts().count("double_read.drawn") == 1


def test_a_second_read_is_given_once_by_one_person_in_known_words(any_desk: Desk) -> None:
    desk = any_desk
    desk.analyse(desk.receive(study=1).wake[0][0])
    read_study(desk, 1, state="final")
    with desk.database.write() as tx:
        draw_double_reads(tx, NOON - DAY, NOON + DAY, NOON, share=1.0)
        with pytest.raises(Refused, match="gremlin"):
            record_double_read(tx, uid(1), "ben", ["gremlin"], "", NOON)
        with pytest.raises(Refused, match="no study"):
            record_double_read(tx, uid(9), "ben", [], "", NOON)
        record_double_read(tx, uid(1), "ben", ["effusion"], "left", NOON)
        with pytest.raises(Conflict, match="does not wait"):
            record_double_read(tx, uid(1), "eve", [], "", NOON)
        (given,) = double_reads.between(tx, NOON - DAY, NOON + DAY)
    assert (given.reader, given.findings) == ("ben", ("effusion",))
    assert "double_read.given" in desk.acts()


def test_a_closed_period_is_signed_once_and_kept_as_it_was(any_desk: Desk) -> None:
    desk = any_desk
    desk.flagged(a_finding("pneumothorax", 0.95))
    now = NOON + 2 * DAY
    with desk.database.write() as tx:
        report = build(tx, NOON - DAY, NOON + DAY, Settings(), now)
        signed = sign_report(tx, report, "qa", "reviewed", now)
        with pytest.raises(Conflict, match="already"):
            sign_report(tx, {**report, "head": {**report["head"], "created_at": "later"}}, "qa", "", now)
        running = build(tx, NOON - DAY, now + DAY, Settings(), now)
        with pytest.raises(Refused, match="still runs"):
            sign_report(tx, running, "qa", "", now)
        kept = quality.get_signed(tx, signed["id"])
        assert kept is not None and json.loads(kept["content"])["flags"] == report["flags"]
        assert quality.get_signed(tx, 99) is None
        assert [r["signed_by"] for r in quality.signed(tx)] == ["qa"]
    assert "report.signed" in desk.acts()
