"""The durable store of received objects, by content; never edited.

    <root>/incoming/            files being received; a receiver takes up at its start what dead ones left
    <root>/objects/ab/<sha256>.dcm
    <root>/aside/               acknowledged objects that could not be indexed; tried again when a receiver starts

A name is a digest, so a UID never becomes a path (T4) and the same object twice is one file.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

from triage.domain.errors import Unavailable

_libc = ctypes.CDLL(None, use_errno=True)


class Spool:
    def __init__(self, root: Path, reserve_bytes: int = 0) -> None:
        self.root = root
        self.incoming = root / "incoming"
        self.aside = root / "aside"
        self._objects = root / "objects"
        self._reserve_bytes = reserve_bytes

    def prepare(self) -> None:
        """Make the folders (all 256, so that no store has to sync a new one's parent)."""
        self.incoming.mkdir(parents=True, exist_ok=True)
        self.aside.mkdir(exist_ok=True)
        for shard in range(256):
            (self._objects / f"{shard:02x}").mkdir(parents=True, exist_ok=True)
        for folder in (self._objects, self.root, self.root.parent):
            _sync_folder(folder)

    def path(self, digest: str) -> Path:
        assert len(digest) == 64 and digest.isalnum()
        return self._objects / digest[:2] / f"{digest}.dcm"

    def adopt(self, temporary: Path, digest: str) -> Path:
        """Give a synced temporary file its place; returns when the name is durable too.

        The caller has flushed the file's bytes. Rename, then fsync of the folder: after that a crash keeps it (P1).
        """
        target = self.path(digest)
        temporary.replace(target)
        _sync_folder(target.parent)
        return target

    def sync_objects(self) -> None:
        """Make every name under `objects` durable: one flush of the file system, not one for each of 256 folders."""
        descriptor = os.open(self._objects, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _libc.syncfs(descriptor):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(self._objects))
        finally:
            os.close(descriptor)

    def remove(self, digest: str) -> None:
        """Take an object off the disk; its rows are gone already."""
        self.path(digest).unlink(missing_ok=True)

    def require_space(self) -> None:
        """raises Unavailable below the reserve: what we could not keep we refuse (P2)."""
        try:
            free = shutil.disk_usage(self.root).free
        except OSError as error:
            raise Unavailable(f"the spool {self.root} cannot be read: {error.strerror}") from error
        if free < self._reserve_bytes:
            raise Unavailable(
                f"the spool {self.root} has {free >> 20} MiB free, below its reserve of "
                f"{self._reserve_bytes >> 20} MiB. Free space or lower retention_days."
            )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
