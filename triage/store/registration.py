"""An object on its way into the index: unique keys, insert-or-get, never overwrite (P3, I3)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite

from triage.domain.study import InstanceHeader
from triage.store import completeness, evidence, identity, rejections
from triage.store.schema import instance, patient, quarantine, series, study
from triage.store.upsert import insert_or_get, upsert


class Arrived(StrEnum):
    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"  # same UID with other bytes: the first stays, the second is quarantined
    OTHER_PATIENT = "other_patient"  # the study is held under another patient: quarantined


@dataclass(frozen=True)
class Registered:
    """series_id and instance_id: of what is held under this UID; 0 for an object of another patient."""

    arrived: Arrived
    study_id: int
    series_id: int
    instance_id: int
    reopened: bool = False  # the series was not receiving before: new, or late images came
    rejected: bool = False  # a rejection note came before the object: it is kept and not used


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One durable object on its way into the index."""

    header: InstanceHeader
    digest: str
    size_bytes: int
    calling_ae_title: str
    association_id: str
    wanted: bool
    constancy: bool
    acquired_at: datetime | None


def register(
    tx: Connection, arrival: Arrival, site: str, quiet_seconds: float, now: datetime, issuer: str = ""
) -> Registered:
    """Index one object. Twice is once; a contradiction is kept aside and said.

    quiet_seconds  no rule of completeness without a count says yes sooner: the series is looked at again then
    issuer         who assigned the patient id of an object that does not say
    """
    h = arrival.header
    patient_id, _ = insert_or_get(
        tx,
        patient,
        {"patient_id": h.patient_id[:64], "issuer_of_patient_id": (h.issuer_of_patient_id or issuer)[:64]},
        {
            "patient_name": h.patient_name[:400],
            "patient_birth_date": h.patient_birth_date[:8],
            "patient_sex": h.patient_sex[:16],
        },
    )
    study_id, begins = insert_or_get(
        tx, study, {"study_instance_uid": h.study_instance_uid}, _study_values(arrival, patient_id, site, now)
    )
    if not (_begin(tx, study_id, patient_id, h) if begins else _is_of(tx, study_id, patient_id)):
        _set_aside(tx, arrival, None, Arrived.OTHER_PATIENT, now)
        return Registered(Arrived.OTHER_PATIENT, study_id, 0, 0)
    held = _find_instance(tx, h.sop_instance_uid)
    if held is None:
        # Only now: an object that is kept aside must not leave an empty series for which its study waits for ever.
        series_id, fresh = insert_or_get(
            tx,
            series,
            {"series_instance_uid": h.series_instance_uid, "study_id": study_id},
            _series_values(arrival, now),
        )
        if fresh and (listed := evidence.listed(tx, h.series_instance_uid)) is not None:
            completeness.set_expected_count(tx, h.series_instance_uid, len(listed), now)
        _, inserted = insert_or_get(
            tx, instance, {"sop_instance_uid": h.sop_instance_uid}, _instance_values(arrival, series_id, now)
        )
        held = _find_instance(tx, h.sop_instance_uid)  # ours, or that of a sender who was faster
        assert held is not None
        if inserted:
            reopened = _touch(tx, arrival, study_id, series_id, quiet_seconds, now)
            rejected = bool(rejections.mark(tx, (h.sop_instance_uid,), h.study_instance_uid))
            return Registered(Arrived.NEW, study_id, series_id, held.id, reopened, rejected)
    if held.digest == arrival.digest:
        return Registered(Arrived.DUPLICATE, study_id, held.series_id, held.id)
    _set_aside(tx, arrival, held.id, Arrived.CONFLICT, now)
    return Registered(Arrived.CONFLICT, study_id, held.series_id, held.id)


def _begin(tx: Connection, study_id: int, patient_id: int, h: InstanceHeader) -> bool:
    """A new study stands at once where merges and moves heard before its images put it."""
    moved_to, accession = identity.moved_to(tx, h.study_instance_uid)
    own = moved_to or patient_id
    if accession is not None or own != patient_id or identity.survivor(tx, own) != own:
        identity.place(tx, study_id, own, accession)
    return True


def _is_of(tx: Connection, study_id: int, patient_id: int) -> bool:
    """Is a late object of this patient one of this study? Also when the study was moved or the patient merged since."""
    held = tx.execute(select(study.c.patient_id).where(study.c.id == study_id)).scalar_one()
    if held == patient_id:
        return True
    survivor, sent = identity.survivor(tx, patient_id), identity.sent_as(tx, study_id)
    return held == survivor or (sent is not None and survivor == identity.survivor(tx, sent))


