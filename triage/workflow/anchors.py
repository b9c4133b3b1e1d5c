"""Anchors of the audit chain: (number, hash) signed with a key outside the database, one line a time.

A site copies `TRIAGE_HOME/audit/anchors.log` to where the database administrator cannot write (assurance 6.3).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from triage.store.audit import Anchor, sign


def write_anchor(home: Path, number: int, digest: str) -> None:
    """Append an anchor unless the last one already names this event."""
    log = home / "audit" / "anchors.log"
    held = read_anchors(home)
    if held and held[-1].number == number:
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="ascii") as stream:
        stream.write(sign(number, digest, anchor_key(home)).line() + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_anchors(home: Path) -> list[Anchor]:
    log = home / "audit" / "anchors.log"
    if not log.exists():
        return []
    return [Anchor.parse(line) for line in log.read_text(encoding="ascii").splitlines() if line.strip()]


def anchor_key(home: Path) -> bytes:
    """The signing key, made at first use with mode 0600."""
    path = home / "audit" / "anchor.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(32))
    return path.read_bytes()
