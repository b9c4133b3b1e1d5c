"""The pages in real Chromium: the checks of ux 15 by their numbers. `make test` runs them where Chromium is found."""

from __future__ import annotations

import csv
import io
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event
from werkzeug.serving import make_server

from tests.web.conftest import Clock
from tests.web.seed import SITE, Sown, a_day, flag, pneumothorax
from triage.domain.suitability import SENTENCES, NotSuitable, ReasonCode
from triage.settings import Settings
from triage.store import alerts, audit, events, reading, studies
from triage.web import columns
from triage.workflow import accounts, read
from triage.workflow.alert import climb_ladders
from triage.workflow.site import new_id

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(120),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--no-proxy-server",
]  # fmt: skip
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
Page = Any


class RealClock(Clock):
    """The browser counts by the server's clock, so this one runs; `forward` moves it on."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()

    def __call__(self) -> datetime:
        return self.now + timedelta(seconds=time.monotonic() - self._began)


@pytest.fixture
def clock() -> RealClock:
    return RealClock()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def base(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    app.extensions["triage"].feed.stop()
    server.shutdown()


Visit = Callable[..., Page]


@pytest.fixture
def visit(chromium: Any, base: str, sown: Sown, clock: Clock) -> Iterator[Visit]:
    """A page of this user at this path; what the console says wrong fails the test."""
    contexts, said = [], []

    def go(user: str, path: str = "/worklist", *, size: dict[str, int] = DESK, theme: str = "dark") -> Page:
        context = chromium.new_context(viewport=size, color_scheme=theme, accept_downloads=True)
        contexts.append(context)
        with sown.database.write() as tx:
            secret = accounts.sign_in(tx, user, clock()).secret
        context.add_cookies([{"name": "triage_session", "value": secret, "url": base}])
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda m: said.append(m.text) if "Content Security" in m.text else None)
        page.goto(base + path)
        if path.startswith("/worklist"):
            page.wait_for_selector("#rows tr[data-uid], #rows tr.empty")
            page.wait_for_selector(".rows table[data-loaded]")
        return page

    yield go
    for context in contexts:
        context.close()
    assert said == []


def uids(page: Page) -> list[str]:
    found: list[str] = page.eval_on_selector_all("#rows tr[data-uid]", "rows => rows.map(r => r.dataset.uid)")
    return found


def cell(page: Page, uid: str, column: str) -> str:
    return str(page.inner_text(f'tr[data-uid="{uid}"] .c-{column}')).strip()


def top_of(page: Page, uid: str) -> float:
    return float(
        page.evaluate("u => document.querySelector(`tr[data-uid='${u}']`).getBoundingClientRect().top", uid)
    )


def until(page: Page, expression: str, argument: Any = None, seconds: float = 10) -> None:
    """Asked from outside: the page's own CSP forbids the `eval` that `wait_for_function` is made of."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression, argument):
        assert time.monotonic() < deadline, f"not within {seconds} s: {expression}"
        page.wait_for_timeout(30)


def settle(page: Page) -> None:
    """Pointer away from the rows and no key pressed: the list may come to rest."""
    page.mouse.move(5, 5)


def choose_row(page: Page, uid: str) -> None:
    page.click(f'tr[data-uid="{uid}"] .c-pat')
    until(page, "u => document.querySelector(`tr[data-uid='${u}'][aria-current]`)", uid)


# --- the list ----------------------------------------------------------------------------------------------------


def test_t01_default_columns_in_order_and_positions_of_the_server(visit: Visit, sown: Sown) -> None:
    a_day(sown)
    page = visit("ann", size={"width": 1900, "height": 900})
    shown = page.eval_on_selector_all(".rows thead th", "ths => ths.map(t => t.className.slice(2))")
    assert shown == [c.id for c in columns.ALL if c.first]
    assert len(shown) == 17
    visible = page.eval_on_selector_all(".rows thead th", "ths => ths.filter(t => t.offsetWidth > 0).length")
    assert visible == 16  # one site: its column is hidden
    order = page.evaluate("fetch('/api/v1/worklist').then(r => r.json())")["items"]
    assert uids(page) == [i["study_uid"] for i in order]
    positions = page.eval_on_selector_all("#rows td.c-pos", "tds => tds.map(t => t.textContent.trim())")
    assert positions == [str(n + 1) for n in range(len(order))]


