"""Claim, next and feedback in real Chromium (ux 15: T12 to T17)."""

from __future__ import annotations

import os
from typing import Any

from bench._studies import fill_in
from tests.web.browser import (
    MARKS,
    PHONE,
    Page,
    Visit,
    choose_row,
    uids,
    until,
)
from tests.web.conftest import Clock
from tests.web.seed import Sown, flag
from triage.store import audit, reading, studies
from triage.workflow.read import claims

pytestmark = MARKS
FULL = os.environ.get("TRIAGE_TEST_FULL") == "1"


def test_t12_two_readers_press_enter_and_exactly_one_claims(visit: Visit, sown: Sown) -> None:
    uid = sown.add(patient="Doe^Jane")
    ann, ben = visit("ann"), visit("ben")
    for page in (ann, ben):
        choose_row(page, uid)
    ann.keyboard.press("Enter")
    ann.wait_for_selector("#panel header")
    until(ann, "u => document.querySelector(`tr[data-uid='${u}'] .c-claim`).innerText.includes('you')", uid)
    ben.keyboard.press("Enter")
    ben.wait_for_selector("dialog[open], .toast.bad")
    if ben.locator("dialog[open]").count() == 0:  # ben still had the version of before: told so, asks again
        until(
            ben, "u => document.querySelector(`tr[data-uid='${u}'] .c-claim`).innerText.includes('Ann')", uid
        )
        ben.keyboard.press("Enter")
    ben.wait_for_selector("dialog[open]")
    said = ben.inner_text("dialog")
    assert "Dr. Ann" in said
    assert "left" in said


def test_t13_a_claim_that_ends_is_said_before_and_kept_by_y(visit: Visit, sown: Sown, clock: Clock) -> None:
    uid = sown.add(patient="Doe^Jane")
    page = visit("ann")
    choose_row(page, uid)
    page.keyboard.press("c")
    until(page, "u => document.querySelector(`tr[data-uid='${u}'] .c-claim`).innerText.includes('you')", uid)
    clock.forward(minutes=8.5)
    sown.add()  # any change brings the page the server's time
    page.wait_for_selector(".toast >> text=Your claim on Doe, Jane")
    page.keyboard.press("y")
    page.wait_for_selector(".toast >> text=Kept for another 10 minutes")
    clock.forward(minutes=10.5)
    with sown.database.write() as tx:
        assert claims.free_expired(tx, clock()) == 1
    until(
        page, "u => document.querySelector(`tr[data-uid='${u}'] .c-claim`).innerText.trim() === 'free'", uid
    )


def test_t14_a_take_over_has_a_reason_and_the_first_reader_sees_it(visit: Visit, sown: Sown) -> None:
    uid = sown.add()
    ann, ben = visit("ann"), visit("ben")
    choose_row(ann, uid)
    ann.keyboard.press("c")
    until(ben, "u => document.querySelector(`tr[data-uid='${u}'] .c-claim`).innerText.includes('Ann')", uid)
    choose_row(ben, uid)
    ben.keyboard.press("Enter")
    ben.wait_for_selector("dialog[open]")
    ben.keyboard.press("1")
    ben.wait_for_selector("#panel header")
    until(ann, "u => document.querySelector(`tr[data-uid='${u}'] .c-claim`).innerText.includes('Ben')", uid)
    with sown.database.read() as tx:
        taken = [
            e for e in audit.events(tx, object_kind="study", object_id=uid) if e["act"] == "study.taken_over"
        ]
    assert taken[0]["detail"]["from"] == "ann"
    assert taken[0]["detail"]["reason"]


def _report(page: Page) -> None:
    """Final, by the button of the panel: the study leaves the list, and its reader may hold another."""
    page.click("#panel [data-act=report]")
    page.keyboard.press("2")
    until(page, "!document.querySelector('#panel [data-act=report]')")


