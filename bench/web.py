"""The pages with 5,000 open studies of 200,000: first view, filter, sort, panel, event to cell, fifty readers.

The real server in its own process over SQLite; Chromium for what a reader sees. Beside it plain Orthanc lists as many
studies in the same run, where it is installed. OPEN, TOTAL, READERS, ORTHANC make it shorter.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import insert

from bench.orthanc import orthanc_lists
from tests.web.seed import sow
from triage.domain.priority import ItemFacts, OrderedPriority, Policy, prioritize
from triage.store import events, listing, studies
from triage.store.database import Database
from triage.store.schema import instance, patient, series, study, worklist_item
from triage.workflow import accounts

OPEN = int(os.environ.get("OPEN", "5000"))
TOTAL = int(os.environ.get("TOTAL", "200000"))
READERS = int(os.environ.get("READERS", "50"))
ORTHANC = int(os.environ.get("ORTHANC", "1000"))
REPEATS = int(os.environ.get("REPEATS", "15"))
READING_SECONDS = 20
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def measure() -> dict[str, Any]:
    """Milliseconds, p50 and p95."""
    with tempfile.TemporaryDirectory(prefix="triage-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        database, secret = _sown(home)
        figures: dict[str, Any] = {"open": OPEN, "total": TOTAL, "sql_first_100": _figures(_sql(database))}
        with _server(home) as (base, process):
            client = httpx.Client(base_url=base, cookies={"triage_session": secret}, timeout=120)
            client.get("/worklist")
            for name, path in (
                ("page_first_60", "/worklist"), ("rows_100", "/worklist/rows?limit=100"),
                ("filter_modality", "/worklist/rows?modality=CT&limit=100"),
                ("filter_text", "/worklist/rows?description=thorax&limit=100"),
                ("sort_name", "/worklist/rows?sort=pat&limit=100"),
                ("panel", f"/worklist/{_uid(TOTAL - 1)}/panel"), ("api_100", "/api/v1/worklist?limit=100"),
            ):  # fmt: skip
                figures[name] = _figures(_times(lambda p=path: _get(client, p, database)))  # type: ignore[misc]
            body = client.get("/worklist/rows?limit=100", headers={"Accept-Encoding": "gzip"})
            figures["rows_100_gzip_bytes"] = int(body.headers["Content-Length"])
            if CHROMIUM:
                figures |= _browser(base, secret, database)
            figures["readers"] = _readers(base, secret, database, process)
        database.close()
        if shutil.which("Orthanc"):
            figures["orthanc"] = orthanc_lists(Path(folder), ORTHANC, REPEATS)
        return figures


def _uid(n: int) -> str:
    return f"1.2.826.0.1.3680043.10.9.{n + 1}"


def _sown(home: Path) -> tuple[Database, str]:
    """TOTAL studies of which the newest OPEN wait; rows as the product writes them, in bulk."""
    now = datetime.now(UTC)
    database = sow(home / "triage.db", now).database
    for start in range(0, TOTAL, 20_000):
        numbers = range(start, min(start + 20_000, TOTAL))
        with database.write() as tx:
            for table, row in _ROWS:
                tx.execute(insert(table), [row(n, now) for n in numbers])
    with database.write() as tx:
        tx.exec_driver_sql("ANALYZE")
        return database, accounts.sign_in(tx, "ann", now).secret


def _when(n: int, now: datetime) -> datetime:
    return now - timedelta(seconds=30 * (TOTAL - n))


def _patient(n: int, now: datetime) -> dict[str, Any]:
    name = f"{('Muster', 'Beispiel', 'Doe', 'Roe', 'Li')[n % 5]}{n}^Person"
    return {"id": n + 1, "patient_id": str(4_000_000 + n), "patient_name": name, "patient_sex": "FM"[n % 2]}


def _study(n: int, now: datetime) -> dict[str, Any]:
    at = _when(n, now)
    return {
        "id": n + 1, "study_instance_uid": _uid(n), "patient_id": n + 1, "accession_number": f"A{n}",
        "site": "NORTH",
        "study_description": "CT thorax" if n % 4 == 0 else "Chest PA", "acquired_at": at,
        "patient_age_years": 20.0 + n % 70,
        "first_received_at": at, "last_received_at": at, "constancy": False,
    }  # fmt: skip


def _series(n: int, now: datetime) -> dict[str, Any]:
    at = _when(n, now)
    return {
        "id": n + 1, "study_id": n + 1, "series_instance_uid": f"{_uid(n)}.1", "modality": "CT" if n % 4 == 0 else "DX",
        "calling_ae_title": "CT1" if n % 4 == 0 else "DX_P2", "instance_count": 1, "expected_count": 1, "state": "complete",
        "complete_because": "film", "first_instance_at": at, "last_instance_at": at,
    }  # fmt: skip


def _instance(n: int, now: datetime) -> dict[str, Any]:
    return {
        "id": n + 1, "series_id": n + 1, "sop_instance_uid": f"{_uid(n)}.1.1",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1", "digest": f"{n:064x}", "size_bytes": 8_000_000,
        "received_at": _when(n, now),
        "wanted": False, "header": {},
    }  # fmt: skip


def _item(n: int, now: datetime) -> dict[str, Any]:
    at = _when(n, now)
    ordered = (OrderedPriority.STAT, OrderedPriority.URGENT)[n % 2] if n % 10 < 2 else OrderedPriority.ROUTINE
    placed = prioritize(ItemFacts(arrived_at=at, ordered_priority=ordered), (), _POLICY, 0)
    waits = n >= TOTAL - OPEN
    return {
        "id": n + 1, "study_id": n + 1, "state": "to_read" if waits else "read", "ordered_priority": ordered.value,
        "base_class": int(placed.base_class), "priority_class": int(placed.priority_class),
        "score": placed.score, "reasons": [r.as_json() for r in placed.reasons], "arrived_at": at,
        "due_at": placed.due_at,
        "bound_at": placed.bound_at, "ai_status": "completed", "modality": "CT" if n % 4 == 0 else "DX",
        "body_part": "CHEST",
        "location": ("ED", "ICU 2", "OPD", "Ward 4")[n % 4], "read_at": None if waits else at, "opened_at": None,
    }  # fmt: skip


_POLICY = Policy()
_ROWS = (
    (patient, _patient),
    (study, _study),
    (series, _series),
    (instance, _instance),
    (worklist_item, _item),
)


@contextmanager
def _server(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The product's own web process on a free port."""
    environment = {**os.environ, "TRIAGE_HOME": str(home), "TRIAGE_SITE": "NORTH", "TRIAGE_WEB__PORT": "0"}
    log = home / "web.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "triage.web.serve"], env=environment, stdout=out, stderr=out
        )
    try:
        yield _address(log, process), psutil.Process(process.pid)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    for _ in range(3000):
        for line in log.read_text().splitlines():
            if "web.listening" in line:
                return "http://" + line.split("http://", 1)[1].split('"')[0].split()[0].strip("',}")
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"the web process did not start: {log.read_text()[-2000:]}")


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


