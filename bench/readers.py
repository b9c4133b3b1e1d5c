"""READERS people with the list open at once: how long each waits for its rows after a change, and what that costs.

Each has a session, a language and a claimed study of his own. TOTAL, OPEN, READERS, DATABASES, SECONDS make it shorter.
"""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import select

from bench._server import memory_mb, milliseconds, processor_seconds, served
from bench._studies import each_database, fill
from triage.store import events, listing, users, worklist
from triage.store.database import Database
from triage.store.narrowing import Filters
from triage.store.schema import worklist_item
from triage.workflow import accounts

READERS = int(os.environ.get("READERS", "50"))
SECONDS = int(os.environ.get("SECONDS", "20"))
CHANGE_EVERY = 4.0
SPREAD = (0.15, 0.5)  # seconds after an event in which a page asks (static/js/worklist.js)


def measure() -> dict[str, Any]:
    """The fifty readers alone."""
    return each_database(_of_database) | {"load_after": os.getloadavg()[0]}


def _of_database(home: Path, url: str) -> dict[str, Any]:
    database, _ = fill(url)
    with served(home, url) as (base, process):
        figures = at_once(base, database, process)
    database.close()
    return figures


def at_once(base: str, database: Database, process: psutil.Process) -> dict[str, Any]:
    """Each holds its stream and asks for its rows after each change, as the page does."""
    stop, asked, lock = threading.Event(), [], threading.Lock()

    def reader(secret: str, language: str) -> None:
        headers = {"Accept-Language": language, "X-Triage-Background": "1"}
        spread = random.Random(secret)
        with (
            suppress(httpx.HTTPError),
            httpx.Client(
                base_url=base, cookies={"triage_session": secret}, headers=headers, timeout=60, verify=False
            ) as client,
            client.stream("GET", "/api/v1/events") as stream,
        ):
            for line in stream.iter_lines():
                if stop.is_set():
                    return
                if line.startswith("event: worklist"):
                    time.sleep(spread.uniform(*SPREAD))
                    began = time.perf_counter()
                    status = client.get("/worklist/rows?limit=100").status_code
                    with lock:
                        asked.append((time.perf_counter() - began, status))

    secrets = _people(database)
    threads = [
        threading.Thread(target=reader, args=(secret, ("en", "de")[n % 2]), daemon=True)
        for n, secret in enumerate(secrets)
    ]
    for thread in threads:
        thread.start()
    time.sleep(3)
    family = [process, *process.children(recursive=True)]
    before, ours, began = processor_seconds(family), time.process_time(), time.perf_counter()
    changes = 0
    while time.perf_counter() - began < SECONDS:
        _change(database, changes)
        changes += 1
        time.sleep(CHANGE_EVERY)
    spent, wall = processor_seconds(family) - before, time.perf_counter() - began
    figures = {
        "readers": READERS, "changes": changes, "answers": milliseconds([s for s, _ in asked]),
        "refused": sum(status != 200 for _, status in asked), "cores": round(spent / wall, 3),
        "milliseconds_an_answer": round(1000 * spent / max(1, len(asked)), 1),
        "cores_of_the_readers": round((time.process_time() - ours) / wall, 3), "memory_mb": memory_mb(family),
    }  # fmt: skip
    stop.set()
    return figures


def _people(database: Database) -> list[str]:
    """The secrets of sessions; each person has claimed one of the first studies of the list."""
    now = datetime.now(UTC)
    with database.write() as tx:
        first = listing.rows(tx, Filters(), now, limit=READERS)
        secrets = []
        for n in range(READERS):
            users.add_user(tx, f"reader{n}", "reader", "-", now, display_name=f"Dr Reader {n}")
            secrets.append(accounts.sign_in(tx, f"reader{n}", now).secret)
            if n < len(first):
                worklist.take_claim(tx, first[n]["id"], f"reader{n}", now, timedelta(hours=1))
    return secrets


def _change(database: Database, number: int) -> None:
    """A word of the department on the newest study: another answer for everybody."""
    with database.write() as tx:
        w = worklist_item.c
        item = tx.execute(select(w.id, w.study_id).order_by(w.id.desc()).limit(1)).one()
        tx.execute(worklist_item.update().where(w.id == item.id).values(label=f"label {number}"))
        events.publish(tx, datetime.now(UTC), "worklist", item.study_id)
