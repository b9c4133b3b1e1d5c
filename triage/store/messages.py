"""Messages of other systems: kept as they came, then what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from triage.store.schema import message, report

BY_A_PERSON = "parked by "  # how the reason begins when a person set a message aside
_BRIEF = [c for c in message.c if c.name != "raw"]


def keep(
    tx: Connection, *, sender: str, control_id: str, kind: str, digest: str, raw: bytes, address: str, now: datetime
) -> int:  # fmt: skip
    """The message as a row, in state `received`; returns its id."""
    row = insert(message).values(
        sender=sender[:160], control_id=control_id[:199], kind=kind[:20], digest=digest, raw=raw,
        address=address[:60], received_at=now,
    )  # fmt: skip
    return int(tx.execute(row.returning(message.c.id)).scalar_one())


def find_earlier(tx: Connection, sender: str, control_id: str, since: datetime) -> dict[str, Any] | None:
    """The newest message under this sender and control id that came since then."""
    row = (
        tx.execute(
            select(*_BRIEF)
            .where(
                message.c.sender == sender[:160],
                message.c.control_id == control_id[:199],
                message.c.received_at >= since,
            )
            .order_by(message.c.id.desc())
            .limit(1)
        )
        .mappings()
        .first()
    )
    return dict(row) if row else None


def settle(
    tx: Connection, message_id: int, now: datetime, *, state: str, code: str, error: str = "", reason: str = "",
    accession_number: str = "", study_instance_uid: str = "",
) -> None:  # fmt: skip
    """What became of it, and what we answered."""
    values: dict[str, Any] = {
        "state": state, "code": code, "error": error, "reason": reason[:400], "ended_at": now,
        "attempts": message.c.attempts + 1,
    }  # fmt: skip
    if accession_number:
        values["accession_number"] = accession_number[:64]
    if study_instance_uid:
        values["study_instance_uid"] = study_instance_uid[:64]
    tx.execute(update(message).where(message.c.id == message_id).values(**values))


def set_state(tx: Connection, message_id: int, state: str, reason: str) -> bool:
    """Set aside by a person. False when there is no such message."""
    query = update(message).where(message.c.id == message_id).values(state=state, reason=reason[:400])
    return tx.execute(query).rowcount == 1


def unworked(tx: Connection, before: datetime, limit: int = 100) -> list[int]:
    """Messages that came before then and were not worked through, oldest first."""
    waits = and_(message.c.state == "received", message.c.received_at < before)
    query = select(message.c.id).where(waits).order_by(message.c.id).limit(limit)
    return list(tx.execute(query).scalars())


def get(tx: Connection, message_id: int) -> dict[str, Any] | None:
    """With its bytes."""
    row = tx.execute(select(message).where(message.c.id == message_id)).mappings().first()
    return dict(row) if row else None


def listing(
    tx: Connection, *, states: Sequence[str] = (), accession_number: str = "", sender: str = "",
    before_id: int | None = None, limit: int = 100, stuck: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """Newest first, without their bytes.

    stuck  only what a person may have to look at: what we could not use and nobody set aside
    """
    conditions = [message.c.id < before_id] if before_id is not None else []
    if sender:
        conditions.append(message.c.sender == sender)
    if stuck:
        aside = message.c.reason.startswith(BY_A_PERSON, autoescape=True)
        conditions.append(message.c.state.in_(("refused", "parked")) & ~aside)
    if states:
        conditions.append(message.c.state.in_(list(states)))
    if accession_number:
        conditions.append(message.c.accession_number == accession_number)
    query = select(*_BRIEF).where(and_(True, *conditions)).order_by(message.c.id.desc()).limit(limit)
    return [dict(r) for r in tx.execute(query).mappings()]


def counts(tx: Connection) -> dict[str, int]:
    """{state: number} of all that is kept."""
    rows = tx.execute(select(message.c.state, func.count()).group_by(message.c.state))
    return {state: int(n) for state, n in rows.tuples()}


def senders(tx: Connection, limit: int = 100) -> list[str]:
    query = select(message.c.sender).where(message.c.sender != "").distinct().order_by(message.c.sender)
    return list(tx.execute(query.limit(limit)).scalars())


def forget(tx: Connection, before: datetime, limit: int = 500) -> int:
    """Remove what came before then; a report keeps its words without the message that brought them."""
    old = list(
        tx.execute(
            select(message.c.id)
            .where(message.c.received_at < before, message.c.state != "received")
            .order_by(message.c.id)
            .limit(limit)
        ).scalars()
    )
    if old:
        tx.execute(update(report).where(report.c.message_id.in_(old)).values(message_id=None))
        tx.execute(delete(message).where(message.c.id.in_(old)))
    return len(old)


# --- reports --------------------------------------------------------------------------------------------------


def add_report(
    tx: Connection, now: datetime, *, digest: str, study_id: int | None, message_id: int | None,
    study_instance_uid: str, accession_number: str, state: str, text: str, reported_at: datetime | None,
) -> bool:  # fmt: skip
    """False when the very same report is known."""
    if tx.execute(select(report.c.id).where(report.c.digest == digest)).first() is not None:
        return False
    tx.execute(
        insert(report).values(
            digest=digest, study_id=study_id, message_id=message_id, study_instance_uid=study_instance_uid[:64],
            accession_number=accession_number[:64], state=state, text=text, reported_at=reported_at, received_at=now,
        )
    )  # fmt: skip
    return True


def reports_of(tx: Connection, study_id: int) -> list[dict[str, Any]]:
    """Reports of a study, in the order in which they came."""
    query = select(report).where(report.c.study_id == study_id).order_by(report.c.id)
    return [dict(r) for r in tx.execute(query).mappings()]


def homeless_reports(tx: Connection, study_instance_uid: str, accession_number: str) -> list[dict[str, Any]]:
    """Reports of a study whose images had not come, oldest first."""
    by_uid = and_(report.c.study_instance_uid == study_instance_uid, report.c.study_instance_uid != "")
    by_accession = and_(report.c.accession_number == accession_number, report.c.accession_number != "")
    query = select(report).where(report.c.study_id.is_(None), by_uid | by_accession).order_by(report.c.id)
    return [dict(r) for r in tx.execute(query).mappings()]


def give_home(tx: Connection, report_id: int, study_id: int) -> None:
    tx.execute(update(report).where(report.c.id == report_id).values(study_id=study_id))
