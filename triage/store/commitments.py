"""Transactions of storage commitment that others began, and which of the objects that they name we hold."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select, update

from triage.store.schema import commitment, instance
from triage.store.upsert import insert_or_get

_PART = 500


def begin(
    tx: Connection, ae_title: str, transaction_uid: str, objects: Sequence[tuple[str, str]], now: datetime, due_at: datetime
) -> tuple[dict[str, Any], bool]:  # fmt: skip
    """(row, new) of a transaction; one that is known stays as it is."""
    key = {"ae_title": ae_title, "transaction_uid": transaction_uid}
    values = {"objects": [list(o) for o in objects], "created_at": now, "next_attempt_at": due_at}
    row_id, new = insert_or_get(tx, commitment, key, values)
    return dict(tx.execute(select(commitment).where(commitment.c.id == row_id)).mappings().one()), new


def due(tx: Connection, now: datetime, limit: int, ae_title: str = "") -> list[dict[str, Any]]:
    """ae_title  of this peer alone; "": of all"""
    query = (
        select(commitment).where(commitment.c.next_attempt_at <= now).order_by(commitment.c.next_attempt_at)
    )
    if ae_title:
        query = query.where(commitment.c.ae_title == ae_title)
    return [dict(r) for r in tx.execute(query.limit(limit)).mappings()]


def is_waiting(tx: Connection, row_id: int) -> bool:
    """Its report is still to be brought: neither told nor given up."""
    query = select(commitment.c.id).where(
        commitment.c.id == row_id, commitment.c.next_attempt_at.is_not(None)
    )
    return tx.execute(query).first() is not None


def keep(tx: Connection, row_id: int, **values: Any) -> None:
    tx.execute(update(commitment).where(commitment.c.id == row_id).values(**values))


def put_off(tx: Connection, row_id: int, **values: Any) -> bool:
    """After an attempt that failed; False, and nothing is changed, when the transaction was over before it ended."""
    waits = (commitment.c.next_attempt_at.is_not(None), commitment.c.told_at.is_(None))
    return (
        tx.execute(update(commitment).where(commitment.c.id == row_id, *waits).values(**values)).rowcount == 1
    )


def forget(tx: Connection, before: datetime) -> int:
    """Transactions that are over and older than this."""
    over = delete(commitment).where(commitment.c.next_attempt_at.is_(None), commitment.c.created_at < before)
    return tx.execute(over).rowcount


def held(tx: Connection, uids: Collection[str]) -> dict[str, tuple[str, str]]:
    """{SOP Instance UID: (SOP class UID, digest)} of those among `uids` that the index has."""
    found: dict[str, tuple[str, str]] = {}
    ordered = sorted(uids)
    for start in range(0, len(ordered), _PART):
        query = select(instance.c.sop_instance_uid, instance.c.sop_class_uid, instance.c.digest)
        part = instance.c.sop_instance_uid.in_(ordered[start : start + _PART])
        found |= {uid: (sop_class, digest) for uid, sop_class, digest in tx.execute(query.where(part))}
    return found
