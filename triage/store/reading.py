"""What readers leave behind and what their pages ask for beside the list: feedback, hand-over, outputs, priors, feed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, case, delete, func, insert, literal_column, or_, select, update

from triage.domain.dispatch import DispatchState, fold
from triage.domain.rejection import VIEWABLE
from triage.store import alerts, dispatches
from triage.store.schema import (
    alert,
    claim,
    delivery,
    event,
    feedback,
    instance,
    output,
    release,
    run,
    series,
    study,
    worklist_item,
)
from triage.store.worklist import waiting

READ_TAB = timedelta(hours=48)  # how long a read study stands under its tab
INFLOW_IMAGES = 100_000  # newest images that tell how fast the disk fills

# --- feedback ------------------------------------------------------------------------------------------------


def add_feedback(
    tx: Connection, study_id: int, reader: str, verdict: str, now: datetime, **values: Any
) -> int:
    """values  run_id, finding, chip, text"""
    statement = insert(feedback).values(study_id=study_id, reader=reader, verdict=verdict, at=now, **values)
    return int(tx.execute(statement.returning(feedback.c.id)).scalar_one())


def last_feedback(tx: Connection, study_id: int, reader: str) -> dict[str, Any] | None:
    """A reader's newest word on a study that was not taken back."""
    row = (
        tx.execute(
            select(feedback)
            .where(
                feedback.c.study_id == study_id,
                feedback.c.reader == reader,
                feedback.c.withdrawn_at.is_(None),
            )
            .order_by(feedback.c.id.desc())
            .limit(1)
        )
        .mappings()
        .first()
    )
    return dict(row) if row else None


def withdraw_feedback(tx: Connection, feedback_id: int, now: datetime) -> None:
    tx.execute(
        update(feedback)
        .where(feedback.c.id == feedback_id, feedback.c.withdrawn_at.is_(None))
        .values(withdrawn_at=now)
    )


def feedback_of(tx: Connection, study_id: int) -> list[dict[str, Any]]:
    query = select(feedback).where(feedback.c.study_id == study_id).order_by(feedback.c.id)
    return [dict(r) for r in tx.execute(query).mappings()]


# --- claims and alerts ---------------------------------------------------------------------------------------


def study_uid_of_item(tx: Connection, item_id: int) -> str:
    query = select(study.c.study_instance_uid).join(worklist_item, worklist_item.c.study_id == study.c.id)
    return str(tx.execute(query.where(worklist_item.c.id == item_id)).scalar_one())


def end_claim(tx: Connection, item_id: int) -> None:
    """Whoever holds it: the study was reported."""
    tx.execute(delete(claim).where(claim.c.worklist_item_id == item_id))


def assign_alert(tx: Connection, alert_id: int, to: str, states: Sequence[str]) -> bool:
    """False when the alert is no longer in one of `states`."""
    return (
        tx.execute(
            update(alert)
            .where(alert.c.id == alert_id, alert.c.state.in_(list(states)))
            .values(assigned_to=to, version=alert.c.version + 1)
        ).rowcount
        == 1
    )


def hide_alert_until(tx: Connection, alert_id: int, until: datetime) -> bool:
    """Once in the life of an open alert; False the second time."""
    return (
        tx.execute(
            update(alert)
            .where(alert.c.id == alert_id, alert.c.state == "open", alert.c.later_until.is_(None))
            .values(later_until=until, version=alert.c.version + 1)
        ).rowcount
        == 1
    )


# --- one study -----------------------------------------------------------------------------------------------


def outputs_of(tx: Connection, study_id: int) -> list[dict[str, Any]]:
    """DICOM objects that we made of a study's runs, with how far each is at which peer."""
    query = (
        select(output)
        .join(run, run.c.id == output.c.run_id)
        .where(run.c.study_id == study_id)
        .order_by(output.c.id)
    )
    rows = [dict(r) for r in tx.execute(query).mappings()]
    sent = dispatches.of_outputs(tx, [r["id"] for r in rows])
    for r in rows:
        r["destinations"] = sent[r["id"]]
        r["state"] = fold(r["state"], [DispatchState(d["state"]) for d in sent[r["id"]]])
    return rows


def senders(tx: Connection, study_ids: Sequence[int]) -> dict[int, str]:
    """{study id: calling AE title of its newest series}."""
    found: dict[int, str] = {}
    for start in range(0, len(study_ids), 500):
        part = list(study_ids[start : start + 500])
        query = select(series.c.study_id, series.c.calling_ae_title).where(series.c.study_id.in_(part))
        found.update({i: title for i, title in tx.execute(query.order_by(series.c.id)) if title})
    return found


