"""The seventeen charts: each figure equals the one counted by hand from a script of rows, and alarms ring when due."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, insert, update

from tests.qa.rows import Department, at
from triage.domain.errors import Refused
from triage.qa.boards import board
from triage.qa.boards.chart import Chart, Facts
from triage.qa.replay.site import replay_site
from triage.qa.subgroups import subgroups
from triage.store import audit, double_reads, policies, releases
from triage.store.database import Database, do_last_acts
from triage.store.schema import finding, instance, report, run

DAY = 1440.0
START, END, NOW = at(0), at(3 * DAY), at(4 * DAY)


@pytest.fixture
def tx(database: Database) -> Iterator[Connection]:
    with database.write() as connection:
        yield connection


@pytest.fixture
def department(tx: Connection) -> Department:
    return Department(tx)


def chart(tx: Connection, number: int, finding_: str = "pneumothorax") -> Chart:
    return board.build(board.facts_of(tx, START, END, NOW), number, finding_)


def rows(chart_: Chart, **wanted: Any) -> list[dict[str, Any]]:
    found = [dict(zip(chart_.columns, row, strict=True)) for row in chart_.rows]
    return [r for r in found if all(r[k] == v for k, v in wanted.items())]


def header(tx: Connection, study_id: int, **values: Any) -> None:
    series_id = study_id  # Department makes one series a study, in step
    tx.execute(
        insert(instance).values(
            series_id=series_id, sop_instance_uid=f"1.4.{study_id}", sop_class_uid="1", transfer_syntax_uid="1",
            digest=f"{study_id:064d}", size_bytes=1, received_at=at(0), wanted=True, header=values,
        )
    )  # fmt: skip


def say(tx: Connection, study_id: int, text: str, state: str = "final") -> None:
    tx.execute(
        insert(report).values(
            study_id=study_id, digest=f"{study_id}-{state}-{text}"[:64], study_instance_uid=f"1.2.{study_id}",
            state=state, text=text, received_at=at(1),
        )
    )  # fmt: skip


def test_every_chart_of_an_empty_department_says_so_and_draws_valid_pictures(
    tx: Connection, department: Department
) -> None:
    facts = board.facts_of(tx, START, END, NOW)
    found = board.build_all(facts)
    assert [c.number for c in found] == list(range(1, 18))
    assert len({c.key for c in found}) == 17 and not any(c.alarm for c in found)
    for c in found:
        assert c.definition and c.question and all(len(row) == len(c.columns) for row in c.rows)
        if c.svg:
            ET.fromstring(c.svg)
    assert len(board.as_json(found, facts)["charts"]) == 17


def test_a_period_or_chart_that_there_is_not_is_refused(tx: Connection, department: Department) -> None:
    with pytest.raises(Refused, match="holds nothing"):
        board.facts_of(tx, END, START, NOW)
    with pytest.raises(Refused, match="no chart 18"):
        chart(tx, 18)
    with pytest.raises(Refused, match="no finding"):
        chart(tx, 17, "gremlin")


def test_waits_are_by_week_order_and_flag_and_link_to_their_studies(
    tx: Connection, department: Department
) -> None:
    flagged = [department.study(k, flags=("effusion",), opened_after=5.0) for k in range(4)]
    department.study(10, opened_after=50.0)
    department.study(11)  # nobody opened it
    one = chart(tx, 1)
    (row,) = rows(one, group="flagged")
    assert (row["studies"], row["median s"], row["still open"]) == (4, 300.0, 0)
    assert one.studies[one.rows.index(list(row.values()))] == flagged
    (other,) = rows(one, group="not flagged")
    assert (other["studies"], other["still open"], other["note"]) == (2, 1, "too few to compare")


def test_a_study_counts_as_flagged_by_what_stood_when_it_was_opened(
    tx: Connection, department: Department
) -> None:
    kept, replaced, again, waits, before, late, gone, unknown = (
        department.study(
            k,
            flags=("effusion",),
            flagged_after=8.0 if k == 5 else 0.1,
            opened_after=None if k in (3, 6) else 5.0,
        )
        for k in range(8)
    )
    department.rerun(kept, 9.0)  # withdrawn after the opening
    department.rerun(replaced, 3.0, flags=("effusion",))
    department.rerun(again, 3.0)
    department.rerun(again, 6.0, flags=("effusion",))
    department.rerun(before, 7.0)  # withdrawn two minutes before it was opened
    department.rerun(gone, 20.0)  # still unopened
    department.rerun(unknown, None)
    one = chart(tx, 1)
    by_group = {row[2]: sorted(one.studies[i]) for i, row in enumerate(one.rows)}
    assert by_group == {
        "flagged": [kept, replaced, again, waits], "not flagged": [before, late, gone, unknown]
    }  # fmt: skip


def test_who_waits_beyond_the_bound_rings(tx: Connection, department: Department) -> None:
    late = department.study(0, order="STAT", opened_after=61.0)
    department.study(5, order="STAT", opened_after=59.0)
    two = chart(tx, 2)
    assert two.alarm == "1 study waited beyond its bound"
    assert rows(two, **{"beyond bound": "yes"})[0]["seconds"] == 3660.0 and two.studies[0] == [late]


def test_a_flag_is_right_when_the_reader_says_so_or_else_the_final_report(
    tx: Connection, department: Department
) -> None:
    department.study(0, flags=("effusion",), words=(("agree", "effusion"),))
    wrong = department.study(1, flags=("effusion",))
    say(tx, wrong, "No pleural effusion.")
    open_ = department.study(2, flags=("effusion",))
    say(tx, open_, "Possible small effusion.")  # leaves it open: not judged
    both = department.study(3, flags=("effusion",), words=(("disagree", "effusion"),))
    say(tx, both, "Large effusion.")  # the reader's word comes first
    preliminary = department.study(4, flags=("effusion",))
    say(tx, preliminary, "No effusion.", state="preliminary")
    three = chart(tx, 3)
    (row,) = rows(three, finding="effusion")
    assert (row["flags"], row["judged, 30 days"], row["PPV"]) == (5, 3, round(1 / 3, 4))
    assert list(three.studies[0]) == [wrong, both] and not three.alarm
    # `both` was rejected as known (tests.qa.rows): no flag worth an alarm, but the finding is there.
    assert row["finding there"] == round(2 / 3, 4)


def test_a_word_judges_the_flags_that_stood_when_it_was_said(tx: Connection, department: Department) -> None:
    """Said an hour after arrival (tests.qa.rows); what was withdrawn later was judged, what came later was not."""
    judged = department.study(0, flags=("effusion",), words=(("disagree", ""),))
    department.rerun(judged, 90.0)
    unjudged = department.study(1, words=(("agree", ""),))
    department.rerun(unjudged, 90.0, flags=("effusion",))
    unseen = department.study(2, flags=("effusion",), words=(("agree", "effusion"),))
    department.rerun(unseen, 30.0)  # withdrawn before the word: it is of nothing
    say(tx, judged, "Large effusion.")
    three = chart(tx, 3)
    (row,) = rows(three, finding="effusion")
    assert (row["flags"], row["judged, 30 days"], row["PPV"], three.n) == (2, 1, 0.0, 2)
    assert list(three.studies[0]) == [judged]
    (missed,) = rows(chart(tx, 4), finding="effusion")  # what is missed today: the last run flags it no more
    assert (missed["right flags"], missed["said missed"]) == (0, 1)


def test_critical_flags_that_keep_being_wrong_ring(tx: Connection, department: Department) -> None:
    for k in range(30):
        department.study(k, flags=("pneumothorax",), words=(("disagree", "pneumothorax"),))
    assert "pneumothorax" in chart(tx, 3).alarm


def test_sensitivity_comes_from_the_blind_sample_and_not_from_what_was_noticed(
    tx: Connection, department: Department
) -> None:
    for k in range(10):
        department.study(k, flags=("effusion",), words=(("agree", "effusion"),))
    unflagged = [department.study(100 + k, read_after=1.0) for k in range(40)]
    say(tx, unflagged[0], "Small left effusion.")
    assert double_reads.add(tx, unflagged[:20], at(200)) == 20
    assert double_reads.add(tx, unflagged[:20], at(201)) == 0, "a study is drawn once"
    for k, study_id in enumerate(unflagged[:10]):
        assert double_reads.record(tx, study_id, "r2", ["effusion"] if k < 1 else [], "", at(300))
    assert not double_reads.record(tx, unflagged[0], "r3", [], "", at(301)), "the first second read stands"
    four = chart(tx, 4)
    (row,) = rows(four, finding="effusion")
    assert (row["said missed"], row["found in sample"], row["sample"], row["right flags"]) == (1, 1, 10, 10)
    assert row["at most"] == round(10 / 11, 4)
    assert row["sensitivity"] == round(10 / (10 + 40 * 0.1), 4)
    assert row["low"] < row["sensitivity"] < row["high"]


def test_reasons_of_disagreement_are_shares_of_the_words_on_a_release(
    tx: Connection, department: Department
) -> None:
    department.study(0, flags=("effusion",), words=(("disagree", "effusion"), ("agree", "effusion")))
    (row,) = rows(chart(tx, 5))
    assert (row["release"], row["reason"], row["disagree"], row["words"], row["share"]) == (
        "chest_xray 1.0.0", "known", 1, 2, 0.5,
    )  # fmt: skip


def test_a_word_is_of_the_release_whose_result_stood_then(tx: Connection, department: Department) -> None:
    newer = releases.register(tx, "chest_xray", "1.1.0", "n" * 64, [], at(-1))
    i = department.study(0, flags=("effusion",), words=(("disagree", "effusion"),))
    department.rerun(i, 90.0, flags=("effusion",), release_id=newer)
    (row,) = rows(chart(tx, 5))
    assert row["release"] == "chest_xray 1.0.0"


def test_a_group_that_differs_from_the_rest_rings_and_small_ones_give_no_figure(
    tx: Connection, department: Department
) -> None:
    for k in range(100):
        department.study(k, flags=("effusion",) if k < 30 else (), sex="F")
        department.study(200 + k, sex="M", sender="XR2")
    six = chart(tx, 6)
    assert "sex F" in six.alarm
    (few,) = rows(six, by="sex", group="M")
    assert few["flag rate"] is None and few["note"] == "too few"


def test_a_scan_stands_under_no_view_of_films(tx: Connection, department: Department) -> None:
    department.study(0)
    department.study(1, view="")
    department.study(2, modality="CT", view="", detector="lung_nodule")
    assert [(r["group"], r["studies"]) for r in rows(chart(tx, 6), by="view")] == [("PA", 1), ("unknown", 1)]
    facts = board.facts_of(tx, START, END, NOW)
    found = subgroups(facts.studies, facts.flags, facts.said, deidentified=False)
    assert [(r["group"], r["n"]) for r in found["view"]] == [("PA", 1), ("unknown", 1)]
    assert sum(r["n"] for r in found["sex"]) == 3


def test_another_scanner_and_thickness_are_seen_and_told_in_words(
    tx: Connection, department: Department
) -> None:
    for k in range(60):
        i = department.study(-2000 - k, modality="CT", detector="lung_nodule")
        header(
            tx,
            i,
            manufacturer="ACME",
            manufacturer_model_name="One",
            kvp=120.0,
            slice_thickness_mm=1.0 + k % 5,
        )
    for k in range(60):
        i = department.study(k, modality="CT", detector="lung_nodule")
        header(tx, i, manufacturer="OTHER", manufacturer_model_name="Two", kvp=120.0, slice_thickness_mm=5.0)
    seven = chart(tx, 7)
    assert "lung_nodule device" in seven.alarm and "lung_nodule slice thickness" in seven.alarm
    (device,) = rows(seven, what="device")
    assert "100%" in device["note"]
    (kvp,) = rows(seven, what="kVp")
    assert kvp["PSI"] == 0 and kvp["note"] == ""


def test_too_few_before_say_nothing_of_drift(tx: Connection, department: Department) -> None:
    header(tx, department.study(0), manufacturer="ACME", columns=2000)
    assert all("too few" in r["note"] for r in rows(chart(tx, 7))) and not chart(tx, 7).alarm


def test_a_day_with_many_flags_is_marked(tx: Connection, department: Department) -> None:
    for k in range(100):
        department.study(-10_000 - k, flags=("effusion",) if k < 5 else ())
    for k in range(60):
        department.study(DAY + k, flags=("effusion",) if k < 20 else ())
    eight = chart(tx, 8)
    assert [r["mark"] for r in rows(eight)] == ["", "beyond 3 sigma", "lasting shift"]
    assert "2 days out of control" in eight.alarm and len(eight.studies[1]) == 60


def test_failed_constancy_checks_ring(tx: Connection, department: Department) -> None:
    department.check(10, True)
    assert not chart(tx, 9).alarm
    department.check(20, False)
    assert chart(tx, 9).alarm == "1 constancy check failed"
    (row,) = rows(chart(tx, 9))
    assert (row["day"], row["detector"], row["what"]) == ("2026-11-01", "chest_xray", "phantom")
    assert (row["checks"], row["failed"], row["largest difference"]) == (2, 1, None)


def test_a_golden_case_that_differs_rings(tx: Connection, department: Department) -> None:
    said = {"detector": "chest_xray", "version": "1.0.0"}
    audit.append(
        tx, at(5), "triage", "golden.fits", "release", 1, {**said, "difference": 2.0031e-4, "error": ""}
    )
    assert not chart(tx, 9).alarm
    (row,) = rows(chart(tx, 9), what="golden case")
    assert (row["detector"], row["failed"], row["largest difference"]) == ("chest_xray 1.0.0", 0, 2e-4)
    error = "golden case differs by 0.03, at most 0.005 is allowed"
    audit.append(
        tx, at(DAY), "triage", "golden.drifted", "release", 1, {**said, "difference": None, "error": error}
    )
    assert chart(tx, 9).alarm == f"chest_xray 1.0.0: {error}" and chart(tx, 9).n == 2


def test_calibration_is_against_reports_and_rings_when_off(tx: Connection, department: Department) -> None:
    for k in range(40):
        i = department.study(k, flags=("effusion",))  # says 0.9 each time
        say(tx, i, "Effusion." if k % 2 else "No effusion.")
    ten = chart(tx, 10)
    assert ten.alarm == "calibration error: effusion 0.400" and len(rows(ten, finding="effusion")) == 10
    assert ten.n == 40


def test_a_new_reason_of_refusal_rings(tx: Connection, department: Department) -> None:
    for k in range(40):
        department.study(-5000 - k)
    for k in range(40):
        department.study(
            k, ran="not_analysed" if k < 3 else "completed", reason="LATERAL_ONLY" if k < 3 else ""
        )
    eleven = chart(tx, 11)
    (row,) = rows(eleven)
    assert (row["reason"], row["runs"], row["of"], row["note"]) == ("LATERAL_ONLY", 3, 40, "new")
    assert "LATERAL_ONLY: XR1" in eleven.alarm and len(eleven.studies[0]) == 3


def test_a_reason_that_rose_rings_in_points(tx: Connection, department: Department) -> None:
    for k in range(40):
        department.study(-5000 - k, ran="failed" if k < 2 else "completed", reason="crashed" if k < 2 else "")
    for k in range(10):
        department.study(k, ran="failed" if k < 2 else "completed", reason="crashed" if k < 2 else "")
    assert "+15 points" in chart(tx, 11).alarm


def test_slow_runs_ring_and_stations_add_up(tx: Connection, department: Department) -> None:
    for k in range(20):
        department.study(k, flagged_after=2.0)
    tx.execute(update(run).values(started_at=run.c.requested_at))
    twelve = chart(tx, 12)
    assert rows(twelve, part="model")[0]["95 % s"] == 120.0
    assert twelve.alarm == "chest_xray: 95 % within 120 s"


def test_alerts_that_climb_to_the_end_ring(tx: Connection, department: Department) -> None:
    i = department.study(0, flags=("pneumothorax",))
    department.alert(i, 1, acknowledged_after=2, state="acknowledged", step=1)
    assert not chart(tx, 13).alarm
    j = department.study(5, flags=("pneumothorax",))
    department.alert(j, 6, state="open", step=4)
    thirteen = chart(tx, 13)
    assert thirteen.alarm and rows(thirteen, what="open or exhausted at the end")[0]["value"] == 1
    assert rows(thirteen, what="half acknowledged within, s")[0]["value"] == 120.0


def test_more_alerts_than_readers_can_hear_ring(tx: Connection, department: Department) -> None:
    for k in range(3):
        i = department.study(k, flags=("pneumothorax",))
        department.alert(i, k, state="open")
    assert not chart(tx, 14).alarm, "without reader-hours nothing can be said"
    audit.append(tx, at(5), "anna", "study.opened", "study", "1.2.1", {"next": True, "rank": 1})
    audit.append(tx, at(9), "anna", "study.opened", "study", "1.2.2", {"next": False, "rank": 5})
    do_last_acts(tx)
    assert chart(tx, 14).alarm == "3.00 alerts a reader-hour"
    (day, *_) = rows(chart(tx, 15))
    assert (day["openings"], day["share by next"], day["mean rank skipped"]) == (2, 0.5, 2.0)


def test_a_shadow_is_compared_study_by_study(tx: Connection, department: Department) -> None:
    for k in range(4):
        i = department.study(k, flags=("effusion",) if k < 2 else ())
        shadow = department.run(i, i, department.shadow, k, 0.2, "completed", "")
        department.finding(shadow, i, "effusion", actionable=k % 2 == 0)
        if k >= 2:
            live = tx.execute(finding.select().where(finding.c.study_id == i)).mappings().first()
            assert live is not None
            department.finding(live["run_id"], i, "effusion", actionable=False)
    (row,) = rows(chart(tx, 16))
    cells = [row[k] for k in ("both", "live only", "shadow only", "neither")]
    assert cells == [1, 1, 1, 1] and row["kappa"] == 0.0 and row["evidence"] == "too few yet"
    assert len(chart(tx, 16).studies[0]) == 2


def test_another_threshold_shows_what_it_would_flag_and_lose(tx: Connection, department: Department) -> None:
    for k, probability in enumerate((0.2, 0.6, 0.9)):
        i = department.study(k, flags=("effusion",), words=(("agree", "effusion"),))
        tx.execute(
            update(finding)
            .where(finding.c.study_id == i, finding.c.name == "effusion")
            .values(probability=probability)
        )
    seventeen = chart(tx, 17, "effusion")
    (force,) = rows(seventeen, **{"": "in force"})
    assert (force["threshold"], force["flags"], force["right flags lost"]) == (0.5, 2, 1)
    (highest,) = rows(seventeen, threshold=0.9)
    assert (highest["flags"], highest["flags a day"], highest["PPV"], highest["right flags lost"]) == (
        1, round(1 / 3, 2), 1.0, 2,
    )  # fmt: skip


def test_another_threshold_is_played_on_the_sites_own_arrivals(
    tx: Connection, department: Department
) -> None:
    """Forty films, one a minute, six minutes of reading each by two readers: waits under each threshold."""
    for k in range(40):
        flags = ("effusion",) if k % 4 == 0 else ()
        opened = 2.0 * k + (k % 2)
        i = department.study(k, flags=flags, opened_after=opened, read_after=opened + 6)
        tx.execute(
            update(finding)
            .where(finding.c.study_id == i, finding.c.name == "effusion")
            .values(probability=0.95 if k % 8 == 0 else 0.6)
        )
    seventeen = chart(tx, 17, "effusion")
    (force,) = rows(seventeen, **{"": "in force"})
    policy = replay_site(tx, START, END, policies.active(tx))["rules"]["policy"]
    assert force["flagged wait, min"] == pytest.approx(policy["flagged"]["mean"]["value"], abs=0.01)
    assert force["others wait, min"] == pytest.approx(policy["unflagged"]["mean"]["value"], abs=0.01)
    (strict,) = rows(seventeen, threshold=0.95)
    assert strict["flags"] == 5
    assert strict["others wait, min"] < force["others wait, min"]  # five films less stand before them


def test_facts_are_read_once(tx: Connection, department: Department) -> None:
    department.study(0)
    facts: Facts = board.facts_of(tx, START, END, NOW)
    assert facts.studies is facts.studies and facts.reference is facts.reference
