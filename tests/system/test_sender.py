"""The publisher process with an outlet: what a run found is written, sent and committed by the supervised process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.pacs import a_pacs
from tests.system.product import wait_until
from tests.workflow.test_publish import Bench
from triage.cli.up import free_port
from triage.store import dispatches, peers
from triage.store.database import Database
from triage.workflow.parts.common import clock

pytestmark = pytest.mark.system
REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_process_writes_sends_and_hears_of_commitment(database: Database, tmp_path: Path) -> None:
    bench = Bench(database, tmp_path)
    bench.clock.now = clock()  # the process has a clock of its own
    bench.completed()
    port = free_port()
    with a_pacs(commits=True, report_to=port) as pacs:
        with database.write() as tx:
            peers.add(tx, "PACS", "PACS", "127.0.0.1", pacs.port, tls=False)
        environment = {
            **os.environ, "TRIAGE_HOME": str(tmp_path), "TRIAGE_DICOM__RESERVE_BYTES": "0",
            "TRIAGE_OUTLETS": json.dumps([{"peer": "PACS", "commitment": True}]),
            "TRIAGE_DICOM__COMMITMENT_PORT": str(port),
        }  # fmt: skip
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "triage.workflow.parts", "publisher", "1"],
                cwd=REPOSITORY, env=environment, stderr=log, stdout=log,
            )  # fmt: skip

        def states() -> list[str]:
            with database.read() as tx:
                rows = dispatches.of_outputs(tx, [r["id"] for r in bench.rows()])
            return [d["state"] for found in rows.values() for d in found]

        try:
            wait_until(lambda: states() == ["committed", "committed"], 120, (tmp_path / "log").read_text())
            assert set(pacs.stored) == {r["sop_instance_uid"] for r in bench.rows()}
            assert psutil.Process(process.pid).memory_info().rss < 200 << 20
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
            process.wait()
