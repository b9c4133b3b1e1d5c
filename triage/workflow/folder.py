"""The watched folder: a file is taken when its size rests, then moved to done/ or refused/ with the reason beside it.

<path>/**/*      put there by anybody, in any depth
<path>/done/     taken: durable and indexed
<path>/refused/  not taken; <name>.reason.txt says why
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from triage.domain.errors import Refused, TriageError
from triage.log import get_logger
from triage.workflow.inlet import Inlet

log = get_logger()
DONE, REFUSED = "done", "refused"
MOST_FILES = 5_000  # of one look
IDLE_LOOKS = 5  # without a new file before the transfer counts as over


@dataclass(frozen=True)
class _Seen:
    size: int
    modified: int
    since: datetime


class WatchedFolder:
    def __init__(self, path: Path, inlet: Inlet, rest_seconds: float, clock: Callable[[], datetime]) -> None:
        self.path, self._inlet, self._clock = path, inlet, clock
        self._rest = timedelta(seconds=rest_seconds)
        self._seen: dict[Path, _Seen] = {}
        self._transfer, self._idle = "", 0

    def look(self) -> int:
        """Take what rests; returns how many files were taken or refused. raises Unavailable: all of it stays and is
        tried again"""
        now = self._clock()
        found = {path: self._state(path, now) for path in self._files()}
        self._seen = {path: state for path, state in found.items() if state is not None}
        ripe = sorted(path for path, state in self._seen.items() if now - state.since >= self._rest)
        for path in ripe:
            self._take(path)
            self._seen.pop(path, None)
        self._close_when_idle(bool(ripe or self._seen))
        return len(ripe)

    def _files(self) -> list[Path]:
        """Files to look at; hidden ones are half copied, links lead elsewhere."""
        found: list[Path] = []
        for folder, folders, names in os.walk(self.path):
            here = Path(folder)
            own = (DONE, REFUSED) if here == self.path else ()
            folders[:] = sorted(f for f in folders if f not in own and not f.startswith("."))
            for name in sorted(names):
                path = here / name
                if (
                    not name.startswith(".")
                    and not name.endswith((".part", ".tmp"))
                    and not path.is_symlink()
                ):
                    found.append(path)
            if len(found) >= MOST_FILES:
                break
        return found[:MOST_FILES]

    def _state(self, path: Path, now: datetime) -> _Seen | None:
        try:
            stat = path.stat()
        except OSError:
            return None  # gone again
        before = self._seen.get(path)
        if before is not None and (before.size, before.modified) == (stat.st_size, stat.st_mtime_ns):
            return before
        return _Seen(stat.st_size, stat.st_mtime_ns, now)

    def _take(self, path: Path) -> None:
        self._transfer = self._transfer or uuid.uuid4().hex
        self._idle = 0
        try:
            self._inlet.take(path, sender="FOLDER", transfer=self._transfer)
        except Refused as error:
            log.warning("file.refused", detail=str(error))
            moved = self._move(path, REFUSED)
            moved.with_name(moved.name + ".reason.txt").write_text(f"{error}\n", encoding="utf-8")
            return
        self._move(path, DONE)

    def _move(self, path: Path, where: str) -> Path:
        target = self.path / where / path.relative_to(self.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target = target.with_name(f"{target.stem}-{uuid.uuid4().hex[:8]}{target.suffix}")
        return path.rename(target)

    def _close_when_idle(self, busy: bool) -> None:
        self._idle = 0 if busy else self._idle + 1
        if self._transfer and self._idle >= IDLE_LOOKS:
            try:
                self._inlet.end(self._transfer)
            except TriageError as error:
                log.warning("transfer.end_not_recorded", name="folder", error=str(error))
            self._transfer = ""