def test_t02_many_studies_few_rows_in_the_document(visit: Visit, sown: Sown) -> None:
    with sown.database.write() as tx:
        for n in range(200):
            sown.add_in(tx, minutes_ago=n + 1)
    page = visit("ann")
    until(
        page, "document.querySelector('.rows table').getAttribute('aria-rowcount') === '202'"
    )  # two rows of headers
    assert page.locator("#rows tr").count() <= 80
    page.keyboard.press("j")
    page.keyboard.press("End")
    until(page, "document.querySelector('tr[aria-current] .c-pos')?.textContent.trim() === '200'")
    assert page.locator("#rows tr").count() <= 80
    page.keyboard.press("Home")
    until(page, "document.querySelector('tr[aria-current] .c-pos')?.textContent.trim() === '1'")


def test_t03_every_row_says_why_and_what_ai_did(visit: Visit, sown: Sown) -> None:
    a_day(sown)
    page = visit("ann")
    for uid in uids(page):
        words = page.inner_text(f'tr[data-uid="{uid}"] .c-why').split()
        assert words[0] in ("!!", "!", "^", "routine")
        assert len(words) >= 2
        assert cell(page, uid, "ai")


def test_t04_each_reason_not_to_analyse_has_its_sentence_and_nothing_reassures(
    visit: Visit, sown: Sown
) -> None:
    with sown.database.write() as tx:
        by_code = {
            code: sown.add_in(tx, reason=NotSuitable(code, "found 5.0, limit 2.5")) for code in ReasonCode
        }
        sown.add_in(tx)
    page = visit("ann", size={"width": 1440, "height": 1700})
    for code, uid in by_code.items():
        said = page.get_attribute(f'tr[data-uid="{uid}"] .c-ai', "title")
        assert said == f"{SENTENCES[code]} (found 5.0, limit 2.5)"
        assert cell(page, uid, "ai").replace("\n", " ").startswith("∅ not analysed: ")
    assert "normal" not in page.content().lower().replace("abnormal", "")


def _shake(sown: Sown, page: Page, count: int = 20) -> str:
    """Changes to many rows and a new critical study on top; returns its UID when the page has heard of it."""
    for uid in sown.uids[:count]:
        with sown.database.write() as tx:
            events.publish(tx, sown.now, "worklist", studies.find_study(tx, uid))
    new = sown.add(findings=(pneumothorax(),), minutes_ago=1)
    until(page, "!document.getElementById('changes').hidden")
    return new


def test_t05_t06_nothing_moves_under_the_pointer_and_places_change_at_rest(visit: Visit, sown: Sown) -> None:
    with sown.database.write() as tx:
        for n in range(60):
            sown.add_in(tx, minutes_ago=100 - n)
    page = visit("ann")
    tenth = uids(page)[9]
    page.hover(f'tr[data-uid="{tenth}"] .c-pat')
    page.keyboard.press("j")  # focus is on the first row, the pointer on the tenth
    focused = page.evaluate("document.activeElement.dataset.uid")
    before = top_of(page, tenth)
    new = _shake(sown, page)
    page.wait_for_timeout(2500)  # longer than the rest: a pointer over the rows holds everything
    assert top_of(page, tenth) == before
    assert new not in uids(page)
    assert "1 critical" in page.inner_text("#changes")
    before = top_of(page, focused)
    settle(page)
    until(page, "u => document.querySelector(`tr[data-uid='${u}']`) !== null", new)
    assert abs(top_of(page, focused) - before) <= 1
    assert page.evaluate("document.activeElement.dataset.uid") == focused
    assert page.evaluate("document.getElementById('changes').hidden")


def test_t07_a_click_just_after_a_batch_on_a_moved_row_does_nothing(visit: Visit, sown: Sown) -> None:
    for n in range(8):
        sown.add(minutes_ago=100 - n)
    page = visit("ann")
    moved = uids(page)[4]
    page.hover(f'tr[data-uid="{moved}"] .c-pat')
    _shake(sown, page, 3)
    page.evaluate(
        """uid => { document.getElementById('changes').click();
                    document.querySelector(`tr[data-uid='${uid}'] .c-pat`).click(); }""", moved
    )  # fmt: skip
    assert page.locator("tr[aria-current]").count() == 0
    page.wait_for_timeout(400)
    choose_row(page, moved)


