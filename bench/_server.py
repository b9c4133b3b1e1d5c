"""The product's own web process on a free port, and what it costs."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil


@contextmanager
def served(home: Path, url: str) -> Iterator[tuple[str, psutil.Process]]:
    """(address, the process that gunicorn's workers are children of)"""
    environment = {**os.environ, "TRIAGE_HOME": str(home), "TRIAGE_SITE": "NORTH", "TRIAGE_WEB__PORT": "0",
                   "TRIAGE_DATABASE__URL": url}  # fmt: skip
    log = home / "web.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "triage.web.serve"], env=environment, stdout=out, stderr=out
        )
    try:
        yield _address(log, process), psutil.Process(process.pid)
    except httpx.HTTPStatusError as error:
        raise SystemExit(f"{error}\n{log.read_text()[-4000:]}") from error
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


def processor_seconds(family: Sequence[psutil.Process]) -> float:
    return sum(sum(p.cpu_times()[:2]) for p in family if p.is_running())


def memory_mb(family: Sequence[psutil.Process]) -> int:
    """What they hold together: a page that two of them share is counted once (PSS)."""
    return round(sum(p.memory_full_info().pss for p in family if p.is_running()) / 2**20)


def milliseconds(seconds: Sequence[float]) -> dict[str, float | int]:
    ordered = sorted(1000 * s for s in seconds)
    if not ordered:
        return {"n": 0}
    return {
        "n": len(ordered), "p50": round(statistics.median(ordered), 1),
        "p95": round(ordered[round(0.95 * (len(ordered) - 1))], 1), "max": round(ordered[-1], 1),
    }  # fmt: skip
