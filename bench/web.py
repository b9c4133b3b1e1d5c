"""The pages with 5,000 open studies of 200,000: first view, filter, sort, panel, event to cell, fifty readers.

The real server in its own process over SQLite and over PostgreSQL; Chromium for what a reader sees. Beside them plain
Orthanc lists its studies in the same run, where it is installed. OPEN, TOTAL, READERS, ORTHANC, DATABASES make it shorter.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from bench._server import milliseconds, processor_seconds, served
from bench._studies import OPEN, TOTAL, each_database, fill, uid
from bench.orthanc import orthanc_lists
from bench.readers import at_once
from triage.store import events, listing, studies
from triage.store.database import Database
from triage.store.narrowing import Filters
from triage.store.schema import worklist_item

ORTHANC = int(os.environ.get("ORTHANC", "5000"))
REPEATS = int(os.environ.get("REPEATS", "15"))
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def measure() -> dict[str, Any]:
    """Milliseconds, p50 and p95; `processor`: of the asking thread, or of the server for one request, which a busy
    machine changes least."""
    figures = each_database(_of_database)
    if shutil.which("Orthanc"):
        with tempfile.TemporaryDirectory(prefix="triage-bench-") as folder:
            figures["orthanc"] = orthanc_lists(Path(folder), ORTHANC, REPEATS)
    return figures | {"load_after": os.getloadavg()[0]}


def _of_database(home: Path, url: str) -> dict[str, Any]:
    database, secret = fill(url)
    figures: dict[str, Any] = _sql(database)
    with served(home, url) as (base, process):
        client = httpx.Client(base_url=base, cookies={"triage_session": secret}, timeout=120)
        client.get("/worklist")
        worker = next(iter(process.children()), process)  # of gunicorn
        for name, path in (
            ("page_first_60", "/worklist"), ("rows_100", "/worklist/rows?limit=100"),
            ("filter_modality", "/worklist/rows?modality=CT&limit=100"),
            ("filter_text", "/worklist/rows?description=thorax&limit=100"),
            ("sort_name", "/worklist/rows?sort=pat&limit=100"), ("tab_read", "/worklist/rows?tab=read&limit=100"),
            ("tab_all", "/worklist/rows?tab=all&limit=100"),
            ("panel", f"/worklist/{uid(TOTAL - 1)}/panel"), ("api_100", "/api/v1/worklist?limit=100"),
        ):  # fmt: skip
            before = processor_seconds([worker])
            figures[name] = milliseconds(_times(lambda p=path: _get(client, p, database)))  # type: ignore[misc]
            figures[name]["processor"] = round(1000 * (processor_seconds([worker]) - before) / REPEATS, 1)
        body = client.get("/worklist/rows?limit=100", headers={"Accept-Encoding": "gzip"})
        figures["rows_100_gzip_bytes"] = int(body.headers["Content-Length"])
        if CHROMIUM:
            figures |= _browser(base, secret, database)
        figures["readers"] = at_once(base, database, process)
    database.close()
    return figures


def _get(client: httpx.Client, path: str, database: Database) -> None:
    """After a change, so that no shared answer is given; no more than a reader asks (20 a second)."""
    with database.write() as tx:
        events.publish(tx, datetime.now(UTC), "worklist")
    client.get(path).raise_for_status()


def _times(run: Callable[[], Any]) -> list[float]:
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
        time.sleep(0.06)
    return seconds


def _sql(database: Database) -> dict[str, Any]:
    """The first hundred as the page asks for them: one statement and its rows made into Python's."""
    spent: list[float] = []

    def run() -> None:
        with database.read() as tx:
            began = time.thread_time()
            assert len(listing.rows(tx, Filters(), datetime.now(UTC), limit=100)) == min(100, OPEN)
            spent.append(time.thread_time() - began)

    return {"sql_first_100": milliseconds(_times(run)), "sql_first_100_processor": milliseconds(spent)}


# --- what a reader sees ----------------------------------------------------------------------------------------


def _browser(base: str, secret: str, database: Database) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    views, cells = [], []
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--no-proxy-server"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        for _ in range(max(3, REPEATS // 3)):
            context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
            context.add_cookies([{"name": "triage_session", "value": secret, "url": base}])
            page = context.new_page()
            began = time.perf_counter()
            page.goto(f"{base}/worklist", wait_until="commit")
            page.wait_for_selector("#rows tr[data-uid]")
            views.append(time.perf_counter() - began)
            page.wait_for_selector(".rows table[data-loaded]")
            cells += [_event_to_cell(page, database, n) for n in range(3)]
            context.close()
        browser.close()
    return {"browser_first_view": milliseconds(views), "browser_event_to_cell": milliseconds(cells)}


def _event_to_cell(page: Any, database: Database, number: int) -> float:
    """From the commit of a change to the cell on the screen."""
    uid = page.evaluate("n => document.querySelectorAll('#rows tr[data-uid]')[n].dataset.uid", number)
    word = f"label {time.monotonic_ns()}"
    with database.write() as tx:
        study_id = studies.find_study(tx, uid)
        tx.execute(worklist_item.update().where(worklist_item.c.study_id == study_id).values(label=word))
        events.publish(tx, datetime.now(UTC), "worklist", study_id)
    began = time.perf_counter()
    shown = "([u, w]) => document.querySelector(`tr[data-uid='${u}'] .c-desc`).innerText.includes(w)"
    while not page.evaluate(shown, [uid, word]):
        if time.perf_counter() - began > 30:
            raise SystemExit("the change did not reach the page in 30 s")
        page.wait_for_timeout(10)
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
