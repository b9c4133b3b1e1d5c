"""Subscribers to steps of the reading list: what each wants to hear, and the events that it was not told yet."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from triage.store.schema import subscriber, subscription, workitem_event
from triage.store.upsert import upsert

GLOBAL = "1.2.840.10008.5.1.4.34.5"
FILTERED = "1.2.840.10008.5.1.4.34.5.1"


def add_subscriber(tx: Connection, ae_title: str, owner: str, told_up_to: int, now: datetime) -> str:
    """Whose subscriptions under this AE title are: `owner`, or who had them before."""
    values = {"owner": owner[:80], "told_up_to": told_up_to, "created_at": now}
    upsert(tx, subscriber, {"ae_title": ae_title}, values, replace=False)
    query = select(subscriber.c.owner).where(subscriber.c.ae_title == ae_title)
    return str(tx.execute(query).scalar_one())


def find_subscriber(tx: Connection, ae_title: str) -> dict[str, Any] | None:
    row = tx.execute(select(subscriber).where(subscriber.c.ae_title == ae_title)).mappings().first()
    return dict(row) if row else None


def subscribers(tx: Connection, owners: str) -> list[dict[str, Any]]:
    """Those whose owner begins so."""
    query = select(subscriber).where(subscriber.c.owner.startswith(owners, autoescape=True))
    return [dict(r) for r in tx.execute(query.order_by(subscriber.c.ae_title)).mappings()]


def want(
    tx: Connection,
    ae_title: str,
    workitem_uid: str,
    wanted: bool = True,
    matching: dict[str, Any] | None = None,
) -> None:
    """matching  of the filtered global one: arguments of `workitems.search`"""
    values = {"wanted": wanted, "matching": matching}
    upsert(tx, subscription, {"ae_title": ae_title, "workitem_uid": workitem_uid}, values)


def want_if_undecided(tx: Connection, ae_title: str, workitem_uid: str) -> bool:
    """False when this subscriber has the step already, or expressly not."""
    key = {"ae_title": ae_title, "workitem_uid": workitem_uid}
    return upsert(tx, subscription, key, {"wanted": True}, replace=False)


def filters(tx: Connection) -> list[tuple[str, dict[str, Any]]]:
    """(AE title, what a step must match) of the filtered subscriptions."""
    query = select(subscription.c.ae_title, subscription.c.matching)
    rows = tx.execute(query.where(subscription.c.workitem_uid == FILTERED).order_by(subscription.c.ae_title))
    return [(ae_title, dict(matching)) for ae_title, matching in rows]


def wanted(tx: Connection, ae_title: str, uids: Collection[str] | None = None) -> dict[str, bool]:
    """{UID of a step or of a global one: wanted, or expressly not}

    uids  these alone: a filter collects a row for each step that matched, and its subscriber asks every second
    """
    query = select(subscription.c.workitem_uid, subscription.c.wanted)
    query = query.where(subscription.c.ae_title == ae_title)
    if uids is not None:
        query = query.where(subscription.c.workitem_uid.in_(sorted(uids)))
    return dict(tx.execute(query).tuples().all())


def drop(tx: Connection, ae_title: str, workitem_uid: str) -> None:
    of = (subscription.c.ae_title == ae_title, subscription.c.workitem_uid == workitem_uid)
    tx.execute(delete(subscription).where(*of))


def drop_all(tx: Connection, ae_title: str) -> None:
    tx.execute(delete(subscription).where(subscription.c.ae_title == ae_title))
    tx.execute(delete(subscriber).where(subscriber.c.ae_title == ae_title))


def events_for(
    tx: Connection, ae_title: str, after: int, limit: int = 200
) -> tuple[list[dict[str, Any]], int]:
    """(events that this subscriber is to hear, number of the last that was looked at)"""
    rows = tx.execute(
        select(workitem_event)
        .where(workitem_event.c.id > after, workitem_event.c.receiver.in_(("", ae_title)))
        .order_by(workitem_event.c.id)
        .limit(limit)
    ).mappings()
    new = [dict(r) for r in rows]
    asked = wanted(tx, ae_title, {GLOBAL, *(r["sop_instance_uid"] for r in new)}) if new else {}
    every = asked.get(GLOBAL, False)
    found = [r for r in new if r["receiver"] or asked.get(r["sop_instance_uid"], every)]
    return found, new[-1]["id"] if new else after


def told(tx: Connection, ae_title: str, up_to: int) -> None:
    of = (subscriber.c.ae_title == ae_title, subscriber.c.told_up_to < up_to)
    tx.execute(update(subscriber).where(*of).values(told_up_to=up_to))


def behind(tx: Connection, owners: str) -> list[tuple[str, datetime]]:
    """(AE title, time of the first event that it was not told) of those whose owner begins so."""
    waits = (workitem_event.c.id > subscriber.c.told_up_to) & workitem_event.c.receiver.in_(
        ("", subscriber.c.ae_title)
    )
    query = (
        select(subscriber.c.ae_title, func.min(workitem_event.c.at))
        .join(workitem_event, waits)
        .where(subscriber.c.owner.startswith(owners, autoescape=True))
        .group_by(subscriber.c.ae_title)
        .order_by(subscriber.c.ae_title)
    )
    return [(ae_title, at) for ae_title, at in tx.execute(query).tuples()]
