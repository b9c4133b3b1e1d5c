"""The QA report: every figure equals the one counted by hand from a script of rows."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from scipy import stats
from sqlalchemy import Connection

from tests.qa.rows import Department, at
from triage.domain.errors import Refused
from triage.qa import charts
from triage.qa.page import duration, to_html
from triage.qa.report import build, to_csv
from triage.qa.subgroups import small_cells
from triage.settings import Settings
from triage.store import releases
from triage.store.database import Database

START, END, NOW = at(0), at(1440), at(3000)


@pytest.fixture
def tx(database: Database) -> Iterator[Connection]:
    with database.write() as connection:
        yield connection


def report(tx: Connection, **options: Any) -> dict[str, Any]:
    return build(tx, START, END, Settings(), options.pop("now", NOW), **options)


def wilson_of_scipy(count: int, n: int) -> dict[str, float]:
    """The same figure by other people's code, to the six digits that the report gives."""
    interval = stats.binomtest(count, n).proportion_ci(method="wilson")
    low, high = (round(float(end), 6) for end in interval)
    return {"value": round(count / n, 6), "low": low, "high": high, "count": count, "n": n}


@pytest.fixture
def day(tx: Connection) -> Department:
    return a_day(tx)


def a_day(tx: Connection) -> Department:
    """Ten studies that count (ids 1 to 10), and four that must not."""
    d = Department(tx)
    d.study(
        10,
        flags=("pneumothorax",),
        flagged_after=0.1,
        opened_after=2,
        read_after=6,
        words=(("agree", "pneumothorax"),),
    )
    d.study(20, flags=("pneumothorax", "effusion"), flagged_after=0.2, opened_after=4, read_after=9,
            words=(("disagree", "pneumothorax"), ("agree", "effusion")))  # fmt: skip
    d.study(
        30,
        flags=("effusion",),
        flagged_after=0.4,
        opened_after=30,
        read_after=40,
        words=(("agree", ""), ("disagree", "")),
    )
    d.study(40, opened_after=100, read_after=110, words=(("missed", "nodule"),))
    d.study(50, opened_after=10, read_after=20, order="STAT", sex="M", sender="=CMD()")
    d.study(60, opened_after=70, read_after=80, order="STAT", sex="M")  # 70 min: beyond the 60 of class high
    d.study(1400, order="URGENT")  # still unread at the end of the period, 40 min later
    d.study(70, ran="not_analysed", reason="OUT_OF_AGE", age=9.0, opened_after=50, read_after=60)
    d.study(80, ran="failed", reason="crashed", opened_after=200, read_after=210, view="LL")
    d.study(90, ran="", state="withdrawn", modality="US")
    d.study(100, flags=("pneumothorax",), constancy=True)
    d.study(-5, flags=("pneumothorax",))  # before the period
    d.study(1440, flags=("pneumothorax",))  # the first moment after it
    shadowed = d.study(110, ran="", opened_after=1, read_after=2)
    d.finding(d.run(shadowed, shadowed, d.shadow, 110, 1, "completed", ""), shadowed, "pneumothorax")
    d.finding(d.run(4, 4, d.release["chest_xray"], 40, 1, "superseded", ""), 4, "nodule")
    return d


def test_only_studies_that_arrived_in_the_period_and_are_no_phantoms_count(day: Department) -> None:
    got = report(day.tx)["coverage"]
    assert got["studies"] == 11  # ten and the one that only a shadow release looked at
    assert got["wanted_by_a_detector"] == 9
    assert got["by_modality"] == {"DX": 10, "US": 1}
    assert got["by_order"] == {"STAT": 2, "URGENT": 1, "ROUTINE": 8}
    assert got["by_class"] == {"critical": 2, "high": 2, "elevated": 2, "routine": 5}
    assert got["raised_by_ai"]["count"] == 3
    assert got["by_state"] == {"read": 9, "to_read": 1, "withdrawn": 1}


def test_what_was_analysed_has_its_reasons_and_intervals(day: Department) -> None:
    got = report(day.tx)
    assert got["coverage"]["analysed"] == pytest.approx(wilson_of_scipy(7, 9))
    assert got["coverage"]["runs"] == {"chest_xray": {"completed": 7, "failed": 1, "not_analysed": 1}}
    assert [(r["reason"], r["count"], r["n"]) for r in got["not_analysed"]] == [("OUT_OF_AGE", 1, 9)]
    assert [(r["reason"], r["count"], r["n"]) for r in got["failed"]] == [("crashed", 1, 9)]


