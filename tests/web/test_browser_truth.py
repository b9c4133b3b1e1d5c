"""What the pages say of themselves, show and let out, in real Chromium (ux 15: T23 to T26, T30)."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tests.web.browser import (
    MARKS,
    Visit,
    cell,
    choose_row,
    uids,
    until,
)
from tests.web.seed import Sown, a_day, pneumothorax
from triage.settings import Settings
from triage.store import audit

pytestmark = MARKS


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