def test_t08_a_frozen_order_stays_until_it_is_let_go(visit: Visit, sown: Sown) -> None:
    for n in range(8):
        sown.add(minutes_ago=100 - n)
    page = visit("ann")
    page.keyboard.press("f")
    assert "frozen" in page.inner_text("#order")
    order = uids(page)
    settle(page)
    new = _shake(sown, page)
    page.wait_for_timeout(2500)
    assert uids(page) == order
    page.keyboard.press("f")
    until(page, "u => document.querySelector(`tr[data-uid='${u}']`) !== null", new)
    page.evaluate(
        "window.real = performance.now.bind(performance); performance.now = () => real() + 601_000 * (window.later ?? 0)"
    )
    page.keyboard.press("f")
    assert "frozen" in page.inner_text("#order")
    page.evaluate("window.later = 1")
    until(page, "!document.getElementById('order').innerText.includes('frozen')")  # ten minutes are the most


def test_t11_a_filter_that_hides_a_critical_study_says_so(visit: Visit, sown: Sown) -> None:
    day = a_day(sown)
    page = visit("ann", "/worklist?modality=CT")
    page.wait_for_selector("text=1 critical study is outside this filter")
    page.keyboard.press("v")
    until(page, "u => document.querySelector(`tr[data-uid='${u}']`) !== null", day["pneumothorax"])
    page.go_back()
    until(page, "u => document.querySelector(`tr[data-uid='${u}']`) === null", day["pneumothorax"])


def test_t09_back_and_reload_lead_to_the_same_rows_place_and_focus(visit: Visit, sown: Sown) -> None:
    with sown.database.write() as tx:
        for n in range(150):
            sown.add_in(tx, minutes_ago=200 - n, modality="CT" if n % 3 == 0 else "DX", view="", images=1)
    page = visit("ann", "/worklist?modality=DX")
    page.evaluate("document.querySelector('.rows').scrollTop = 900")
    page.wait_for_timeout(400)
    chosen = page.evaluate(
        """[...document.querySelectorAll('#rows tr[data-uid]')]
           .find(r => r.getBoundingClientRect().top > 400).dataset.uid"""
    )
    choose_row(page, chosen)
    before = top_of(page, chosen)
    page.keyboard.press("w")
    page.wait_for_selector("#panel header")
    page.go_back()
    until(page, "document.getElementById('panel').hidden")
    assert page.url.endswith("/worklist?modality=DX")
    assert abs(top_of(page, chosen) - before) <= 1
    assert page.evaluate("document.activeElement.dataset.uid") == chosen
    page.reload()
    page.wait_for_selector(".rows table[data-loaded]")
    until(page, "u => document.activeElement.dataset.uid === u", chosen)
    assert abs(top_of(page, chosen) - before) <= 1
    assert "MR" not in page.inner_text("#rows")


def test_t10_a_sorted_list_says_so_and_0_leads_back(visit: Visit, sown: Sown) -> None:
    a_day(sown)
    page = visit("ann")
    order = uids(page)
    header = ".rows th.c-age"
    page.click(f"{header} button")
    until(page, "document.querySelector('.rows th.c-age').ariaSort === 'ascending'")
    until(
        page, "document.getElementById('order').innerText.startsWith('Sorted by Waiting. Not reading order.')"
    )
    page.click(f"{header} button")
    until(page, "document.querySelector('.rows th.c-age').ariaSort === 'descending'")
    until(page, "u => document.querySelector('#rows tr[data-uid]').dataset.uid === u", sown.uids[3])  # 25 h
    places = page.eval_on_selector_all("#rows td.c-pos", "tds => tds.map(t => t.textContent.trim())")
    assert places[0] == str(order.index(sown.uids[3]) + 1)  # the true place is told beside the shown one
    settle(page)
    page.keyboard.press("0")
    until(page, "document.querySelector('.rows th.c-age').ariaSort === 'none'")
    until(
        page,
        "o => [...document.querySelectorAll('#rows tr[data-uid]')].map(r => r.dataset.uid).join() === o",
        ",".join(order),
    )