def test_flags_are_counted_once_a_study_and_judged_by_the_last_word(day: Department) -> None:
    got = report(day.tx)
    rows = {r["finding"]: r for r in got["flags"]["by_finding"]}
    assert sorted(rows) == ["effusion", "pneumothorax"]
    assert (rows["pneumothorax"]["flagged"]["count"], rows["pneumothorax"]["flagged"]["n"]) == (2, 7)
    assert (rows["pneumothorax"]["ppv"]["count"], rows["pneumothorax"]["ppv"]["n"]) == (1, 2)
    assert (rows["effusion"]["ppv"]["count"], rows["effusion"]["ppv"]["n"]) == (1, 2)  # agree, then disagree
    by_class = {r["class"]: r["studies"]["count"] for r in got["flags"]["by_class"]}
    assert by_class == {"critical": 2, "high": 0, "elevated": 1, "routine": 0}
    assert got["flags"]["studies"]["count"] == 3


def test_every_word_of_readers_is_counted_with_wilson(day: Department) -> None:
    got = report(day.tx)["agreement"]
    assert got["agree"] == pytest.approx(wilson_of_scipy(3, 5))
    assert got["disagree"]["count"] == 2
    assert got["missed"] == 1
    assert got["missed_by_finding"] == {"nodule": 1}
    assert got["disagree_reasons"] == {"known": 2}


def test_times_have_quantiles_and_the_longest(day: Department) -> None:
    got = report(day.tx)["times"]
    flag = got["arrival_to_flag"]
    assert (flag["n"], flag["median"]["value"], flag["p90"]["value"], flag["longest"]) == (
        3,
        12.0,
        24.0,
        24.0,
    )
    opened = got["arrival_to_opening"]
    # minutes: 2 4 30 | 100 10 70 50 200 1 and 40 still waiting
    assert (opened["all"]["n"], opened["all"]["done"], opened["all"]["open"]) == (10, 9, 1)
    assert opened["flagged"]["median"]["value"] == 4 * 60
    assert opened["all"]["longest"] == 200 * 60
    assert not opened["all"]["longest_is_open"]
    assert opened["by_order"]["STAT"]["n"] == 2
    assert opened["by_class"]["critical"]["longest"] == 4 * 60
    assert opened["flagged_against_unflagged"] == {"log_rank_p": None, "note": "too few"}


def test_a_flag_withdrawn_later_had_its_effect_and_one_that_came_later_had_none(day: Department) -> None:
    day.rerun(1, 90.0)  # opened at 12, judged at 70
    day.rerun(2, 22.0)  # opened at 24, judged at 80
    day.rerun(5, 150.0, flags=("nodule",))  # opened at 60
    got = report(day.tx)
    opened = got["times"]["arrival_to_opening"]
    assert (opened["flagged"]["n"], opened["unflagged"]["n"], opened["flagged"]["longest"]) == (2, 8, 30 * 60)
    assert got["times"]["arrival_to_report"]["flagged"]["n"] == 2
    assert got["times"]["arrival_to_flag"]["n"] == 4  # to the first, withdrawn since or not
    rows = {
        r["finding"]: (r["flagged"]["count"], r["ppv"]["count"], r["ppv"]["n"])
        for r in got["flags"]["by_finding"]
    }
    assert rows == {"pneumothorax": (0, 1, 1), "effusion": (1, 0, 1), "nodule": (1, 0, 0)}
    assert got["flags"]["studies"]["count"] == 2


def test_a_study_that_still_waits_is_censored_and_not_dropped(day: Department) -> None:
    urgent = report(day.tx)["times"]["arrival_to_opening"]["by_order"]["URGENT"]
    assert (urgent["n"], urgent["done"], urgent["longest"]) == (1, 0, 40 * 60)
    assert urgent["longest_is_open"]
    assert urgent["median"] == {"value": None, "low": None, "high": None}


def test_whoever_waited_beyond_the_bound_is_counted_against_the_class_without_ai(day: Department) -> None:
    got = {r["class"]: (r["beyond"]["count"], r["beyond"]["n"]) for r in report(day.tx)["beyond_bound"]}
    assert got == {"critical": (0, 0), "high": (1, 2), "elevated": (0, 1), "routine": (0, 7)}


