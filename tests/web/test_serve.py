"""The real web process: it serves, beats, and lets go of its streams at SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.web.seed import Sown, sow
from triage.store import events
from triage.workflow import accounts

START_SECONDS = 120  # two cores may be busy with everything else


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def sown(tmp_path: Path) -> Iterator[Sown]:
    found = sow(tmp_path / "triage.db", datetime.now(UTC))
    yield found
    found.database.close()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_the_process_serves_beats_and_drains_with_an_open_stream(tmp_path: Path, sown: Sown) -> None:
    port = free_port()
    environment = os.environ | {
        "TRIAGE_HOME": str(tmp_path), "TRIAGE_WEB__PORT": str(port), "TRIAGE_WEB__LISTENERS_MAX": "3",
    }  # fmt: skip
    with sown.database.write() as tx:
        token = accounts.issue_token(tx, "t", ["worklist:read"], datetime.now(UTC), by="test")
    process = subprocess.Popen([sys.executable, "-m", "triage.web.serve"], env=environment)
    try:
        base, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
        while not answers(f"{base}/ready"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with httpx.stream(
            "GET", f"{base}/api/v1/events", headers={"Authorization": f"Bearer {token}"}, timeout=30
        ) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("retry")
            with sown.database.read() as tx:
                assert [b["part"] for b in events.beats(tx)] == ["web"]
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            list(lines)  # ends by itself
        assert process.wait(timeout=15) == 0
        assert time.monotonic() - began < 10
    finally:
        process.kill()
        process.wait()
    with sown.database.read() as tx:
        assert events.beats(tx) == []  # a clean end leaves no part that looks dead
