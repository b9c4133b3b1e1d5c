"""Receiver processes alone, under a real supervisor, with senders that retry: for faults and for the order of calls."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from triage.cli.up import as_toml, free_port
from triage.dicom.send import SendResult, echo, send
from triage.domain.errors import Unavailable
from triage.settings import Settings
from triage.store import migrate, policies
from triage.store.database import Database
from triage.store.spool import Spool


@dataclass
class Reception:
    """`triage up --only receiver` in a home of its own, without a broker (calls to workers are lost, rows are not)."""

    home: Path
    port: int
    supervisor: subprocess.Popen[bytes] | None = None
    traced: bool = False

    @property
    def log(self) -> Path:
        return self.home / "log.txt"

    def start(self) -> None:
        config = str(self.home / "triage.toml")
        self._run([sys.executable, "-m", "triage.cli.main", "--config", config, "up", "--only", "receiver"])

    def start_one_under(self, *prefix: str) -> None:
        """One receiver without a supervisor, run by another program."""
        self.traced = True
        self._run([*prefix, sys.executable, "-m", "triage.workflow.parts", "receiver", "1"])

    def _run(self, command: list[str]) -> None:
        environment = {**os.environ, "TRIAGE_CONFIG": str(self.home / "triage.toml")}
        with self.log.open("ab") as log:
            self.supervisor = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.wait()

    def wait(self, within_seconds: float = 300) -> None:
        deadline = time.monotonic() + within_seconds
        while True:
            with contextlib.suppress(Unavailable):
                echo("127.0.0.1", self.port, called="TRIAGE", timeout_seconds=5)
                return
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.1)

    def receivers(self) -> list[psutil.Process]:
        assert self.supervisor is not None
        found = []
        for child in psutil.Process(self.supervisor.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "triage.workflow.parts" in child.cmdline():
                    found.append(child)
        return found

    def stop(self) -> None:
        if self.supervisor is not None and self.supervisor.poll() is None:
            left = self.receivers()
            # strace holds signals back that are meant for it: what it runs is asked itself.
            for process in [self.supervisor, *(left if self.traced else ())]:
                process.send_signal(signal.SIGTERM)
            try:
                self.supervisor.wait(timeout=60)
            finally:
                for process in left:
                    with contextlib.suppress(psutil.Error):
                        process.kill()

    def send(self, paths: Sequence[Path], calling: str) -> list[SendResult]:
        return send(
            paths, host="127.0.0.1", port=self.port, calling=calling, called="TRIAGE", timeout_seconds=120
        )

    def database(self) -> Database:
        return Database(f"sqlite:///{self.home / 'triage.db'}")

    @property
    def spool(self) -> Spool:
        return Spool(self.home / "spool")


@contextlib.contextmanager
def reception(home: Path, *, traced_by: Sequence[str] = ()) -> Iterator[Reception]:
    """traced_by  program that runs one receiver; without it two run under their supervisor"""
    home.mkdir(parents=True)
    made = Reception(home, free_port())
    values = {
        "home": str(home),
        "dicom": {"port": made.port, "processes": 2},
        "broker": {"url": "redis://127.0.0.1:1/0"},
    }
    (home / "triage.toml").write_text(as_toml(values))
    database = Database(Settings(home=home).database_url)
    migrate.upgrade(database)
    with database.write() as tx:
        policies.ensure_first(tx, datetime.now(UTC))
    database.close()
    try:
        if traced_by:
            made.start_one_under(*traced_by)
        else:
            made.start()
        yield made
    finally:
        made.stop()


def kill(process: psutil.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
