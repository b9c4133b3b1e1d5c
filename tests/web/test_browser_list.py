"""The list in real Chromium: order, windowed rows, filters, columns, views, keys (ux 15: T01 to T11)."""

from __future__ import annotations

import pytest

from bench._studies import fill_in
from tests.web.browser import (
    MARKS,
    PHONE,
    Page,
    Visit,
    cell,
    choose_row,
    settle,
    top_of,
    uids,
    until,
)
from tests.web.seed import Sown, a_day, flag, pneumothorax
from triage.domain.suitability import SENTENCES, NotSuitable, ReasonCode
from triage.store import events, studies
from triage.web import columns
from triage.workflow.read import claims

pytestmark = MARKS


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


def test_t02_five_thousand_studies_and_few_rows_in_the_document(visit: Visit, sown: Sown) -> None:
    fill_in(sown.database, 5_000, 5_000, sown.now)
    page = visit("ann")
    until(
        page, "document.querySelector('.rows table').getAttribute('aria-rowcount') === '5002'"
    )  # two rows of headers
    assert page.locator("#rows tr").count() <= 80
    page.keyboard.press("j")
    page.keyboard.press("End")
    until(page, "document.querySelector('tr[aria-current] .c-pos')?.textContent.trim() === '5000'")
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
        claims.claim(tx, sown.uids[2], "ben", sown.now)
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
    for act, key in (("down", "q"), ("why", "-"), ("agree", ","), ("freeze", ".")):
        page.fill(f"[name=key-{act}]", key)
    page.click("text=Save keys")
    page.goto(page.url.replace("/help/keys", "/worklist"))
    page.wait_for_selector(".rows table[data-loaded]")
    page.keyboard.press("q")
    until(page, "document.querySelector('tr[aria-current]') !== null")
    page.keyboard.press("-")  # every hint names the key of this person
    page.wait_for_selector("#panel header")
    assert page.inner_text("#tab-why").strip() == "- Why"
    assert page.inner_text("#panel [data-act=agree]").strip() == ", agree"
    page.keyboard.press(".")
    until(page, "document.getElementById('order').innerText === 'order: frozen (.)'")
    page.goto(page.url.split("/worklist")[0] + "/help/keys")
    page.uncheck("[name=single]")
    page.click("text=Save keys")
    page.goto(page.url.replace("/help/keys", "/worklist"))
    page.wait_for_selector(".rows table[data-loaded]")
    page.keyboard.press(".")
    assert "frozen" not in page.inner_text("#order")
    assert page.get_attribute("#freeze", "title") is None  # and no hint names a key that does nothing
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


CUT = """s => [...document.querySelectorAll(s)].filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1)
    .map(e => e.innerText)"""


@pytest.mark.parametrize("language", ["en", "de"])
def test_two_flags_and_every_tab_are_read_whole(visit: Visit, sown: Sown, language: str) -> None:
    """Judges found `vergrößertes H…` at 1440 pixels and the tabs cut at 1024."""
    for pair in (("effusion", "cardiomegaly"), ("consolidation", "cardiomegaly"), ("edema", "effusion")):
        sown.add(findings=tuple(flag(name) for name in pair))
    sown.add(modality="CT", view="", findings=(flag("nodule"), flag("emphysema")))
    page = visit("ann", locale=language)
    assert page.evaluate(CUT, ".c-ai, .c-why, .filters, .filters button, .status, .status *") == []
    titles = page.eval_on_selector_all("#rows .c-ai", "cells => cells.map(c => c.title)")
    assert any({"en": "enlarged heart", "de": "vergrößertes Herz"}[language] in t for t in titles)
    page.set_viewport_size({"width": 1024, "height": 768})
    assert page.evaluate(CUT, ".top, .filters, .filters button, .banner-slot, .status, .status *") == []
    assert page.evaluate("document.querySelector('.who').getBoundingClientRect().right <= innerWidth")


def test_on_a_phone_no_table_of_accounts_or_paths_goes_past_the_edge(visit: Visit, sown: Sown) -> None:
    for user, path in (("admin", "/admin/users"), ("ann", "/account"), ("ann", "/api/docs")):
        page = visit(user, path, size=PHONE, locale="de")
        assert page.evaluate(CUT, "main, .wide, .stacked, table, td") == [], path