def _sql(database: Database) -> list[float]:
    def run() -> None:
        with database.read() as tx:
            assert len(listing.rows(tx, listing.Filters(), datetime.now(UTC), limit=100)) == min(100, OPEN)

    return _times(run)


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
    return {"browser_first_view": _figures(views), "browser_event_to_cell": _figures(cells)}


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


# --- fifty readers ---------------------------------------------------------------------------------------------


def _readers(base: str, secret: str, database: Database, process: psutil.Process) -> dict[str, Any]:
    """READERS open pages: each holds its stream and asks for its rows after each change, as the page does."""
    stop, asked, lock = threading.Event(), [], threading.Lock()

    def reader() -> None:
        cookies = {"triage_session": secret}
        with (
            suppress(httpx.HTTPError),
            httpx.Client(base_url=base, cookies=cookies, timeout=60) as client,
            client.stream("GET", "/api/v1/events") as stream,
        ):
            for line in stream.iter_lines():
                if stop.is_set():
                    return
                if line.startswith("event: worklist"):
                    began = time.perf_counter()
                    status = client.get("/worklist/rows?limit=100").status_code
                    with lock:
                        asked.append((time.perf_counter() - began, status))

    threads = [threading.Thread(target=reader, daemon=True) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    family = [process, *process.children(recursive=True)]
    before, began = _cpu(family), time.perf_counter()
    while time.perf_counter() - began < READING_SECONDS:
        with database.write() as tx:
            events.publish(tx, datetime.now(UTC), "worklist", 1 + TOTAL - OPEN)
        time.sleep(4)
    spent, wall = _cpu(family) - before, time.perf_counter() - began
    memory = sum(p.memory_info().rss for p in family if p.is_running())
    stop.set()
    return {
        "readers": READERS, "answers": _figures([s for s, _ in asked]), "refused": sum(status != 200 for _, status in asked),
        "cores": round(spent / wall, 3), "memory_mb": round(memory / 2**20),
    }  # fmt: skip


def _cpu(family: list[psutil.Process]) -> float:
    return sum(sum(p.cpu_times()[:2]) for p in family if p.is_running())


def _figures(seconds: list[float]) -> dict[str, float | int]:
    ordered = sorted(1000 * s for s in seconds)
    if not ordered:
        return {"n": 0}
    return {
        "n": len(ordered), "p50": round(statistics.median(ordered), 1),
        "p95": round(ordered[round(0.95 * (len(ordered) - 1))], 1), "max": round(ordered[-1], 1),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
