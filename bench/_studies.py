"""TOTAL studies of which the newest OPEN wait, in a database of either kind: rows as the product writes them, in bulk."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from tests.web.seed import sow_in
from triage.domain.priority import ItemFacts, OrderedPriority, Policy, prioritize
from triage.store.database import Database
from triage.store.schema import instance, patient, series, study, worklist_item
from triage.workflow import accounts

OPEN = int(os.environ.get("OPEN", "5000"))
TOTAL = int(os.environ.get("TOTAL", "200000"))
POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")
DATABASES = [
    kind
    for kind in os.environ.get("DATABASES", "sqlite postgresql").split()
    if kind == "sqlite" or (POSTGRES_BIN / "initdb").exists()
]


def each_database(of: Callable[[Path, str], dict[str, Any]]) -> dict[str, Any]:
    """What `of` (a home, the address of an empty database) found with each kind, beside the sizes and the load before."""
    figures: dict[str, Any] = {"open": OPEN, "total": TOTAL, "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory(prefix="triage-bench-") as folder:
        for kind in DATABASES:
            home = Path(folder) / kind
            home.mkdir()
            with _url_of(kind, home) as url:
                figures[kind] = of(home, url)
    return figures


@contextmanager
def _url_of(kind: str, home: Path) -> Iterator[str]:
    """The address of an empty database, "sqlite" or "postgresql"; the server of the second lives as long as this."""
    if kind == "sqlite":
        yield f"sqlite:///{home / 'triage.db'}"
        return
    folder = Path(tempfile.mkdtemp(prefix="triage-pg-", dir="/tmp"))  # a socket path has 107 bytes
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres", "postgres")

    def run(*command: str) -> None:
        subprocess.run([*as_user, *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)

    data, control = str(folder / "data"), str(POSTGRES_BIN / "pg_ctl")
    run(
        str(POSTGRES_BIN / "initdb"),
        "-D",
        data,
        "-A",
        "trust",
        "-N",
        "-U",
        "postgres",
        "-E",
        "UTF8",
        "--locale=C",
    )
    run(
        control,
        "-D",
        data,
        "-w",
        "-l",
        str(folder / "log"),
        "-o",
        f"-k {folder} -c listen_addresses=''",
        "start",
    )
    try:
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        run(control, "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def fill(url: str) -> tuple[Database, str]:
    """(the database, the secret of a reader's session)"""
    now = datetime.now(UTC)
    database = sow_in(Database(url), now).database
    fill_in(database, TOTAL, OPEN, now)
    with database.write() as tx:
        return database, accounts.sign_in(tx, "ann", now).secret


def fill_in(database: Database, total: int, waiting: int, now: datetime) -> None:
    """The same studies in a database that holds users and policies, and no study yet."""
    for start in range(0, total, 20_000):
        chosen = [
            (n, now - timedelta(seconds=30 * (total - n))) for n in range(start, min(start + 20_000, total))
        ]
        with database.write() as tx:
            for table, row in _ROWS:
                tx.execute(insert(table), [row(n, at) for n, at in chosen])
            items = [_item(n, at, waits=n >= total - waiting) for n, at in chosen]
            tx.execute(insert(worklist_item), items)
    with database.write() as tx:
        tx.exec_driver_sql("ANALYZE")


def uid(n: int) -> str:
    return f"1.2.826.0.1.3680043.10.9.{n + 1}"


def _patient(n: int, _: datetime) -> dict[str, Any]:
    name = f"{('Muster', 'Beispiel', 'Doe', 'Roe', 'Li')[n % 5]}{n}^Person"
    return {"id": n + 1, "patient_id": str(4_000_000 + n), "patient_name": name, "patient_sex": "FM"[n % 2]}


def _study(n: int, at: datetime) -> dict[str, Any]:
    return {
        "id": n + 1, "study_instance_uid": uid(n), "patient_id": n + 1, "accession_number": f"A{n}",
        "site": "NORTH",
        "study_description": "CT thorax" if n % 4 == 0 else "Chest PA", "acquired_at": at,
        "patient_age_years": 20.0 + n % 70,
        "first_received_at": at, "last_received_at": at, "constancy": False,
    }  # fmt: skip


def _series(n: int, at: datetime) -> dict[str, Any]:
    return {
        "id": n + 1, "study_id": n + 1, "series_instance_uid": f"{uid(n)}.1", "modality": "CT" if n % 4 == 0 else "DX",
        "calling_ae_title": "CT1" if n % 4 == 0 else "DX_P2", "instance_count": 1, "expected_count": 1, "state": "complete",
        "complete_because": "film", "first_instance_at": at, "last_instance_at": at,
    }  # fmt: skip


def _instance(n: int, at: datetime) -> dict[str, Any]:
    return {
        "id": n + 1, "series_id": n + 1, "sop_instance_uid": f"{uid(n)}.1.1",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1", "digest": f"{n:064x}", "size_bytes": 8_000_000,
        "received_at": at,
        "wanted": False, "header": {},
    }  # fmt: skip


def _item(n: int, at: datetime, *, waits: bool) -> dict[str, Any]:
    ordered = (OrderedPriority.STAT, OrderedPriority.URGENT)[n % 2] if n % 10 < 2 else OrderedPriority.ROUTINE
    placed = prioritize(ItemFacts(arrived_at=at, ordered_priority=ordered), (), _POLICY, 0)
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
)