def test_alerts_by_state_and_step_with_the_time_to_acknowledgement(day: Department) -> None:
    day.alert(1, 10, acknowledged_after=3, state="acknowledged")
    day.alert(2, 20, state="closed", ended_after=9, step=2)
    day.alert(3, 30, state="withdrawn", ended_after=4)
    day.alert(4, 1430, state="open", step=1)
    day.alert(11, 100, state="closed")  # of a constancy phantom
    got = report(day.tx)["alerts"]
    assert got["raised"] == 4
    assert got["per_day"]["value"] == 4.0
    assert got["by_state"] == {"acknowledged": 1, "closed": 1, "open": 1, "withdrawn": 1}
    assert got["by_step_reached"] == {"0": 2, "1": 1, "2": 1}
    assert (got["escalated"]["count"], got["escalated"]["n"]) == (2, 4)
    # waits in minutes: 3 done, 9 done, 4 withdrawn, 10 still open: S(3) = 3/4, S(9) = 3/8
    assert (got["acknowledgement"]["n"], got["acknowledgement"]["done"]) == (4, 2)
    assert got["acknowledgement"]["median"]["value"] == 9 * 60
    assert got["acknowledgement"]["p75"]["value"] is None


def test_constancy_checks_are_counted_and_their_studies_are_not(day: Department) -> None:
    day.check(15, True, seconds=4)
    day.check(30, True, seconds=6)
    day.check(45, False)
    day.check(60, None)
    day.check(1500, False)
    got = report(day.tx)["constancy"]
    assert (got["checks"], got["on_their_way"]) == (4, 1)
    assert (got["passed"]["count"], got["passed"]["n"]) == (2, 3)
    assert got["seconds"]["median"]["value"] == 4.0
    assert [f["at"] for f in got["failures"]] == [at(45).isoformat()]


def test_small_cells_are_suppressed_and_few_positives_carry_no_figure(day: Department) -> None:
    for i in range(40):
        day.study(
            200 + i, flags=("effusion",) if i < 25 else (), sex="O", words=(("agree", ""),) if i < 22 else ()
        )
    got = {r["group"]: r for r in report(day.tx)["subgroups"]["sex"]}
    assert got["M"] == {"group": "M", "n": None, "note": "<5"}
    assert got["F"]["n"] is None  # else the total would give M away
    others = got["O"]
    assert (others["n"], others["flagged"]["count"], others["flagged"]["n"]) == (40, 25, 40)
    assert others["ppv"]["value"] == 1.0
    inside = {r["group"]: r for r in report(day.tx, deidentified=False)["subgroups"]["sex"]}
    assert inside["M"]["n"] == 2
    assert inside["M"]["flagged"]["note"] == "too few"
    bands = {r["group"]: r["n"] for r in report(day.tx, deidentified=False)["subgroups"]["age_band"]}
    assert bands == {"0-17": 1, "40-64": 50}


def test_a_single_small_cell_takes_the_next_smallest_with_it() -> None:
    assert small_cells({"a": 3, "b": 9, "c": 40}) == {"a", "b"}
    assert small_cells({"a": 3, "b": 4, "c": 40}) == {"a", "b"}
    assert small_cells({"a": 0, "c": 40}) == set()


def test_the_head_names_what_was_in_force(day: Department) -> None:
    head = report(day.tx)["head"]
    assert [(r["detector"], r["version"], r["state"]) for r in head["releases"]] == [
        ("chest_xray", "1.0.0", "active"), ("chest_xray", "2.0.0", "shadow"), ("lung_nodule", "1.0.0", "active"),
    ]  # fmt: skip
    assert head["thresholds"] == [
        {"detector": "chest_xray", "version": "1.0.0", "finding": name, "threshold": 0.5}
        for name in ("effusion", "pneumothorax")
    ]
    assert [p["version"] for p in head["policies"]] == [1]
    assert head["audit_head"]["number"] == 1
    assert head["closed"]


def test_the_same_data_and_period_give_the_same_bytes_but_for_the_time_of_making(day: Department) -> None:
    first, later = report(day.tx), report(day.tx, now=at(9000))
    assert first["head"].pop("created_at") != later["head"].pop("created_at")
    assert json.dumps(first) == json.dumps(later)