def register_siblings(
    tx: Connection, arrivals: list[Arrival], first: Registered, quiet_seconds: float, now: datetime
) -> set[str]:
    """Index further objects of a series that has just taken one, all at once; SOP Instance UIDs of those that are new.

    The others are held already: `register` says what that means.
    """
    insert_many = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    rows = [
        {"sop_instance_uid": a.header.sop_instance_uid, **_instance_values(a, first.series_id, now)}
        for a in arrivals
    ]
    statement = insert_many(instance).on_conflict_do_nothing(index_elements=["sop_instance_uid"])
    inserted = set(tx.execute(statement.returning(instance.c.sop_instance_uid), rows).scalars())
    if inserted:
        _touch(tx, arrivals[-1], first.study_id, first.series_id, quiet_seconds, now, count=len(inserted))
        rejections.mark(tx, inserted, arrivals[-1].header.study_instance_uid)
    return inserted


def is_held(tx: Connection, digest: str) -> bool:
    """Do we hold an object of this content, as an instance or kept aside?"""
    held_as_instance = select(instance.c.id).where(instance.c.digest == digest)
    kept_aside = select(quarantine.c.id).where(quarantine.c.digest == digest)
    return any(tx.execute(query.limit(1)).first() for query in (held_as_instance, kept_aside))


def _find_instance(tx: Connection, sop_instance_uid: str) -> Any:
    columns = (instance.c.id, instance.c.series_id, instance.c.digest)
    return tx.execute(select(*columns).where(instance.c.sop_instance_uid == sop_instance_uid)).first()


def _study_values(arrival: Arrival, patient_id: int, site: str, now: datetime) -> dict[str, Any]:
    h = arrival.header
    return {
        "patient_id": patient_id,
        "accession_number": h.accession_number[:64],
        "study_description": h.study_description[:200],
        "referring_physician_name": h.referring_physician_name[:400],
        "acquired_at": arrival.acquired_at,
        "timezone_offset": h.timezone_offset[:8],
        "patient_age_years": h.patient_age_years,
        "site": site,
        "first_received_at": now,
        "last_received_at": now,
        "constancy": arrival.constancy,
    }


def _series_values(arrival: Arrival, now: datetime) -> dict[str, Any]:
    h = arrival.header
    return {
        "modality": h.modality[:16],
        "series_number": h.series_number,
        "series_description": h.series_description[:200],
        "body_part_examined": h.body_part_examined[:64],
        "calling_ae_title": arrival.calling_ae_title[:16],
        "first_instance_at": now,
        "last_instance_at": now,
    }


def _instance_values(arrival: Arrival, series_id: int, now: datetime) -> dict[str, Any]:
    h = arrival.header
    return {
        "series_id": series_id,
        "sop_class_uid": h.sop_class_uid,
        "transfer_syntax_uid": h.transfer_syntax_uid,
        "digest": arrival.digest,
        "size_bytes": arrival.size_bytes,
        "received_at": now,
        "wanted": arrival.wanted,
        "header": vars(h),  # values alone: no copy in depth
    }


def _touch(
    tx: Connection,
    arrival: Arrival,
    study_id: int,
    series_id: int,
    quiet_seconds: float,
    now: datetime,
    count: int = 1,
) -> bool:
    was = tx.execute(
        select(series.c.state, series.c.instance_count, series.c.expected_count).where(
            series.c.id == series_id
        )
    ).one()
    counted = was.expected_count is not None and was.instance_count + count >= was.expected_count
    tx.execute(
        update(series)
        .where(series.c.id == series_id)
        .values(
            instance_count=series.c.instance_count + count,
            last_instance_at=now,
            state="receiving",
            complete_because="",
            # The hard limit counts from the first object of this arrival: late slices get a wait of their own.
            first_instance_at=now if was.state == "complete" else series.c.first_instance_at,
            open_association=arrival.association_id,
            association_aborted=False,
            judge_at=now if counted else now + timedelta(seconds=quiet_seconds),
        )
    )
    tx.execute(update(study).where(study.c.id == study_id).values(last_received_at=now))
    return bool(was.state == "complete" or was.instance_count == 0)


def _set_aside(
    tx: Connection, arrival: Arrival, instance_id: int | None, why: Arrived, now: datetime
) -> None:
    upsert(
        tx,
        quarantine,
        {"sop_instance_uid": arrival.header.sop_instance_uid, "digest": arrival.digest},
        {
            "instance_id": instance_id,
            "reason": why.value,
            "calling_ae_title": arrival.calling_ae_title[:16],
            "at": now,
        },
        replace=False,
    )
