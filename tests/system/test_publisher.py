"""The publisher as the process that the supervisor starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.workflow.test_publish import Bench
from triage.store import events
from triage.store.database import Database

pytestmark = pytest.mark.system
REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_process_writes_what_waits_stays_small_and_leaves_when_asked(
    database: Database, tmp_path: Path
) -> None:
    bench = Bench(database, tmp_path)
    first = bench.completed(1)
    environment = {**os.environ, "TRIAGE_HOME": str(tmp_path), "TRIAGE_DICOM__RESERVE_BYTES": "0"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "triage.workflow.parts", "publisher", "1"],
            cwd=REPOSITORY, env=environment, stderr=log,
        )  # fmt: skip
    try:
        _wait_for(lambda: len(bench.rows()) == 2, tmp_path)
        with database.read() as tx:
            assert [b["part"].split("@")[0] for b in events.beats(tx)] == ["publisher"]
        assert {r["run_id"] for r in bench.rows()} == {first}
        assert psutil.Process(process.pid).nice() >= 5
        assert psutil.Process(process.pid).memory_info().rss < 150 << 20  # no highdicom, no numpy models
        bench.completed(2)
        _wait_for(lambda: len(bench.rows()) == 4, tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        with database.read() as tx:
            assert events.beats(tx) == []
    finally:
        process.kill()
        process.wait()


def _wait_for(condition: object, home: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, (home / "log").read_text()[-2000:]
        time.sleep(0.1)
