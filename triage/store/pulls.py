"""How far an archive was asked, which of its series are wanted, and which studies are priors."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, update

from triage.store.schema import prior_study, pull_cursor, pull_series, study
from triage.store.upsert import insert_or_get, upsert


def cursor(tx: Connection, source: str) -> datetime | None:
    query = select(pull_cursor.c.asked_at).where(pull_cursor.c.source == source)
    return tx.execute(query).scalar_one_or_none()


def move_cursor(tx: Connection, source: str, asked_at: datetime) -> None:
    upsert(tx, pull_cursor, {"source": source}, {"asked_at": asked_at})


def want(
    tx: Connection, source: str, study_instance_uid: str, series_instance_uid: str, now: datetime, *,
    modality: str, instances: int, prior: bool,
) -> bool:  # fmt: skip
    """Note a series that the archive has; True when it is to be fetched: new, or it has grown since."""
    values = {
        "study_instance_uid": study_instance_uid, "modality": modality[:16], "instances": instances, "prior": prior,
        "next_attempt_at": now,
    }  # fmt: skip
    key = {"source": source, "series_instance_uid": series_instance_uid}
    row_id, new = insert_or_get(tx, pull_series, key, values)
    if new:
        return True
    grown = tx.execute(
        update(pull_series)
        .where(
            pull_series.c.id == row_id,
            pull_series.c.state != "wanted",
            pull_series.c.instances < instances,
        )
        .values(instances=instances, state="wanted", attempts=0, next_attempt_at=now)
    )
    return grown.rowcount == 1


def wanted(tx: Connection, source: str, now: datetime, limit: int = 50) -> list[dict[str, Any]]:
    """What is to be fetched now, new before prior, oldest first."""
    query = (
        select(pull_series)
        .where(
            pull_series.c.source == source,
            pull_series.c.state == "wanted",
            pull_series.c.next_attempt_at <= now,
        )
        .order_by(pull_series.c.prior, pull_series.c.id)
        .limit(limit)
    )
    return [dict(r) for r in tx.execute(query).mappings()]


def fetched(tx: Connection, row_id: int, instances: int, now: datetime) -> None:
    """Of a series that is done `next_attempt_at` is when that was."""
    tx.execute(
        update(pull_series)
        .where(pull_series.c.id == row_id)
        .values(state="done", fetched=instances, detail="", next_attempt_at=now)
    )


def not_fetched(tx: Connection, row_id: int, detail: str, again_at: datetime | None) -> None:
    """again_at  None: given up, until the archive says that it has more"""
    values: dict[str, Any] = {"attempts": pull_series.c.attempts + 1, "detail": detail[:400]}
    values |= {"state": "failed"} if again_at is None else {"next_attempt_at": again_at}
    tx.execute(update(pull_series).where(pull_series.c.id == row_id).values(**values))


def mark_prior(tx: Connection, study_instance_uid: str, now: datetime) -> bool:
    """Before its first object comes; False when we have the study already, then it stays what it is."""
    held = select(study.c.id).where(study.c.study_instance_uid == study_instance_uid)
    if tx.execute(held).first() is not None:
        return is_prior(tx, study_instance_uid)
    insert = upsert(
        tx, prior_study, {"study_instance_uid": study_instance_uid}, {"marked_at": now}, replace=False
    )
    return insert or is_prior(tx, study_instance_uid)


def is_prior(tx: Connection, study_instance_uid: str) -> bool:
    query = select(prior_study.c.study_instance_uid)
    return tx.execute(query.where(prior_study.c.study_instance_uid == study_instance_uid)).first() is not None


def failing(tx: Connection, source: str, since: datetime) -> list[dict[str, Any]]:
    """Series that an archive does not give: tried again, or given up since then; the latest first, at most 100."""
    c = pull_series.c
    again = and_(c.state == "wanted", c.attempts > 0)
    query = select(pull_series).where(
        c.source == source, or_(again, and_(c.state == "failed", c.next_attempt_at > since))
    )
    query = query.order_by(c.next_attempt_at.desc(), c.id.desc()).limit(100)
    return [dict(r) for r in tx.execute(query).mappings()]


def given_up(tx: Connection, sources: Collection[str]) -> dict[str, int]:
    """{archive: series that it did not give and is not asked for any more}"""
    c = pull_series.c
    query = select(c.source, func.count()).where(c.state == "failed", c.source.in_(sorted(sources)))
    query = query.group_by(c.source).order_by(c.source)
    return dict(tx.execute(query).tuples().all())


def ask_again(tx: Connection, source: str, now: datetime) -> int:
    """Series that were given up are wanted as on the first day; returns how many."""
    of = (pull_series.c.source == source, pull_series.c.state == "failed")
    again = {"state": "wanted", "attempts": 0, "next_attempt_at": now}
    return int(tx.execute(update(pull_series).where(*of).values(**again)).rowcount)


def any_fetched(tx: Connection, source: str, since: datetime) -> bool:
    """Has the archive given a series since then?"""
    query = select(pull_series.c.id).where(
        pull_series.c.source == source, pull_series.c.state == "done", pull_series.c.next_attempt_at > since
    )
    return tx.execute(query.limit(1)).first() is not None
