"""Anchors lie outside the database, signed, and show a cut tail (P22)."""

from __future__ import annotations

from pathlib import Path

from tests.factories import NOON
from triage.store import audit
from triage.store.database import Database
from triage.workflow.anchors import anchor_key, read_anchors, write_anchor


def test_an_anchor_is_written_once_for_an_event_and_verifies(tmp_path: Path, database: Database) -> None:
    with database.write() as tx:
        audit.append(tx, NOON, "Dr. X", "study.claimed", "study", 1)
        head = audit.head(tx)
    assert head is not None
    assert read_anchors(tmp_path) == []

    write_anchor(tmp_path, *head)
    write_anchor(tmp_path, *head)

    assert len(read_anchors(tmp_path)) == 1
    with database.read() as tx:
        assert audit.verify(tx, read_anchors(tmp_path), anchor_key(tmp_path)).ok


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    key = anchor_key(tmp_path)

    assert anchor_key(tmp_path) == key and len(key) == 64
    assert (tmp_path / "audit" / "anchor.key").stat().st_mode & 0o777 == 0o600