def test_filters_under_the_headers_stand_in_the_url_but_for_names(visit: Visit, sown: Sown) -> None:
    day = a_day(sown)
    page = visit("ann")
    page.click("[data-pick=modality]")
    page.click("#pick >> text=MR")
    until(page, "document.querySelectorAll('#rows tr[data-uid]').length === 1")
    assert uids(page) == [day["mr"]]
    assert "modality=MR" in page.url
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+Escape")
    until(page, "document.querySelectorAll('#rows tr[data-uid]').length > 5")
    page.fill("[data-naming=pat]", "haas")
    until(page, "document.querySelectorAll('#rows tr[data-uid]').length === 1")
    assert uids(page) == [day["edema"]]
    assert "haas" not in page.url
    page.reload()
    page.wait_for_selector(".rows table[data-loaded]")
    assert page.input_value("[data-naming=pat]") == "haas"
    page.keyboard.press("Shift+Escape")
    page.fill("[data-filter=description]", "nothing like this")
    page.wait_for_selector("text=No study matches. 11 hidden by: nothing like this.")


def test_columns_density_and_views_are_kept_for_this_person(visit: Visit, sown: Sown) -> None:
    a_day(sown)
    page = visit("lead", "/worklist?modality=DX")
    page.keyboard.press("s")
    page.check("dialog [data-column=acc]")
    page.uncheck("dialog [data-column=desc]")
    page.select_option("dialog [name=density]", "comfortable")
    page.click("dialog .primary")
    page.wait_for_selector(".rows th.c-acc")
    assert page.locator(".rows th.c-desc").count() == 0
    assert page.evaluate("document.querySelector('#rows tr[data-uid]').offsetHeight") >= 34
    page.wait_for_selector(".rows table[data-loaded]")
    page.keyboard.press("s")
    page.fill("dialog fieldset:last-of-type input:not([type])", "Films")
    page.check("dialog >> text=shared with all")
    page.click("dialog >> text=Save view")
    page.wait_for_selector(".toast >> text=Saved.")
    other = visit("ann")
    other.keyboard.press("s")
    other.click("dialog >> text=Films")
    other.wait_for_url("**/worklist?modality=DX")
    other.wait_for_selector(".rows th.c-acc")


def test_bulk_acts_do_what_can_be_done_and_name_what_was_refused(visit: Visit, sown: Sown) -> None:
    for n in range(4):
        sown.add(minutes_ago=50 - n)
    with sown.database.write() as tx:
        read.claim(tx, sown.uids[2], "ben", sown.now)
    page = visit("ann")
    page.keyboard.press("j")
    for _ in range(2):
        page.keyboard.press("Shift+J")
    assert page.inner_text("#bulk") == "3 selected: act (B)"
    page.keyboard.press("b")
    page.keyboard.press("1")
    page.wait_for_selector("dialog select")
    page.click("dialog .primary")
    page.wait_for_selector(".toast.bad >> text=2 done, 1 refused")
    assert page.inner_text("#bulk") == "1 selected: act (B)"
    until(
        page,
        "u => document.querySelector(`tr[data-uid='${u}'] .c-claim`).innerText.includes('you')",
        sown.uids[0],
    )


def test_keys_can_be_changed_and_switched_off(visit: Visit, sown: Sown) -> None:
    sown.add()
    page = visit("ann", "/help/keys")
    page.fill("[name=key-down]", "q")
    page.click("text=Save keys")
    page.goto(page.url.replace("/help/keys", "/worklist"))
    page.wait_for_selector(".rows table[data-loaded]")
    page.keyboard.press("q")
    until(page, "document.querySelector('tr[aria-current]') !== null")
    page.goto(page.url.replace("/worklist", "/help/keys"))
    page.uncheck("[name=single]")
    page.click("text=Save keys")
    page.goto(page.url.replace("/help/keys", "/worklist"))
    page.wait_for_selector(".rows table[data-loaded]")
    page.keyboard.press("f")
    assert "frozen" not in page.inner_text("#order")
    page.keyboard.press("ArrowDown")
    until(page, "document.querySelector('tr[aria-current]') !== null")


def test_a_search_finds_and_its_text_stands_in_no_url(visit: Visit, sown: Sown) -> None:
    day = a_day(sown)
    page = visit("ann")
    page.keyboard.press("/")
    page.keyboard.type("Haas")
    until(page, "document.querySelectorAll('#rows tr[data-uid]').length === 1")
    assert uids(page) == [day["edema"]]
    assert "Haas" not in page.url
    assert "Haas" not in page.title()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    until(page, "document.querySelectorAll('#rows tr[data-uid]').length > 5")


