"""The incoming folder: names that are durable before they are needed, and owners that are known to be dead.

A file's name outlives a power cut only after the folder was flushed. So names are made ahead, a handful at a time,
with one flush for all: storing an object then costs the flush of its bytes alone. Each process owns its files by an
flock on `<owner>.lock`, which the kernel gives back however the process ends, also on shared storage.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import secrets
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

SPARE = 16  # names made at a time


class IncomingFolder:
    """What one process writes into `path`; close it at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._owner, self._lock_file = _own(path)
        self._numbers = itertools.count()
        self._spare: deque[Path] = deque()
        self._refilling = threading.Lock()
        self._refill()

    def new_file(self) -> Path:
        """A path for one object; its name is durable already unless names ran out faster than they are made."""
        try:
            found = self._spare.popleft()
        except IndexError:
            self._refill()
            return self.new_file()
        if len(self._spare) < SPARE // 2 and not self._refilling.locked():
            threading.Thread(target=self._refill, name="incoming-names", daemon=True).start()
        return found

    def _refill(self) -> None:
        with self._refilling:
            if len(self._spare) >= SPARE // 2:
                return
            fresh = [self.path / f"{self._owner}.{next(self._numbers)}.part" for _ in range(SPARE)]
            for path in fresh:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            sync_folder(self.path)
            self._spare.extend(fresh)

    def close(self) -> None:
        """What lies here and is not taken away yet stays ours until the process ends."""
        with self._refilling:
            for path in self._spare:
                path.unlink(missing_ok=True)
            self._spare.clear()
        if not any(self.path.glob(f"{self._owner}.*.part")):
            _lock_path(self.path, self._owner).unlink(missing_ok=True)
            os.close(self._lock_file)


@contextlib.contextmanager
def abandoned(path: Path) -> Iterator[list[Path]]:
    """Files whose process is gone, locked against others while the block runs; what is left of them then goes."""
    owners: dict[str, list[Path]] = {}
    for part in sorted(path.glob("*.part")):
        owners.setdefault(part.name.split(".")[0], []).append(part)
    for left in path.glob("*.lock"):
        owners.setdefault(left.name.split(".")[0], [])
    held = {owner: lock for owner in owners if (lock := _try_lock(_lock_path(path, owner))) is not None}
    try:
        yield [part for owner in held for part in owners[owner]]
        for owner in held:
            for part in owners[owner]:
                part.unlink(missing_ok=True)
            _lock_path(path, owner).unlink(missing_ok=True)
    finally:
        for lock_file in held.values():
            os.close(lock_file)


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _own(path: Path) -> tuple[str, int]:
    while True:
        owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        lock_file = _try_lock(_lock_path(path, owner))
        if lock_file is not None:
            return owner, lock_file


def _lock_path(path: Path, owner: str) -> Path:
    return path / f"{owner}.lock"


def _try_lock(lock: Path) -> int | None:
    """Descriptor that holds the lock, or None when its owner lives (or the file went away under us)."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None
