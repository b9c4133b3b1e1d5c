"""Who did what to which object, when: append-only, each row chained to the one before by SHA-256.

Shows an edit, a removal in the middle, an insertion and a reorder. A cut tail shows against an anchor (number, hash,
HMAC) that the relay writes to `TRIAGE_HOME/audit/anchors.log` and that a site copies to where the database
administrator cannot write (assurance 6.3).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from triage.store.database import at_the_end, do_last_acts
from triage.store.schema import audit_event

GENESIS = "0" * 64


@dataclass(frozen=True)
class Anchor:
    number: int
    hash: str
    signature: str

    def line(self) -> str:
        return f"{self.number} {self.hash} {self.signature}"

    @classmethod
    def parse(cls, line: str) -> Anchor:
        number, digest, signature = line.split()
        return cls(int(number), digest, signature)


@dataclass(frozen=True)
class Verification:
    ok: bool
    count: int
    first_bad: int | None = None
    why: str = ""


def append(
    tx: Connection,
    now: datetime,
    actor: str,
    act: str,
    object_kind: str,
    object_id: object,
    detail: dict[str, Any] | None = None,
) -> None:
    """Add one event in the transaction of the change that it describes, as a last act of it.

    Whoever took the next link of the chain at once would make all others wait for the rows that he still needs, and
    wait for theirs.
    """
    row = {
        "at": now.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": actor,
        "act": act,
        "object_kind": object_kind,
        "object_id": str(object_id),
        "detail": json.dumps(detail or {}, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
    }
    at_the_end(tx, lambda last: _link(last, row))


def _link(tx: Connection, said: dict[str, Any]) -> None:
    number, previous = _newest_link(tx) or (0, GENESIS)
    row = {**said, "number": number + 1, "previous_hash": previous}
    tx.execute(insert(audit_event).values(**row, hash=_hash(row)))


def verify(tx: Connection, anchors: Sequence[Anchor] = (), key: bytes = b"") -> Verification:
    """Walk the whole chain; names the first row that does not fit.

    anchors  as read from the log, oldest first; each must be signed with `key` and still be in the chain
    """
    expected_number, previous, count = 1, GENESIS, 0
    hashes: dict[int, str] = {}
    wanted = {a.number for a in anchors}
    for row in _rows(tx):
        if row["number"] != expected_number:
            return Verification(False, count, expected_number, f"row {expected_number} is missing")
        if row["previous_hash"] != previous:
            return Verification(
                False, count, row["number"], f"row {row['number']} does not follow the row before it"
            )
        if row["hash"] != _hash(row):
            return Verification(False, count, row["number"], f"row {row['number']} was changed")
        previous, expected_number, count = row["hash"], expected_number + 1, count + 1
        if row["number"] in wanted:
            hashes[row["number"]] = row["hash"]
    for anchor in anchors:
        if not hmac.compare_digest(anchor.signature, sign(anchor.number, anchor.hash, key).signature):
            return Verification(False, count, anchor.number, f"the anchor of row {anchor.number} is forged")
        if hashes.get(anchor.number) != anchor.hash:
            where = count + 1 if anchor.number > count else anchor.number
            why = "the end of the chain was cut" if anchor.number > count else "the chain was rewritten"
            return Verification(False, count, where, f"{why}: anchor {anchor.number} does not fit")
    return Verification(True, count)


def sign(number: int, digest: str, key: bytes) -> Anchor:
    signature = hmac.new(key, f"{number} {digest}".encode(), hashlib.sha256).hexdigest()
    return Anchor(number, digest, signature)


def head(tx: Connection) -> tuple[int, str] | None:
    """(number, hash) of the last event."""
    do_last_acts(tx)
    return _newest_link(tx)


def _newest_link(tx: Connection) -> tuple[int, str] | None:
    row = tx.execute(
        select(audit_event.c.number, audit_event.c.hash).order_by(audit_event.c.number.desc()).limit(1)
    ).first()
    return (row.number, row.hash) if row else None


def events(
    tx: Connection, *, object_kind: str = "", object_id: str = "", after: int = 0, limit: int = 500
) -> list[dict[str, Any]]:
    """Events in order of number, `detail` parsed; for pages and export."""
    do_last_acts(tx)
    query = (
        select(audit_event).where(audit_event.c.number > after).order_by(audit_event.c.number).limit(limit)
    )
    if object_kind:
        query = query.where(audit_event.c.object_kind == object_kind)
    if object_id:
        query = query.where(audit_event.c.object_id == object_id)
    return [{**row, "detail": json.loads(row["detail"])} for row in map(dict, tx.execute(query).mappings())]


def newest(tx: Connection, acts: Sequence[str], object_kind: str, object_id: object) -> datetime | None:
    """When one of these acts last happened to this object."""
    do_last_acts(tx)
    e = audit_event.c
    at = tx.execute(
        select(e.at)
        .where(e.object_kind == object_kind, e.object_id == str(object_id), e.act.in_(list(acts)))
        .order_by(e.number.desc())
        .limit(1)
    ).scalar_one_or_none()
    return None if at is None else datetime.fromisoformat(at)


def between(tx: Connection, start: datetime, end: datetime, acts: Sequence[str]) -> list[dict[str, Any]]:
    """Events of these acts in [start, end), `at` as a time and `detail` parsed."""
    do_last_acts(tx)
    e = audit_event.c
    ends = [t.astimezone(UTC).isoformat(timespec="microseconds") for t in (start, end)]
    rows = tx.execute(
        select(audit_event).where(e.at >= ends[0], e.at < ends[1], e.act.in_(list(acts))).order_by(e.number)
    )
    return [
        {**row, "at": datetime.fromisoformat(row["at"]), "detail": json.loads(row["detail"])}
        for row in map(dict, rows.mappings())
    ]


def _rows(tx: Connection) -> Iterator[dict[str, Any]]:
    do_last_acts(tx)
    result = tx.execution_options(yield_per=1000).execute(select(audit_event).order_by(audit_event.c.number))
    yield from map(dict, result.mappings())


def _hash(row: dict[str, Any]) -> str:
    keys = ("number", "at", "actor", "act", "object_kind", "object_id", "detail", "previous_hash")
    text_ = json.dumps([row[k] for k in keys], separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text_.encode()).hexdigest()