# --- claim and next -------------------------------------------------------------------------------------------------


def test_t12_two_readers_press_enter_and_exactly_one_claims(visit: Visit, sown: Sown) -> None:
    uid = sown.add(patient="Doe^Jane")
    ann, ben = visit("ann"), visit("ben")
    for page in (ann, ben):
        choose_row(page, uid)
    ann.keyboard.press("Enter")
    ann.wait_for_selector("#panel header")
    assert "you" in cell(ann, uid, "claim")
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
        assert read.free_expired(tx, clock()) == 1
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


def test_t15_next_gives_three_readers_different_studies_best_first(visit: Visit, sown: Sown) -> None:
    with sown.database.write() as tx:
        for n in range(20):
            sown.add_in(tx, minutes_ago=100 - n, findings=(flag("nodule"),) if n % 4 == 0 else ())
    pages = [visit(name) for name in ("ann", "ben", "cleo")]
    expected = uids(pages[0])
    taken = []
    for turn in range(9):
        page = pages[turn % 3]
        before = page.evaluate("document.querySelector('#panel header')?.dataset.uid ?? ''")
        page.keyboard.press("n")
        until(page, "u => (document.querySelector('#panel header')?.dataset.uid ?? '') !== u", before)
        taken.append(page.evaluate("document.querySelector('#panel header').dataset.uid"))
    assert taken == expected[:9]


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
    assert uids(page) == order


def test_t17_agreeing_before_opening_is_refused_with_words(visit: Visit, sown: Sown) -> None:
    uid = sown.add(findings=(flag("nodule"),))
    page = visit("ann")
    choose_row(page, uid)
    page.keyboard.press("a")
    page.wait_for_selector(".toast.bad >> text=open the study before you judge it")
    assert _feedback(sown, uid) == []


# --- alerts --------------------------------------------------------------------------------------------------------------


def test_t18_t20_a_critical_alert_shows_at_once_and_closes_everywhere_by_an_act(
    visit: Visit, sown: Sown
) -> None:
    sown.add()
    ann, ben = visit("ann"), visit("ben")
    ann.keyboard.press("f")  # places change at rest; here the banner alone is looked at
    ann.evaluate(
        """window.shift = 0; new PerformanceObserver(l => l.getEntries().forEach(e => { window.shift += e.value; }))
           .observe({type: 'layout-shift', buffered: false});"""
    )
    began = time.monotonic()
    uid = sown.add(patient="Doe^Jane", findings=(pneumothorax(),))
    for page in (ann, ben):
        page.wait_for_selector(".banner >> text=Doe, Jane")
    assert time.monotonic() - began < 3
    # A word of the status bar may change its width (seen once: 0.0004); rows moved by a banner cost over 0.03.
    assert ann.evaluate("window.shift") < 0.002
    assert "pneumothorax" in ann.inner_text("#shout")
    ann.reload()
    ann.wait_for_selector(".banner")  # never closed by reloading, time or another page
    ann.keyboard.press("x")
    ann.wait_for_selector("dialog[open]")
    assert "Doe, Jane" in ann.inner_text("dialog")
    ann.keyboard.press("Enter")
    for page in (ann, ben):
        until(page, "document.querySelector('.banner') === null", seconds=3)
    until(
        ben,
        "u => document.querySelector(`tr[data-uid='${u}'] .c-alert`)?.innerText.includes('seen Dr. Ann') ?? true",
        uid,
    )
    with sown.database.read() as tx:
        trail = audit.events(tx, object_kind="alert")
    assert trail[-1]["act"] == "alert.acknowledged"
    assert trail[-1]["actor"] == "ann"


