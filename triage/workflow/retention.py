"""What has aged out goes: rows first, in a transaction with its audit; then the tombstone; then the files.

A crash in between leaves a file that nothing names, never a row whose bytes are gone. Called by `triage retention run`
and by the scheduler. Tombstones lie beside the anchors, outside every backup of the database, so that a restore does
not bring back who was removed (assurance H25).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection

from triage.log import get_logger
from triage.settings import Settings
from triage.store import audit, removal
from triage.store.database import Database
from triage.store.removal import Removed
from triage.store.spool import Spool

BATCH = 200
log = get_logger()


@dataclass(frozen=True)
class Sum:
    """What one pass removed."""

    studies: int = 0
    instances: int = 0
    bytes: int = 0

    def plus(self, one: Removed) -> Sum:
        return Sum(self.studies + 1, self.instances + one.instances, self.bytes + one.bytes)


def remove_aged(
    database: Database,
    settings: Settings,
    now: datetime,
    by: str,
    told: Callable[[Sum], None] = lambda _: None,
    most: int = 1_000_000,
) -> Sum:
    """Remove everything that may go, one study a transaction so that nobody waits; at most `most` studies.

    told  called after each study with the sum so far
    """
    before = now - timedelta(days=settings.retention_days)
    spool, done = Spool(settings.spool), Sum()
    while done.studies < most:
        before_pass = done
        with database.read() as tx:
            batch = removal.aged(tx, before, min(BATCH, most - done.studies))
        for study_id in batch:
            with database.write() as tx:
                if not removal.may_go(tx, study_id, before):
                    continue
                removed = _remove(tx, study_id, f"older than {settings.retention_days} days", by, now)
            bury(settings.home, removed.study_instance_uid, now)
            forget_files(settings, spool, removed)
            done = done.plus(removed)
            told(done)
        if done == before_pass:
            break  # nothing is left that may go
    with database.write() as tx:
        removal.forget_patients(tx, before)
    if done.studies:
        log.info("retention.removed", studies=done.studies, bytes=done.bytes)
    return done


def remove_buried(tx: Connection, study_id: int, by: str, now: datetime) -> Removed:
    """After a restore: a study that had been removed before."""
    return _remove(tx, study_id, "was removed before the restore", by, now)


def _remove(tx: Connection, study_id: int, why: str, by: str, now: datetime) -> Removed:
    removed = removal.remove(tx, study_id)
    audit.append(
        tx, now, by, "retention.removed", "study", removed.study_instance_uid,
        {
            "why": why,
            "runs": removed.runs,
            "instances": removed.instances,
            "objects": hashlib.sha256("\n".join(removed.digests).encode()).hexdigest(),
        },
    )  # fmt: skip
    return removed


def forget_files(settings: Settings, spool: Spool, removed: Removed) -> None:
    """Received objects and those that we made of them; a file that is gone already is well."""
    for digest in removed.digests:
        spool.remove(digest)
    uid = removed.study_instance_uid
    if uid and all(part.isdigit() for part in uid.split(".")):  # a UID is a folder's name only when it is one
        shutil.rmtree(settings.outputs / uid, ignore_errors=True)


def bury(home: Path, study_instance_uid: str, now: datetime) -> None:
    """Write the tombstone; durable before the files go."""
    path = home / "audit" / "removed.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="ascii", errors="replace") as stream:
        stream.write(f"{now.isoformat(timespec='seconds')} {study_instance_uid}\n")
        stream.flush()
        os.fsync(stream.fileno())


def buried(home: Path) -> set[str]:
    """Study Instance UIDs with a tombstone."""
    path = home / "audit" / "removed.log"
    if not path.exists():
        return set()
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    return {line.partition(" ")[2] for line in lines if " " in line}