def priors(tx: Connection, study_id: int, limit: int = 20) -> list[dict[str, Any]]:
    """Other studies of the same patient, newest first, with what was flagged in them."""
    this = select(study.c.patient_id).where(study.c.id == study_id).scalar_subquery()
    rows = tx.execute(
        select(
            study.c.study_instance_uid, study.c.study_description, study.c.acquired_at, study.c.first_received_at,
            worklist_item.c.modality, worklist_item.c.ai_status, worklist_item.c.reasons, worklist_item.c.state,
        )
        .outerjoin(worklist_item, worklist_item.c.study_id == study.c.id)
        .where(study.c.patient_id == this, study.c.id != study_id, study.c.constancy.is_(False))
        .order_by(func.coalesce(study.c.acquired_at, study.c.first_received_at).desc())
        .limit(limit)
    )  # fmt: skip
    return [dict(r) for r in rows.mappings()]


def preview_rows(tx: Connection, study_id: int) -> list[dict[str, Any]]:
    """Instances of a study that hold pixels a person can look at: header, digest, series; oldest first."""
    query = (
        select(instance.c.header, instance.c.digest, instance.c.series_id, series.c.modality)
        .join(series, series.c.id == instance.c.series_id)
        .where(series.c.study_id == study_id, instance.c.wanted, instance.c.rejected.in_(VIEWABLE))
        .order_by(instance.c.id)
    )
    return [dict(r) for r in tx.execute(query).mappings()]


# --- the feed and the figures --------------------------------------------------------------------------------


def feed(tx: Connection, after: int, limit: int = 501) -> list[dict[str, Any]]:
    """Changes after this event id with the study's UID; what constancy studies do is not told to readers."""
    rows = tx.execute(
        select(event, study.c.study_instance_uid)
        .outerjoin(study, study.c.id == event.c.study_id)
        .where(event.c.id > after, or_(study.c.id.is_(None), study.c.constancy.is_(False)))
        .order_by(event.c.id)
        .limit(limit)
    )
    return [dict(r) for r in rows.mappings()]


def oldest_event_id(tx: Connection) -> int | None:
    oldest: int | None = tx.execute(select(func.min(event.c.id))).scalar_one()
    return oldest


def figures(tx: Connection) -> dict[str, Any]:
    """Counts from rows for `/metrics`; no patient in them.

    {"studies", "runs": {(detector, state): n}, "queue": {queue: n}, "alerts": {state: n},
     "deliveries": {(route, state): n}, "worklist": {(state, class): n}, "oldest_waiting_at", "oldest_requested_at"}
    """
    seen = study.c.constancy.is_(False)
    w = worklist_item.c
    runs = tx.execute(
        select(release.c.detector, run.c.state, func.count())
        .join(release, release.c.id == run.c.release_id)
        .group_by(release.c.detector, run.c.state)
    )
    queue = select(run.c.queue, func.count()).where(run.c.state == "requested").group_by(run.c.queue)
    deliveries = select(delivery.c.route, delivery.c.state, func.count()).group_by(
        delivery.c.route, delivery.c.state
    )
    alarms = select(alert.c.state, func.count()).where(~alert.c.drill).group_by(alert.c.state)
    items = (
        select(w.state, w.priority_class, func.count())
        .join(study, study.c.id == w.study_id)
        .where(seen)
        .group_by(w.state, w.priority_class)
    )
    return {
        "studies": tx.execute(select(func.count()).select_from(study).where(seen)).scalar_one(),
        "runs": {(d, s): n for d, s, n in runs},
        "queue": {q: n for q, n in tx.execute(queue)},  # noqa: C416 - rows, not pairs
        "alerts": {s: n for s, n in tx.execute(alarms)},  # noqa: C416
        "deliveries": {(r, s): n for r, s, n in tx.execute(deliveries)},
        "worklist": {(s, c): n for s, c, n in tx.execute(items)},
        "oldest_waiting_at": oldest_waiting(tx),
        "oldest_requested_at": tx.execute(
            select(func.min(run.c.requested_at)).where(run.c.state == "requested")
        ).scalar_one(),
    }