def test_t21_a_ladder_without_an_answer_steps_once_each(visit: Visit, sown: Sown) -> None:
    uid = sown.add(patient="Doe^Jane", findings=(pneumothorax(),), minutes_ago=1)
    page = visit("ann")
    page.wait_for_selector(".banner")
    for minutes, step in ((3.1, 1), (5.1, 2), (10.1, 3), (15.1, 4)):
        with sown.database.write() as tx:
            climb_ladders(
                tx, SITE.ladder, timedelta(minutes=9), new_id, sown.now + timedelta(minutes=minutes)
            )
            climb_ladders(
                tx, SITE.ladder, timedelta(minutes=9), new_id, sown.now + timedelta(minutes=minutes)
            )  # the scheduler's clock ticks often
        with sown.database.read() as tx:
            alert = alerts.of_study(tx, studies.find_study(tx, uid) or 0)[0]
        assert alert["step"] == step
    until(page, "document.querySelector('.banner')?.innerText.includes('step 4') ?? false")


def test_t22_a_withdrawn_flag_is_said_and_the_row_falls_to_its_order_alone(visit: Visit, sown: Sown) -> None:
    uid = sown.add(patient="Doe^Jane", findings=(pneumothorax(),), ordered="URGENT", minutes_ago=1)
    page = visit("ann")
    page.wait_for_selector(".banner")
    sown.take_back(uid)
    until(page, "document.querySelector('.banner') === null")
    page.wait_for_selector(".bar >> text=Withdrawn: suspected pneumothorax, Doe, Jane")
    assert cell(page, uid, "ai").replace("\n", " ").startswith("↺ withdrawn")
    assert "ELEVATED" in cell(page, uid, "why")
    page.goto(page.url.replace("/worklist", "/alerts"))
    assert "withdrawn" in page.inner_text("table")


def test_the_phone_page_acknowledges_in_two_taps_without_a_full_name(visit: Visit, sown: Sown) -> None:
    sown.add(patient="Doe^Jane", findings=(pneumothorax(),))
    page = visit("ann", "/m", size=PHONE)
    card = page.inner_text(".card")
    assert "J. D." in card
    assert "Doe" not in card
    heights = page.eval_on_selector_all(".card summary", "s => s.map(e => e.offsetHeight)")
    assert min(heights) >= 48
    page.click("summary >> text=Acknowledge")
    page.click("button.primary")
    page.wait_for_selector("text=Nothing is open.")


# --- truth about itself ---


def test_t24_a_page_that_hears_nothing_says_so_and_refuses_acts(visit: Visit, sown: Sown) -> None:
    uid = sown.add()
    page = visit("ann")
    page.context.route("**/worklist/rows*", lambda route: route.abort())
    page.evaluate("window.real = Date.now; window.skip = 0; Date.now = () => window.real() + window.skip;")
    choose_row(page, uid)
    page.evaluate("window.skip = 26000")
    page.wait_for_selector(".bar.stale >> text=out of date")
    page.evaluate("window.skip = 121000")
    page.wait_for_selector(".rows.old")
    assert uids(page) == [uid]  # still readable
    page.keyboard.press("Enter")
    page.wait_for_selector(".toast.bad >> text=out of date")
    assert cell(page, uid, "claim") == "free"


def test_t23_when_ai_is_down_the_page_says_so_and_the_rows_do(visit: Visit, sown: Sown) -> None:
    waiting = sown.add(state="requested", minutes_ago=20)
    page = visit("ann")
    page.wait_for_selector(".bar >> text=Chest film model: no answer since")
    assert "1 study waits. Order: ordered priority" in page.inner_text("#bars")
    assert cell(page, waiting, "ai").replace("\n", " ").startswith("∅ not analysed: triage is not working")
    assert "degraded" in page.inner_text("#light")


def test_t25_the_last_good_list_stays_when_the_server_fails(visit: Visit, sown: Sown) -> None:
    uid = sown.add()
    page = visit("ann")
    body = '{"title": "Our fault", "detail": "the request failed here", "reference": "abc123"}'
    page.context.route(
        "**/worklist/rows*",
        lambda r: r.fulfill(status=500, content_type="application/problem+json", body=body),
    )
    sown.add()
    page.wait_for_selector("text=abc123")
    assert uids(page) == [uid]
    page.context.unroute("**/worklist/rows*")
    page.click("text=Try again")
    until(page, "document.querySelector('#bars').innerText.indexOf('abc123') < 0")


