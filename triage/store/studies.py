"""Patients, studies, series and instances: unique keys, insert-or-get, never overwrite (P3, I3)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, case, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from triage.domain.study import InstanceHeader
from triage.store import evidence, identity, rejections
from triage.store.schema import instance, order, patient, quarantine, run, series, study
from triage.store.upsert import insert_or_get, upsert

_TUPLES = (
    "image_type",
    "patient_orientation",
    "pixel_spacing_mm",
    "image_position_patient",
    "image_orientation_patient",
    "issuer_of_accession_number",
    "window",
)


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


@dataclass(frozen=True)
class Held:
    """One instance of a series as the steps need it."""

    id: int
    digest: str
    header: InstanceHeader
    received_at: datetime
    wanted: bool


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
            set_expected_count(tx, h.series_instance_uid, len(listed), now)
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
        "header": asdict(h),
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


def association_ended(tx: Connection, association_id: str, aborted: bool, now: datetime) -> list[int]:
    """Series that this association was bringing; they are to be judged now."""
    return [
        int(r.id)
        for r in tx.execute(
            update(series)
            .where(series.c.open_association == association_id)
            .values(open_association="", association_aborted=aborted, judge_at=now)
            .returning(series.c.id)
        )
    ]


def forget_associations(tx: Connection, receiver_id: str, now: datetime) -> int:
    """At the start of a receiver: what its predecessor had open ended without release."""
    return tx.execute(
        update(series)
        .where(series.c.open_association.startswith(f"{receiver_id}:", autoescape=True))
        .values(open_association="", association_aborted=True, judge_at=now)
    ).rowcount


def series_to_judge(tx: Connection, now: datetime, limit: int = 200) -> list[int]:
    query = select(series.c.id).where(series.c.judge_at <= now).order_by(series.c.judge_at).limit(limit)
    return [int(r.id) for r in tx.execute(query)]


def get_series(tx: Connection, series_id: int) -> dict[str, Any]:
    query = (
        select(series, study.c.study_instance_uid, study.c.constancy)
        .join(study, study.c.id == series.c.study_id)
        .where(series.c.id == series_id)
    )
    if tx.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE already excludes other writers
        query = query.with_for_update(of=series)
    return dict(tx.execute(query).mappings().one())


def held(tx: Connection, series_id: int, *, rejected: bool = False) -> list[Held]:
    """Current instances of a series, oldest first: those in use, or those that were rejected."""
    which = instance.c.rejected != "" if rejected else instance.c.rejected == ""
    rows = tx.execute(
        select(instance).where(instance.c.series_id == series_id, which).order_by(instance.c.id)
    ).mappings()
    return [
        Held(r["id"], r["digest"], header_from_json(r["header"]), r["received_at"], r["wanted"]) for r in rows
    ]


def held_by_uid(tx: Connection, sop_instance_uids: list[str]) -> list[Held]:
    """Instances in the order of `sop_instance_uids`."""
    found: dict[str, Held] = {}
    for start in range(0, len(sop_instance_uids), 500):
        part = sop_instance_uids[start : start + 500]
        rows = tx.execute(select(instance).where(instance.c.sop_instance_uid.in_(part))).mappings()
        for r in rows:
            found[r["sop_instance_uid"]] = Held(
                r["id"], r["digest"], header_from_json(r["header"]), r["received_at"], r["wanted"]
            )
    return [found[uid] for uid in sop_instance_uids if uid in found]


def settle_series(tx: Connection, series_id: int, because: str) -> None:
    tx.execute(
        update(series)
        .where(series.c.id == series_id)
        .values(state="complete", complete_because=because[:40], judge_at=None)
    )


def look_again(tx: Connection, series_id: int, at: datetime | None) -> None:
    tx.execute(update(series).where(series.c.id == series_id).values(judge_at=at))


def set_expected_count(tx: Connection, series_instance_uid: str, count: int, now: datetime) -> list[int]:
    """Exact evidence: how many instances the archive (or MPPS, IAN) says this series has. Ids of what is to be judged."""
    query = (
        update(series)
        .where(series.c.series_instance_uid == series_instance_uid)
        .values(expected_count=count, judge_at=now)
    )
    return list(tx.execute(query.returning(series.c.id)).scalars())


@dataclass(frozen=True)
class Uncounted:
    """A CT series whose number of instances nobody has said yet."""

    study_instance_uid: str
    series_instance_uid: str


def uncounted_ct(tx: Connection, limit: int = 50) -> list[Uncounted]:
    """CT series that still arrive, newest first, to ask the archive about."""
    rows = tx.execute(
        select(study.c.study_instance_uid, series.c.series_instance_uid)
        .join(study, study.c.id == series.c.study_id)
        .where(
            series.c.state == "receiving",
            series.c.modality == "CT",
            series.c.expected_count.is_(None),
            study.c.constancy.is_(False),
        )
        .order_by(series.c.id.desc())
        .limit(limit)
    )
    return [Uncounted(r.study_instance_uid, r.series_instance_uid) for r in rows]


def whole_ct_headers(tx: Connection, study_id: int, except_series_id: int) -> dict[str, list[InstanceHeader]]:
    """{Series Instance UID: headers} of the other CT series of a study that a detector reads or has read."""
    looked_at = select(run.c.series_id).where(
        run.c.study_id == study_id, run.c.state.in_(("requested", "running", "completed"))
    )
    rows = tx.execute(
        select(series.c.series_instance_uid, instance.c.header)
        .join(instance, instance.c.series_id == series.c.id)
        .where(
            series.c.study_id == study_id,
            series.c.id != except_series_id,
            series.c.state == "complete",
            series.c.modality == "CT",
            instance.c.wanted,
            instance.c.rejected == "",
            series.c.id.in_(looked_at),
        )
        .order_by(series.c.id, instance.c.id)
    )
    found: dict[str, list[InstanceHeader]] = {}
    for r in rows:
        found.setdefault(r.series_instance_uid, []).append(header_from_json(r.header))
    return found


def study_is_arriving(tx: Connection, study_id: int) -> bool:
    query = select(func.count()).where(
        series.c.study_id == study_id, series.c.state == "receiving", series.c.instance_count > 0
    )
    return tx.execute(query).scalar_one() > 0


def find_order(tx: Connection, study_instance_uid: str, accession_number: str) -> dict[str, Any] | None:
    """The order of a study: by Study Instance UID, else by accession number (standards 7.1)."""
    by_accession = and_(order.c.accession_number == accession_number, order.c.accession_number != "")
    row = (
        tx.execute(
            select(order)
            .where(
                or_(order.c.study_instance_uid == study_instance_uid, by_accession), order.c.state == "active"
            )
            .order_by(
                (order.c.study_instance_uid == study_instance_uid).desc(),
                case({"STAT": 0, "URGENT": 1}, value=order.c.priority, else_=2),
                order.c.id.desc(),
            )
            .limit(1)
        )
        .mappings()
        .first()
    )
    return dict(row) if row else None


def add_order(tx: Connection, now: datetime, **values: Any) -> int:
    return int(tx.execute(insert(order).values(received_at=now, **values).returning(order.c.id)).scalar_one())


def get_study(tx: Connection, study_id: int) -> dict[str, Any]:
    query = (
        select(
            study,
            patient.c.patient_id.label("patient_code"),
            patient.c.issuer_of_patient_id,
            patient.c.patient_name,
            patient.c.patient_birth_date,
            patient.c.patient_sex,
        )
        .join(patient, patient.c.id == study.c.patient_id)
        .where(study.c.id == study_id)
    )
    return dict(tx.execute(query).mappings().one())


def find_study(tx: Connection, study_instance_uid: str) -> int | None:
    return tx.execute(
        select(study.c.id).where(study.c.study_instance_uid == study_instance_uid)
    ).scalar_one_or_none()


def series_of(tx: Connection, study_id: int) -> list[dict[str, Any]]:
    return [
        dict(r)
        for r in tx.execute(
            select(series).where(series.c.study_id == study_id).order_by(series.c.id)
        ).mappings()
    ]


def header_from_json(document: dict[str, Any]) -> InstanceHeader:
    values = dict(document)
    for name in _TUPLES:  # an object that came before a field was kept has none of it
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    values["other_patient_ids"] = tuple(tuple(other) for other in values.get("other_patient_ids", ()))
    return InstanceHeader(**values)