def test_t15_next_gives_three_readers_different_studies_best_first(visit: Visit, sown: Sown) -> None:
    """Five each, since nobody may hold more; with TRIAGE_TEST_FULL=1 ten each of 5,000, each reported before the next."""
    studies_, turns = (5_000, 30) if FULL else (300, 15)
    fill_in(sown.database, studies_, studies_, sown.now)
    pages = [visit(name) for name in ("ann", "ben", "cleo")]
    expected = uids(pages[0])
    taken = []
    for turn in range(turns):
        page = pages[turn % 3]
        before = page.evaluate("document.querySelector('#panel header')?.dataset.uid ?? ''")
        page.keyboard.press("n")
        until(page, "u => (document.querySelector('#panel header')?.dataset.uid ?? '') !== u", before)
        taken.append(page.evaluate("document.querySelector('#panel header').dataset.uid"))
        if FULL:
            _report(page)
    assert taken == expected[:turns]


def test_the_ring_goes_with_next_and_does_not_stay_on_another_patient(visit: Visit, sown: Sown) -> None:
    first, second = sown.add(ordered="STAT"), sown.add()
    page = visit("ann")
    choose_row(page, first)
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#panel header[data-uid='{first}']")
    page.keyboard.press("n")
    page.wait_for_selector(f"#panel header[data-uid='{second}']")
    until(page, "u => document.activeElement.closest('tr')?.dataset.uid === u", second)


def test_a_finger_opens_a_study_with_one_tap_and_claims_nothing(visit: Visit, sown: Sown) -> None:
    uid = sown.add()
    page = visit("ann", size=PHONE, has_touch=True, is_mobile=True)
    page.tap(f"tr[data-uid='{uid}'] .c-pat")
    page.wait_for_selector(f"#panel header[data-uid='{uid}']")
    page.wait_for_selector("#panel [data-act=claim]")  # offered: nothing is claimed yet


def test_asking_for_a_held_study_is_told_to_both(visit: Visit, sown: Sown) -> None:
    uid = sown.add(patient="Doe^Jane")
    ann, ben = visit("ann"), visit("ben")
    choose_row(ann, uid)
    ann.keyboard.press("c")
    until(ben, "u => document.querySelector(`tr[data-uid='${u}'] .c-claim`).innerText.includes('Ann')", uid)
    choose_row(ben, uid)
    ben.keyboard.press("Enter")
    ben.click("dialog[open] >> text=ask Dr. Ann for it instead")
    ann.wait_for_selector(".toast >> text=Dr. Ben asks you for Doe, Jane")
    ann.keyboard.press("r")
    ben.wait_for_selector(".toast >> text=Doe, Jane F 67y is free now")


def test_the_panel_follows_the_row_and_a_late_answer_shows_no_other_patient(visit: Visit, sown: Sown) -> None:
    for n in range(4):
        sown.add(patient=f"Person{n}^Row", minutes_ago=50 - n)
    page = visit("ann")
    order = uids(page)
    choose_row(page, order[0])
    page.keyboard.press("w")
    page.wait_for_selector("#panel header")
    slow = order[1]
    page.context.route(f"**/worklist/{slow}/panel", lambda r: (page.wait_for_timeout(600), r.continue_()))
    page.click(f'tr[data-uid="{order[1]}"] .c-pat')
    page.click(f'tr[data-uid="{order[2]}"] .c-pat')
    until(page, "u => document.querySelector('#panel header').dataset.uid === u", order[2])
    page.wait_for_timeout(900)
    assert page.evaluate("document.querySelector('#panel header').dataset.uid") == order[2]
    page.keyboard.press("k")
    page.keyboard.press("k")
    until(page, "u => document.querySelector('#panel header').dataset.uid === u", order[0])


# --- feedback ----------------------------------------------------------------------------------------------------------


def _feedback(sown: Sown, uid: str) -> list[dict[str, Any]]:
    with sown.database.read() as tx:
        return reading.feedback_of(tx, studies.find_study(tx, uid) or 0)