def test_a_database_that_takes_no_writes_is_said_and_the_list_stays_readable(
    visit: Visit, sown: Sown
) -> None:
    uid = sown.add(patient="Doe^Jane")
    page = visit("ann")

    def rest(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA query_only=ON")

    def work(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA query_only=OFF")

    event.listen(sown.database.engine, "checkout", rest)
    choose_row(page, uid)
    page.keyboard.press("Enter")
    page.wait_for_selector(".toast.bad >> text=The database takes no writes")
    page.wait_for_selector(".bar.bad >> text=The database takes no writes since")
    assert "on-call calendar" in page.inner_text("#bars")
    assert cell(page, uid, "claim") == "free"
    page.reload()
    page.wait_for_selector(".rows table[data-loaded]")
    page.keyboard.press("j")
    page.keyboard.press("w")
    page.wait_for_selector("#panel header >> text=Doe, Jane")
    event.remove(sown.database.engine, "checkout", rest)
    event.listen(sown.database.engine, "checkout", work)
    sown.add()
    until(page, "!document.getElementById('bars').innerText.includes('takes no writes')")


def test_t26_the_preview_of_triage_only_mode_has_no_mark(visit: Visit, sown: Sown) -> None:
    uid = sown.add(findings=(pneumothorax(outline=True),))
    page = visit("ann")
    choose_row(page, uid)
    page.keyboard.press("Enter")
    page.wait_for_selector("#panel header")
    page.keyboard.press("p")
    page.wait_for_selector("#part-preview:not([hidden])")
    page.keyboard.press("o")
    assert page.locator("#panel svg, #panel polygon, [data-outlines], [data-tool=overlay]").count() == 0
    assert "not for diagnosis" in page.get_attribute("#panel img", "alt")
    said = page.evaluate("u => fetch(`/api/v1/studies/${u}`).then(r => r.json())", uid)
    assert said["runs"][0]["findings"][0]["location"] is None


class TestOverlay:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(home=tmp_path / "home", site="NORTH", mode="overlay")

    def test_the_overlay_is_off_at_opening_and_its_use_is_audited(self, visit: Visit, sown: Sown) -> None:
        uid = sown.add(findings=(pneumothorax(outline=True),))
        page = visit("ann", f"/worklist/{uid}")
        page.keyboard.press("p")
        page.wait_for_selector("#part-preview:not([hidden])")
        assert page.locator("#panel polygon").count() == 0
        page.keyboard.press("o")
        page.wait_for_selector("#panel polygon", state="attached")
        page.wait_for_timeout(300)
        with sown.database.read() as tx:
            acts = [e["act"] for e in audit.events(tx, object_kind="study", object_id=uid)]
        assert "overlay.shown" in acts


# --- accessibility and keys ---


AXE = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
READING = (
    ("ann", "/worklist"), ("ann", "/worklist?tab=read"), ("ann", "/worklist?sort=age&modality=CT"),
    ("ann", "/worklist?modality=XX"), ("ann", "/alerts"), ("ann", "/m"), ("ann", "/help/keys"), ("ann", "/covered"),
)  # fmt: skip
KEEPING = (
    ("qa", "/qa"), ("qa", "/audit"), ("admin", "/admin/health"), ("admin", "/admin/policies"), ("admin", "/admin/users"),
    ("admin", "/admin/releases"), ("admin", "/admin/peers"), ("admin", "/admin/routes"), ("ann", "/api/docs"),
    ("admin", "/admin/rules?finding=nodule"), ("lead", "/qa/replay?source=model&readers=2&minutes=5&arrivals=10"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("size", "theme"),
    [(DESK, "dark"), (DESK, "light"), (PHONE, "dark")],
    ids=["desk-dark", "desk-light", "phone-dark"],
)
@pytest.mark.timeout(600)  # a dozen pages, each looked at by axe
@pytest.mark.parametrize("pages", [READING, KEEPING], ids=["reading", "keeping"])
def test_t27_axe_finds_nothing_on_any_page(
    visit: Visit, sown: Sown, pages: tuple[tuple[str, str], ...], theme: str, size: dict[str, int]
) -> None:
    day = a_day(sown)
    wrong = []
    opened = (("ann", f"/worklist/{day['pneumothorax']}"),) if pages is READING else ()
    for user, path in (*pages, *opened):
        page = visit(user, path, size=size, theme=theme)
        found = axe.Axe().run(page, options={"runOnly": AXE})
        for violation in found.response["violations"]:
            wrong.append((path, violation["id"], [n["html"][:120] for n in violation["nodes"][:3]]))
        page.context.close()
    assert wrong == []


def test_t27_axe_finds_nothing_in_dialogs_and_popovers(visit: Visit, sown: Sown) -> None:
    a_day(sown)
    page = visit("lead")
    for opening in ("s", "j d"):
        for key in opening.split():
            page.keyboard.press(key)
        page.wait_for_selector("dialog[open]")
        assert axe.Axe().run(page, options={"runOnly": AXE}).response["violations"] == []
        page.keyboard.press("Escape")
    page.click("[data-pick=modality]")
    page.wait_for_selector("#pick label")
    assert axe.Axe().run(page, options={"runOnly": AXE}).response["violations"] == []


def test_t29_the_whole_reading_loop_with_keys_alone(visit: Visit, sown: Sown) -> None:
    day = a_day(sown)
    page = visit("ann")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.dataset.uid") == day["pneumothorax"]
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector("#panel header")
    for key, part in (("w", "why"), ("t", "line"), ("h", "history"), ("p", "preview")):
        page.keyboard.press(key)
        page.wait_for_selector(f"#part-{part}:not([hidden])")
    page.keyboard.press("a")
    page.wait_for_selector(".toast >> text=Agreed")
    page.keyboard.press("x")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.banner') === null")
    page.keyboard.press("r")
    page.wait_for_selector(".toast >> text=Released")
    page.keyboard.press("Escape")
    until(page, "document.getElementById('panel').hidden")
    page.keyboard.press("3")
    until(page, "document.querySelectorAll('#rows tr[data-uid]').length === 1")
    assert uids(page) == [day["arriving"]]
    page.keyboard.press("?")
    page.wait_for_url("**/help/keys")


# --- what leaves the screen ---


def test_t30_csv_and_print_are_whole_safe_and_audited(visit: Visit, sown: Sown) -> None:
    a_day(sown)
    sown.add(patient="+1+1^Eve", description="@SUM(A1)")
    page = visit("ann")
    page.click("#export")
    page.wait_for_selector("dialog[open] >> text=contains patient data")
    with page.expect_download() as download:
        page.keyboard.press("1")
    raw = Path(download.value.path()).read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"))))
    assert len(rows) == 12
    assert rows[0]["priority"] == "critical"
    assert rows[0]["due"][-6] in "+-"
    eve = next(r for r in rows if "Eve" in r["patient"])
    assert eve["patient"].startswith("'+")
    assert eve["study"].startswith("'@")
    page.click("#export")
    with page.context.expect_page() as opened:
        page.keyboard.press("2")
    paper = opened.value
    paper.wait_for_selector("table")
    assert paper.locator("tbody tr").count() == 12
    with sown.database.read() as tx:
        kept = list(audit.events(tx, object_kind="worklist"))
    assert [e["act"] for e in kept] == ["worklist.exported", "worklist.printed"]
    assert kept[0]["detail"]["rows"] == 12


def test_no_patient_in_url_title_or_storage(visit: Visit, sown: Sown) -> None:
    uid = sown.add(patient="Doe^Jane")
    page = visit("ann", f"/worklist/{uid}")
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, history.state, document.title, location.href])"
    )
    for secret in ("Doe", "4000001", "A10001"):
        assert secret not in kept


PAYLOADS = (
    "<script>window.pwned=1</script>", '"><img src=x onerror="window.pwned=1">', "<svg/onload=window.pwned=1>",
    "{{7*7}}", "javascript:window.pwned=1", "'-alert(1)-'", "</td><td>", "&lt;b&gt;",
)  # fmt: skip


def test_hostile_text_in_every_attribute_stays_text(visit: Visit, sown: Sown) -> None:
    for payload in PAYLOADS:
        sown.add(
            patient=payload[:60], description=payload[:60], location=payload[:60], body_part=payload[:60],
            view=payload[:16], patient_id=payload[:60],
        )  # fmt: skip
    page = visit("ann")
    for uid in sown.uids:
        page.goto(f"{page.url.split('/worklist')[0]}/worklist/{uid}")
        page.wait_for_selector("#panel header")
        assert page.evaluate("window.pwned ?? null") is None
    assert page.locator("#rows script, #rows img, #rows svg, #panel script").count() == 0
