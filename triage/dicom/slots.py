"""How many associations there are, over all receiver processes of this machine: one small file per slot, locked by
whoever has it. The kernel gives a slot back when its process dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class Slots:
    """total: associations at a time; per_address: of one address."""

    def __init__(self, folder: Path, *, total: int, per_address: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._total, self._per_address = folder, total, per_address

    def take(self, address: str) -> int | None:
        """Descriptor that holds a slot until it is closed; None when the total or the address is full."""
        door = os.open(self._folder / "door", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(door, fcntl.LOCK_EX)  # held for microseconds; two that count at once would both fit
            return self._take(address.encode())
        finally:
            os.close(door)

    def _take(self, address: bytes) -> int | None:
        free: int | None = None
        from_there = 0
        for number in range(self._total):
            slot = os.open(self._folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if free is None and _locked(slot):
                free = slot
                continue
            if free is not None and _locked(slot):
                os.close(slot)  # nobody has it
                continue
            from_there += os.pread(slot, 64, 0) == address
            os.close(slot)
        if free is None:
            return None
        if from_there >= self._per_address:
            os.close(free)
            return None
        os.ftruncate(free, 0)
        os.pwrite(free, address, 0)
        return free


def _locked(slot: int) -> bool:
    with contextlib.suppress(OSError):
        fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
