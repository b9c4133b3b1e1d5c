"""Deliveries of alerts on their routes, the attempts made, and the links they carried."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    and_,
    func,
    insert,
    or_,
    select,
    update,
)

from triage.domain.alerting import DeliveryState, MessageKind
from triage.store.schema import alert, delivery, delivery_attempt, route, study
from triage.store.upsert import insert_or_get, upsert

_result = delivery.alias("result")  # made once: the relay asks five times a second and route


def sync_routes(tx: Connection, routes: Sequence[tuple[str, str]]) -> None:
    """Make the rows of (name, kind) as configured; a route no longer configured is disabled, not removed."""
    for name, kind in routes:
        upsert(tx, route, {"name": name}, {"kind": kind, "enabled": True})
    tx.execute(update(route).where(route.c.name.not_in([n for n, _ in routes])).values(enabled=False))


def park_disabled(tx: Connection, detail: str) -> list[dict[str, Any]]:
    """Park what waits for routes that are disabled; operators of such a route are told nothing more either."""
    gone = select(route.c.name).where(route.c.enabled.is_(False))
    rows = tx.execute(
        update(delivery)
        .where(delivery.c.state == DeliveryState.WAITING.value, delivery.c.route.in_(gone))
        .values(state=DeliveryState.PARKED.value, detail=detail)
        .returning(delivery)
    )
    return [dict(r) for r in rows.mappings()]


def add(
    tx: Connection,
    alert_id: int,
    route_name: str,
    rung: int,
    kind: MessageKind,
    control_id: str,
    now: datetime,
    told_as: dict[str, Any] | None = None,
    recipient: str = "",
) -> bool:
    """One delivery for (alert, route, rung, kind); False when it is there already.

    told_as  identity that the peer knows the study by, where the rows have a newer one
    """
    _, inserted = insert_or_get(
        tx,
        delivery,
        {"alert_id": alert_id, "route": route_name, "rung": rung, "kind": kind.value, "replay": 0},
        {
            "control_id": control_id,
            "created_at": now,
            "next_attempt_at": now,
            "told_as": told_as,
            "recipient": recipient,
        },
    )
    return inserted


def corrections(tx: Connection, alert_id: int, route_name: str) -> tuple[int, bool]:
    """(how many corrections this route has for this alert, is the last one still to be built)."""
    rows = tx.execute(
        select(delivery.c.payload, delivery.c.state)
        .where(
            delivery.c.alert_id == alert_id,
            delivery.c.route == route_name,
            delivery.c.kind == MessageKind.CORRECTION.value,
        )
        .order_by(delivery.c.rung)
    ).all()
    waits = bool(rows) and rows[-1].payload is None and rows[-1].state == DeliveryState.WAITING.value
    return len(rows), waits


def due(tx: Connection, route_name: str, now: datetime) -> dict[str, Any] | None:
    """The oldest delivery of a route whose time has come; a withdrawal never overtakes its result."""
    overtaken = (
        select(_result.c.id)
        .where(
            _result.c.alert_id == delivery.c.alert_id,
            _result.c.route == delivery.c.route,
            _result.c.kind == MessageKind.RESULT.value,
            _result.c.state == DeliveryState.WAITING.value,
        )
        .exists()
    )
    row = (
        tx.execute(
            select(delivery)
            .where(
                delivery.c.route == route_name,
                delivery.c.state == DeliveryState.WAITING.value,
                delivery.c.next_attempt_at <= now,
                or_(delivery.c.kind == MessageKind.RESULT.value, ~overtaken),
            )
            .order_by(delivery.c.next_attempt_at, delivery.c.id)
            .limit(1)
        )
        .mappings()
        .first()
    )
    return dict(row) if row else None


def keep_payload(tx: Connection, delivery_id: int, payload: bytes) -> bool:
    """False when the delivery was cancelled meanwhile: what is not stored must not be sent."""
    return (
        tx.execute(
            update(delivery)
            .where(
                delivery.c.id == delivery_id,
                delivery.c.payload.is_(None),
                delivery.c.state == DeliveryState.WAITING.value,
            )
            .values(payload=payload)
        ).rowcount
        == 1
    )


def keep_link(tx: Connection, delivery_id: int, digest: str) -> None:
    tx.execute(update(delivery).where(delivery.c.id == delivery_id).values(link_digest=digest))


def find_link(tx: Connection, digest: str) -> dict[str, Any] | None:
    """The delivery whose message holds this link."""
    row = tx.execute(select(delivery).where(delivery.c.link_digest == digest)).mappings().first()
    return dict(row) if row else None


def use_link(tx: Connection, delivery_id: int, now: datetime) -> bool:
    """False when it was used before."""
    unused = (delivery.c.id == delivery_id, delivery.c.link_used_at.is_(None))
    return tx.execute(update(delivery).where(*unused).values(link_used_at=now)).rowcount == 1


def record_attempt(
    tx: Connection, delivery_id: int, now: datetime, outcome: str, detail: str, state: DeliveryState,
    next_attempt_at: datetime | None,
) -> bool:  # fmt: skip
    """Store an attempt and what follows; False when the delivery ended meanwhile."""
    values: dict[str, Any] = {
        "attempts": delivery.c.attempts + 1,
        "detail": detail[:400],
        "state": state.value,
        "first_attempt_at": func.coalesce(delivery.c.first_attempt_at, now),
    }
    if next_attempt_at is not None:
        values["next_attempt_at"] = next_attempt_at
    if state is DeliveryState.DELIVERED:
        values["delivered_at"] = now
    # What was cancelled on the way and answered after all is delivered: the peer has it.
    allowed = [DeliveryState.WAITING.value] + (
        [DeliveryState.CANCELLED.value] if state is DeliveryState.DELIVERED else []
    )
    changed = tx.execute(
        update(delivery).where(delivery.c.id == delivery_id, delivery.c.state.in_(allowed)).values(**values)
    ).rowcount
    tx.execute(
        insert(delivery_attempt).values(delivery_id=delivery_id, at=now, outcome=outcome, detail=detail[:400])
    )
    return changed == 1


def cancel_waiting(tx: Connection, alert_id: int, kind: MessageKind) -> int:
    """Stop what was not sent yet; what a peer already may have got is not cancelled but completed."""
    return tx.execute(
        update(delivery)
        .where(
            delivery.c.alert_id == alert_id,
            delivery.c.kind == kind.value,
            delivery.c.state == DeliveryState.WAITING.value,
            delivery.c.payload.is_(None),
        )
        .values(state=DeliveryState.CANCELLED.value)
    ).rowcount


def told_routes(tx: Connection, alert_id: int) -> list[str]:
    """Routes whose peer may have the result: those that a withdrawal must reach."""
    rows = tx.execute(
        select(delivery.c.route)
        .where(
            delivery.c.alert_id == alert_id,
            delivery.c.kind == MessageKind.RESULT.value,
            delivery.c.payload.is_not(None),
        )
        .distinct()
        .order_by(delivery.c.route)
    )
    return list(rows.scalars())


def rows(tx: Connection, alert_id: int | None = None) -> list[dict[str, Any]]:
    query = select(delivery).order_by(delivery.c.id)
    if alert_id is not None:
        query = query.where(delivery.c.alert_id == alert_id)
    return [dict(r) for r in tx.execute(query).mappings()]


def oldest_waiting(tx: Connection) -> datetime | None:
    """When the longest undelivered message was made; None when none waits."""
    query = select(func.min(delivery.c.created_at)).where(delivery.c.state == DeliveryState.WAITING.value)
    oldest: datetime | None = tx.execute(query).scalar_one()
    return oldest


def find(tx: Connection, delivery_id: int) -> dict[str, Any] | None:
    """With the numbers of its study, and its attempts."""
    row = tx.execute(_with_study().where(delivery.c.id == delivery_id)).mappings().first()
    return dict(row) if row else None


def attempts_of(tx: Connection, delivery_id: int) -> list[dict[str, Any]]:
    query = select(delivery_attempt).where(delivery_attempt.c.delivery_id == delivery_id)
    return [dict(r) for r in tx.execute(query.order_by(delivery_attempt.c.id)).mappings()]


def listing(
    tx: Connection, *, states: Sequence[str] = (), accession_number: str = "", route_name: str = "",
    before_id: int | None = None, limit: int = 100, stuck: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """Messages out, newest first, of real studies and drills; without their bytes.

    stuck  only what a person may have to look at: tried again and again, or parked and not sent anew since
    """
    conditions = [or_(study.c.constancy.is_(False), alert.c.drill)]
    if states:
        conditions.append(delivery.c.state.in_(list(states)))
    if route_name:
        conditions.append(delivery.c.route == route_name)
    if stuck:
        tried = and_(delivery.c.state == DeliveryState.WAITING.value, delivery.c.attempts > 0)
        conditions.append(
            or_(tried, and_(delivery.c.state == DeliveryState.PARKED.value, ~_sent_anew().exists()))
        )
    if accession_number:
        conditions.append(study.c.accession_number == accession_number)
    if before_id is not None:
        conditions.append(delivery.c.id < before_id)
    rows = tx.execute(_with_study().where(*conditions).order_by(delivery.c.id.desc()).limit(limit))
    return [{k: v for k, v in r.items() if k != "payload"} for r in rows.mappings()]


def _sent_anew() -> Select[Any]:
    """A later replay of the same word over the same route."""
    newer = delivery.alias("newer")
    same = [newer.c[name] == delivery.c[name] for name in ("alert_id", "route", "rung", "kind")]
    return select(newer.c.id).where(*same, newer.c.replay > delivery.c.replay)


def _with_study() -> Select[Any]:
    return (
        select(delivery, route.c.kind.label("channel"), study.c.accession_number, study.c.study_instance_uid, alert.c.drill)
        .join(alert, alert.c.id == delivery.c.alert_id)
        .join(study, study.c.id == alert.c.study_id)
        .join(route, route.c.name == delivery.c.route)
    )  # fmt: skip


def route_enabled(tx: Connection, name: str) -> bool:
    return tx.execute(select(route.c.enabled).where(route.c.name == name)).scalar_one_or_none() is True


def add_replay(tx: Connection, row: dict[str, Any], control_id: str, now: datetime) -> int:
    """A new delivery of the same (alert, route, rung, kind), to be built and sent anew; returns its id."""
    same = (
        delivery.c.alert_id == row["alert_id"], delivery.c.route == row["route"],
        delivery.c.rung == row["rung"], delivery.c.kind == row["kind"],
    )  # fmt: skip
    last = int(tx.execute(select(func.max(delivery.c.replay)).where(*same)).scalar_one())
    values = {name: row[name] for name in ("alert_id", "route", "rung", "kind", "recipient", "told_as")}
    new = insert(delivery).values(
        **values, replay=last + 1, control_id=control_id, created_at=now, next_attempt_at=now
    )
    return int(tx.execute(new.returning(delivery.c.id)).scalar_one())


def park(tx: Connection, delivery_id: int, detail: str) -> bool:
    """False when it does not wait."""
    waits = (delivery.c.id == delivery_id, delivery.c.state == DeliveryState.WAITING.value)
    values = {"state": DeliveryState.PARKED.value, "detail": detail[:400]}
    return tx.execute(update(delivery).where(*waits).values(**values)).rowcount == 1
