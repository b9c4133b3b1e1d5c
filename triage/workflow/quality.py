"""Acts of quality assurance: draw studies for a blind second read, record it, sign and keep a report.

Which studies are drawn is decided by a hash of their UID, so that a draw repeated gives the same ones and nobody chooses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage.domain.errors import Conflict, Refused
from triage.domain.finding import FINDING_CODES
from triage.store import audit, double_reads, quality, studies

DOUBLE_READ_SHARE = 0.02  # of the read studies without a flag (ux 10, chart 4)
_SPAN = 1 << 64


def is_drawn(study_uid: str, share: float) -> bool:
    """The same answer whenever it is asked; over many studies `share` of them."""
    place = int.from_bytes(hashlib.sha256(f"double-read:{study_uid}".encode()).digest()[:8], "big")
    return place < share * _SPAN


def draw_double_reads(
    tx: Connection, start: datetime, end: datetime, now: datetime, share: float = DOUBLE_READ_SHARE
) -> int:
    """Put read studies of [start, end) without a flag on the list for a second read; returns how many are new."""
    drawn = [i for i, uid in double_reads.unflagged_between(tx, start, end) if is_drawn(uid, share)]
    new = double_reads.add(tx, drawn, now)
    if new:
        audit.append(tx, now, "triage", "double_read.drawn", "study", "", {"count": new})
    return new


def record_double_read(
    tx: Connection, study_uid: str, reader: str, findings: Sequence[str], comment: str, now: datetime
) -> None:
    """What a second reader saw, without knowing what AI or the first reader said.

    raises  Refused for an unknown study or finding; Conflict when it is not (or no longer) waiting for a second read
    """
    unknown = sorted(set(findings) - set(FINDING_CODES))
    if unknown:
        raise Refused(f"no finding is called {', '.join(unknown)}")
    study_id = studies.find_study(tx, study_uid)
    if study_id is None:
        raise Refused(f"no study {study_uid} is held here")
    if not double_reads.record(tx, study_id, reader, findings, comment[:400], now):
        raise Conflict("this study does not wait for a second read; somebody may just have given it")
    audit.append(tx, now, reader, "double_read.given", "study", study_uid, {"findings": sorted(findings)})


def canonical(report: dict[str, Any]) -> str:
    """The bytes that are signed: the report without its moment of making, keys sorted."""
    head = {k: v for k, v in report["head"].items() if k != "created_at"}
    return json.dumps({**report, "head": head}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sign_report(
    tx: Connection, report: dict[str, Any], person: str, statement: str, now: datetime
) -> dict[str, Any]:
    """Keep a report of a closed period under a person's name; what was signed can be shown for ever.

    raises  Refused while the period still runs; Conflict when these very bytes are signed already
    """
    if not report["head"]["closed"]:
        raise Refused("the period still runs: a report is signed when nothing more can arrive in it")
    content = canonical(report)
    digest = hashlib.sha256(content.encode()).hexdigest()
    if quality.find_signed(tx, digest) is not None:
        raise Conflict("this report is signed already")
    signed_id = quality.add_signed(
        tx,
        period_start=datetime.fromisoformat(report["head"]["from"]),
        period_end=datetime.fromisoformat(report["head"]["to"]),
        content=content,
        digest=digest,
        statement=statement[:400],
        signed_by=person,
        signed_at=now,
    )
    audit.append(
        tx,
        now,
        person,
        "report.signed",
        "report",
        signed_id,
        {"digest": digest, "statement": statement[:400]},
    )
    return {"id": signed_id, "digest": digest}