def test_flagged_and_unflagged_are_compared_where_there_are_enough_of_both(tx: Connection) -> None:
    d = Department(tx)
    for i in range(60):
        d.study(i, flags=("effusion",) if i % 2 else (), opened_after=5 + i % 7 if i % 2 else 60 + i)
    got = report(tx)["times"]
    assert got["arrival_to_opening"]["flagged_against_unflagged"]["log_rank_p"] < 1e-6
    assert got["arrival_to_report"]["flagged_against_unflagged"] == {
        "log_rank_p": None, "note": "nobody was done",
    }  # fmt: skip


def test_what_a_release_did_in_shadow_does_not_count_after_its_activation(day: Department) -> None:
    before = report(day.tx)["flags"]
    releases.activate(day.tx, day.shadow)
    assert report(day.tx)["flags"] == before


@pytest.mark.postgres
def test_postgresql_gives_the_same_bytes_as_sqlite(day: Department, postgres_database: Database) -> None:
    with postgres_database.write() as tx:
        assert json.dumps(report(a_day(tx).tx)) == json.dumps(report(day.tx))


def test_nothing_of_a_patient_leaves_and_uids_only_when_asked(day: Department) -> None:
    outside, inside = report(day.tx), report(day.tx, deidentified=False)
    for text in (json.dumps(inside), to_csv(inside), to_html(inside)):
        assert "SECRET" not in text
        assert "r1" not in text.replace("pr1", "").split(), "readers are not named"
    assert "1.2.2" not in json.dumps(outside)
    assert inside["discordant"][1] == {
        "finding": "pneumothorax", "what": "flagged, reader disagrees", "count": 1, "study_uids": ["1.2.2"],
    }  # fmt: skip


def test_csv_has_the_numbers_of_the_document_and_runs_no_formula(day: Department) -> None:
    document = report(day.tx, deidentified=False)
    rows = {r["figure"]: r for r in csv.DictReader(io.StringIO(to_csv(document)))}
    assert rows["coverage.analysed"]["value"] == "0.777778"
    assert rows["flags.by_finding[chest_xray/pneumothorax].ppv"]["n"] == "2"
    assert rows["times.arrival_to_opening.flagged.median"]["value"] == "240.0"
    assert rows["subgroups.sender[=CMD()].group"]["value"] == "'=CMD()"
    assert all(not r["figure"].startswith(("=", "+", "-", "@")) for r in rows.values())


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_one_file_without_scripts_and_escapes_what_it_shows(day: Department) -> None:
    day.study(120, sender="<script>x</script>"[:16])
    page = _Tags()
    text = to_html(report(day.tx, deidentified=False))
    page.feed(text)
    assert page.open == []
    names = {tag for tag, _ in page.seen}
    assert not names & {"script", "link", "img", "iframe", "object"}
    assert not [a for _, attrs in page.seen for a in attrs if a.startswith("on") or a in ("src", "href")]
    assert names >= {"svg", "table", "h1", "caption"}
    assert "&lt;script&gt;" in text


def test_an_empty_period_is_a_report_without_figures(tx: Connection) -> None:
    Department(tx)
    document = report(tx)
    assert document["coverage"]["analysed"] == {"value": None, "low": 0.0, "high": 1.0, "count": 0, "n": 0}
    assert document["times"]["arrival_to_flag"]["longest"] is None
    assert "0 studies arrived" in to_html(document)
    json.loads(json.dumps(document, allow_nan=False))


def test_a_period_that_holds_nothing_is_refused(tx: Connection) -> None:
    with pytest.raises(Refused):
        build(tx, END, START, Settings(), NOW)
    with pytest.raises(Refused):
        build(tx, at(4000), at(5000), Settings(), NOW)


@pytest.mark.parametrize("width", [0, 1, 7])
def test_charts_are_wellformed_pictures_of_any_number_of_marks(width: int) -> None:
    bars = [charts.Bar(f"<{i}>", i / 10 if i else None, 0.0, 0.9, "a & b") for i in range(width)]
    curves = [charts.Curve("k", [[0, 1], [60.0, 0.5]], 90.0)] * min(width, 4)
    for text in (charts.intervals("t", bars), charts.steps("t", curves)):
        assert ET.fromstring(text).tag.endswith("svg")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3.25, "3.2 s"),
        (65, "1 min 05 s"),
        (3600, "1 h 00 min"),
        (90_000, "1 d 1 h"),
        (3599.9, "1 h 00 min"),
        (2000, "33 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words
