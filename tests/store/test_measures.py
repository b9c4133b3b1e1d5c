"""What QA asks of the rows, on both databases: which flags stood when, and what a reader's word is of."""

from __future__ import annotations

from sqlalchemy import insert

from tests.qa.rows import Department, at
from triage.store import measures
from triage.store.database import Database
from triage.store.measures import FlagFacts
from triage.store.schema import feedback

START, END = at(0), at(1440)


def test_every_flag_given_has_the_time_in_which_it_stood(any_database: Database) -> None:
    with any_database.write() as tx:
        d = Department(tx)
        first = d.study(0, flags=("effusion", "nodule"), flagged_after=1.0)
        d.rerun(first, 5.0, flags=("nodule",))
        d.rerun(first, 9.0)
        unknown = d.study(1, flags=("effusion",))
        d.rerun(unknown, None, flags=("nodule",))
        shadowed = d.study(2)
        d.finding(d.run(shadowed, shadowed, d.shadow, 2, 1, "completed", ""), shadowed, "effusion")
        d.study(3, flags=("effusion",), constancy=True)
        given = measures.given_between(tx, START, END)
        today = measures.flags_between(tx, START, END)
    assert given == [
        FlagFacts(first, "chest_xray", "effusion", at(1), at(5)),
        FlagFacts(first, "chest_xray", "nodule", at(1), at(5)),
        FlagFacts(first, "chest_xray", "nodule", at(5), at(9)),
        FlagFacts(unknown, "chest_xray", "nodule", at(0)),
    ]
    assert today == given[3:]
    assert [given[0].stood(at(m)) for m in (0.9, 1, 4.9, 5)] == [False, True, True, False]
    assert not given[3].stood(at(-1)) and given[3].stood(END)


def test_a_word_names_the_release_of_its_run(any_database: Database) -> None:
    with any_database.write() as tx:
        d = Department(tx)
        d.study(0, flags=("effusion",), words=(("agree", ""),))
        d.study(1, ran="", words=(("missed", "nodule"),))
        words = measures.feedback_between(tx, START, END)
    assert [(w.release, w.at) for w in words] == [("chest_xray 1.0.0", at(60)), ("", at(61))]


def test_a_word_judges_an_alert_that_stood_when_it_was_said(any_database: Database) -> None:
    with any_database.write() as tx:
        d = Department(tx)
        for minute in range(4):
            study_id = d.study(minute, flags=("pneumothorax",))
            gone = {"state": "withdrawn", "ended_after": 10} if minute > 1 else {"state": "open"}
            d.alert(study_id, 20 if minute else 50, **gone)  # type: ignore[arg-type]
            said = at(
                45 if minute == 3 else 25
            )  # the first before its alert, the last after it was withdrawn
            tx.execute(insert(feedback).values(study_id=study_id, reader="r1", verdict="agree", at=said))
        assert measures.judged_alerts(tx, START, END) == (2, 0)