def oldest_waiting(tx: Connection) -> datetime | None:
    """Arrival of the study that has waited longest to be read."""
    w = worklist_item.c
    query = select(func.min(w.arrived_at)).where(waiting(), w.state != "arriving")
    oldest: datetime | None = tx.execute(query).scalar_one()
    return oldest


def last_image(tx: Connection) -> tuple[datetime, str] | None:
    """When the newest image came, and from which AE title."""
    query = (
        select(series.c.last_instance_at, series.c.calling_ae_title)
        .join(study, study.c.id == series.c.study_id)
        .where(study.c.constancy.is_(False))
        .order_by(series.c.last_instance_at.desc())
        .limit(1)
    )
    row = tx.execute(query).first()
    return (row[0], row[1]) if row else None


def bytes_a_day(tx: Connection, since: datetime, now: datetime) -> float:
    """Received a day since then; where more than INFLOW_IMAGES came, over the time of the newest so many.

    By number and not by time: an index on the time of every image would cost each of them a write.
    """
    newest = (
        select(instance.c.received_at, instance.c.size_bytes)
        .order_by(instance.c.id.desc())
        .limit(INFLOW_IMAGES)
    )
    image = newest.subquery().c
    query = select(func.sum(image.size_bytes), func.count(), func.min(image.received_at)).where(
        image.received_at >= since
    )
    total, count, oldest = tx.execute(query).one()
    if not count:
        return 0.0
    begin = oldest if count == INFLOW_IMAGES else since
    return int(total) / max((now - begin) / timedelta(days=1), 1 / 24)


def analysis_seconds(tx: Connection, since: datetime, limit: int = 2000) -> list[float]:
    """From asking for an analysis to its end, of those of the newest `limit` that ended since then."""
    newest = (
        select(run.c.state, run.c.requested_at, run.c.finished_at)
        .order_by(run.c.id.desc())
        .limit(limit)
        .subquery()
    )
    query = select(newest.c.requested_at, newest.c.finished_at).where(
        newest.c.state == "completed", newest.c.finished_at >= since
    )
    return [(ended - asked).total_seconds() for asked, ended in tx.execute(query).tuples()]


def names(tx: Connection, column: str) -> list[str]:
    """Values that a coded filter offers: "modality", "location", "site" or "sender"."""
    source = {
        "modality": worklist_item.c.modality,
        "location": worklist_item.c.location,
        "site": study.c.site,
        "sender": series.c.calling_ae_title,
    }[column]
    source_tables = worklist_item.join(study, study.c.id == worklist_item.c.study_id)
    if column == "sender":
        source_tables = source_tables.join(series, series.c.study_id == study.c.id)
    query = (
        select(source)
        .distinct()
        .select_from(source_tables)
        .where(study.c.constancy.is_(False), source != "", worklist_item.c.state != "withdrawn")
        .order_by(source)
        .limit(100)
    )
    return list(tx.execute(query).scalars())


def tab_counts(tx: Connection, now: datetime) -> dict[str, int]:
    """How many studies each tab of the list holds, but for each reader's own (`open_claims`); the closed ones are
    counted up to 1000 (index worklist_item_read)."""
    w = worklist_item.c
    row = tx.execute(
        select(
            func.count(),
            func.count(case((w.state == "arriving", 1))),
            func.count(case((w.ai_status == "not_analysed", 1))),
        ).where(waiting())
    ).one()
    alarmed = (
        select(func.count(func.distinct(alert.c.study_id)))
        .join(study, study.c.id == alert.c.study_id)
        .where(alert.c.state.in_(("open", "exhausted")), alerts.is_alive(), study.c.constancy.is_(False))
    )
    read = (
        select(w.id)
        .where(w.constancy.is_(False), w.state == literal_column("'read'"), w.read_at >= now - READ_TAB)
        .limit(1000)
        .subquery()
    )
    closed = int(tx.execute(select(func.count()).select_from(read)).scalar_one())
    return {
        "to_read": row[0],
        "not_ready": row[1],
        "not_analysed": row[2],
        "alerts": int(tx.execute(alarmed).scalar_one()),
        "read": closed,
        "all": row[0] + closed,
    }


def open_claims(tx: Connection, now: datetime) -> dict[str, int]:
    """{reader: how many open studies he holds}"""
    query = (
        select(claim.c.reader, func.count())
        .join(worklist_item, worklist_item.c.id == claim.c.worklist_item_id)
        .where(claim.c.expires_at > now, waiting())
        .group_by(claim.c.reader)
    )
    return {reader: int(count) for reader, count in tx.execute(query)}