def test_t16_disagree_with_a_digit_then_undo(visit: Visit, sown: Sown) -> None:
    uid = sown.add(findings=(flag("nodule"),))
    sown.add()
    page = visit("ann")
    choose_row(page, uid)
    page.keyboard.press("Enter")
    page.wait_for_selector("#panel header")
    order = uids(page)
    page.keyboard.press("d")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("2")
    page.wait_for_selector(".toast >> text=Disagreed")
    stored = _feedback(sown, uid)
    assert (stored[0]["verdict"], stored[0]["chip"]) == ("disagree", "known")
    page.keyboard.press("z")
    page.wait_for_selector(".toast >> text=Taken back")
    assert _feedback(sown, uid)[0]["withdrawn_at"] is not None
    assert (
        page.locator(".toast >> text=Disagreed").count() == 0
    )  # no second Undo, which would take back another word
    assert uids(page) == order


def test_t17_agreeing_before_opening_is_refused_with_words(visit: Visit, sown: Sown) -> None:
    uid = sown.add(findings=(flag("nodule"),))
    page = visit("ann")
    choose_row(page, uid)
    page.keyboard.press("a")
    page.wait_for_selector(".toast.bad >> text=open the study before you judge it")
    assert _feedback(sown, uid) == []


def test_a_word_on_a_study_that_the_panel_shows_unclaimed_offers_the_claim(visit: Visit, sown: Sown) -> None:
    """J and K show a study without a claim: A there asks once, and stores nothing until the study is the reader's."""
    uid = sown.add(patient="Doe^Jane", findings=(flag("nodule"),))
    page = visit("ann")
    choose_row(page, uid)
    page.keyboard.press("w")
    page.wait_for_selector(f"#panel header[data-uid='{uid}']")
    page.keyboard.press("a")
    page.wait_for_selector("dialog[open] >> text=Doe, Jane")
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('dialog[open]')")
    assert _feedback(sown, uid) == []
    page.keyboard.press("d")
    page.keyboard.press("2")
    page.wait_for_selector("dialog[open] >> text=Claim and disagree")
    page.keyboard.press("Enter")
    page.wait_for_selector(".toast >> text=Disagreed")
    assert [(f["verdict"], f["chip"]) for f in _feedback(sown, uid)] == [("disagree", "known")]
    with sown.database.read() as tx:
        acts = [e["act"] for e in audit.events(tx, object_kind="study", object_id=uid) if e["actor"] == "ann"]
    assert {"study.claimed", "study.opened", "feedback.disagree"} <= set(acts)


def test_a_reason_is_typed_at_once_and_no_letter_of_it_is_a_key_of_the_list(visit: Visit, sown: Sown) -> None:
    uid, other = sown.add(), sown.add()
    page = visit("ann")
    choose_row(page, uid)
    page.keyboard.press("w")
    page.click("#panel [data-act=raise]")
    page.keyboard.press("2")
    page.wait_for_selector("dialog[open] input")
    page.keyboard.press("Enter")  # an empty reason is asked for again, not silently dropped
    assert page.locator("dialog[open] input").count() == 1
    page.keyboard.type("seen on the monitor")
    page.keyboard.press("Enter")
    until(page, "u => document.querySelector(`tr[data-uid='${u}']`).dataset.class === 'high'", uid)
    with sown.database.read() as tx:
        assert "study.claimed" not in [
            e["act"] for e in audit.events(tx, object_kind="study", object_id=other)
        ]
    assert page.locator("dialog[open]").count() == 0


def test_the_reason_names_the_whole_finding(visit: Visit, sown: Sown) -> None:
    """Cut to `pneu…` it could be four findings, and `150/1…` is no count; with the panel open too."""
    uid = sown.add(findings=(flag("pneumothorax"),), images=2, expected=2)
    page = visit("ann")
    cut = """u => [...document.querySelectorAll(`tr[data-uid='${u}'] td`)].filter(c => c.clientWidth &&
        c.scrollWidth > c.clientWidth && c.matches('.c-why, .c-ai, .c-img, .c-claim, .c-due')).map(c => c.innerText)"""
    assert page.evaluate(cut, uid) == []
    choose_row(page, uid)
    page.keyboard.press("c")
    until(page, "u => document.querySelector(`tr[data-uid='${u}'] .c-claim`).innerText.includes('you')", uid)
    assert page.evaluate(cut, uid) == []
    page.keyboard.press("w")
    page.wait_for_selector("#panel header")
    assert page.evaluate(cut, uid) == []
