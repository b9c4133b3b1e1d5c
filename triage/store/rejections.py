"""Rejection notes by rows: what is to be read, what is live, and which instances they take out of use."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, func, select, update

from triage.domain.rejection import heaviest
from triage.domain.run import RunState
from triage.store import runs
from triage.store.schema import instance, rejected_instance, rejection_note, run, series, study
from triage.store.upsert import insert_or_get, upsert

_PART = 500


def note(tx: Connection, sop_instance_uid: str, now: datetime, **values: Any) -> tuple[int, bool]:
    """(row, new) of a note; state "unread": its file is still to be looked at."""
    return insert_or_get(tx, rejection_note, {"sop_instance_uid": sop_instance_uid}, {"at": now, **values})


def unread(tx: Connection, limit: int = 50) -> list[dict[str, Any]]:
    query = select(rejection_note).where(rejection_note.c.state == "unread").order_by(rejection_note.c.id)
    return [dict(r) for r in tx.execute(query.limit(limit)).mappings()]


def find(tx: Connection, sop_instance_uid: str) -> dict[str, Any] | None:
    query = select(rejection_note).where(rejection_note.c.sop_instance_uid == sop_instance_uid)
    row = tx.execute(query).mappings().first()
    return dict(row) if row else None


def reread(tx: Connection, note_id: int, said_by: str) -> None:
    """A note that was passed over is unread again, as the word of another sender."""
    of = update(rejection_note).where(rejection_note.c.id == note_id, rejection_note.c.state == "none")
    tx.execute(of.values(state="unread", said_by=said_by))


def settle(tx: Connection, note_id: int, **values: Any) -> bool:
    """An unread note becomes what it is; False when somebody else was faster."""
    of = update(rejection_note).where(rejection_note.c.id == note_id, rejection_note.c.state == "unread")
    return tx.execute(of.values(**values)).rowcount == 1


def reject(tx: Connection, note_id: int, uids: Collection[str]) -> None:
    for uid in sorted(uids):
        upsert(tx, rejected_instance, {"note_id": note_id, "sop_instance_uid": uid}, {}, replace=False)


def replace(tx: Connection, uids: Collection[str], study_instance_uid: str) -> frozenset[str]:
    """Live notes of this study among these documents count no more; the instances that they named."""
    found: set[str] = set()
    for part in _parts(uids):
        notes = tx.execute(
            update(rejection_note)
            .where(
                rejection_note.c.sop_instance_uid.in_(part),
                rejection_note.c.study_instance_uid == study_instance_uid,
                rejection_note.c.state == "live",
            )
            .values(state="replaced")
            .returning(rejection_note.c.id)
        ).scalars()
        named = select(rejected_instance.c.sop_instance_uid)
        found |= set(tx.execute(named.where(rejected_instance.c.note_id.in_(list(notes)))).scalars())
    return frozenset(found)


def reasons(tx: Connection, uids: Collection[str], study_instance_uid: str) -> dict[str, str]:
    """{SOP Instance UID: the reason that counts} of those among `uids` that live notes of their study name."""
    found: dict[str, list[str]] = {}
    for part in _parts(uids):
        rows = tx.execute(
            select(rejected_instance.c.sop_instance_uid, rejection_note.c.reason)
            .join(rejection_note, rejection_note.c.id == rejected_instance.c.note_id)
            .where(
                rejected_instance.c.sop_instance_uid.in_(part),
                rejection_note.c.study_instance_uid == study_instance_uid,
                rejection_note.c.state == "live",
            )
        )
        for uid, reason in rows:
            found.setdefault(uid, []).append(reason)
    return {uid: heaviest(said) for uid, said in found.items()}


def mark(tx: Connection, uids: Collection[str], study_instance_uid: str) -> dict[int, set[str]]:
    """Give the instances that are here what the live notes say of them; {series id: UIDs that changed}."""
    said = reasons(tx, uids, study_instance_uid)
    changed: dict[int, set[str]] = {}
    for part in _parts(uids):
        rows = tx.execute(
            select(instance.c.id, instance.c.series_id, instance.c.sop_instance_uid, instance.c.rejected)
            .join(series, series.c.id == instance.c.series_id)
            .join(study, study.c.id == series.c.study_id)
            .where(instance.c.sop_instance_uid.in_(part), study.c.study_instance_uid == study_instance_uid)
        ).all()
        for row in rows:
            new = said.get(row.sop_instance_uid, "")
            if new != row.rejected:
                tx.execute(update(instance).where(instance.c.id == row.id).values(rejected=new))
                changed.setdefault(row.series_id, set()).add(row.sop_instance_uid)
    return changed


def reopen(tx: Connection, series_id: int, now: datetime) -> int:
    """The series is no longer what its runs have seen: it is judged and read anew. How often that was."""
    query = (
        update(series)
        .where(series.c.id == series_id)
        .values(state="receiving", complete_because="", judge_at=now, changes=series.c.changes + 1)
    )
    return int(tx.execute(query.returning(series.c.changes)).scalar_one())


def supersede_runs(tx: Connection, series_id: int, uids: Collection[str], now: datetime) -> list[int]:
    """End every run, shadow or not, that has looked at one of these instances; their ids."""
    rows = tx.execute(
        select(run.c.id, run.c.sop_instance_uids).where(
            run.c.series_id == series_id, run.c.state != RunState.SUPERSEDED.value
        )
    ).all()
    touched = [int(r.id) for r in rows if not set(uids).isdisjoint(r.sop_instance_uids)]
    runs.supersede(tx, touched, now)
    return touched


def counts(tx: Connection, study_id: int, not_read: Collection[str]) -> tuple[int, int]:
    """(instances in use, rejected ones) of a study, those of the modalities `not_read` left out"""
    row = tx.execute(
        select(func.count(), func.coalesce(func.sum(case((instance.c.rejected == "", 1), else_=0)), 0))
        .select_from(instance)
        .join(series, series.c.id == instance.c.series_id)
        .where(series.c.study_id == study_id, series.c.modality.not_in(sorted(not_read)))
    ).one()
    return int(row[1]), int(row[0]) - int(row[1])


def _parts(uids: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(uids)
    for start in range(0, len(ordered), _PART):
        yield ordered[start : start + _PART]
