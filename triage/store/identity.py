"""What registries said of patients and studies, and what it comes to: facts kept, links and studies made from them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from triage.domain.identity import Demographics, Merge, PatientKey, newer_fields, survivors
from triage.domain.run import RunState
from triage.store.schema import identity_fact, patient, patient_link, run, study, study_patient
from triage.store.upsert import insert_or_get, upsert

_HAVE_OBJECTS = [s.value for s in (RunState.REQUESTED, RunState.RUNNING, RunState.COMPLETED)]
_WIDTHS = {"patient_name": 400, "patient_birth_date": 8, "patient_sex": 16}


@dataclass(frozen=True)
class Astray:
    """A study that stands under another patient than all facts say."""

    study_id: int
    own_id: int
    patient_id: int


def patient_row(tx: Connection, key: PatientKey) -> int:
    """The row of this patient, made when nobody has spoken of it before."""
    names = {"patient_id": key.patient_id, "issuer_of_patient_id": key.issuer_of_patient_id}
    return insert_or_get(tx, patient, names, {})[0]


def say(tx: Connection, patient_id: int, told: Demographics, said_at: datetime, now: datetime) -> list[str]:
    """Keep what was said, newest for each field; returns the fields whose value changed."""
    row = tx.execute(select(patient).where(patient.c.id == patient_id)).mappings().one()
    said = {name: datetime.fromisoformat(at) for name, at in (row["said"] or {}).items()}
    clipped = {name: value[: _WIDTHS[name]] for name, value in told.said().items()}
    newer = newer_fields(clipped, said_at, said)
    stamps = {**(row["said"] or {}), **dict.fromkeys(newer, said_at.isoformat())}
    tx.execute(update(patient).where(patient.c.id == patient_id).values(said=stamps, heard_at=now, **newer))
    return sorted(name for name, value in newer.items() if row[name] != value)


def hear(tx: Connection, patient_ids: Collection[int], now: datetime) -> None:
    """These patients were spoken of: their rows stay although they may have no study yet."""
    tx.execute(update(patient).where(patient.c.id.in_(patient_ids)).values(heard_at=now))


def add_fact(
    tx: Connection, key: str, kind: str, said_at: datetime, by: str, now: datetime, **values: Any
) -> bool:
    """False when this message was heard before."""
    known = {"kind": kind, "said_at": said_at, "heard_at": now, "said_by": by[:80], **values}
    return insert_or_get(tx, identity_fact, {"key": key[:120]}, known)[1]


def undo_fact(tx: Connection, key: str, now: datetime) -> dict[str, Any] | None:
    """The fact, now without effect; None when there is none in effect under this key."""
    row = (
        tx.execute(
            update(identity_fact)
            .where(identity_fact.c.key == key[:120], identity_fact.c.undone_at.is_(None))
            .values(undone_at=now)
            .returning(identity_fact)
        )
        .mappings()
        .first()
    )
    return dict(row) if row else None


def relink(tx: Connection) -> set[int]:
    """Make the links what all merges come to; returns the patients whose survivor changed."""
    f = identity_fact.c
    rows = tx.execute(
        select(f.prior_id, f.patient_id, f.said_at, f.key).where(f.kind == "merge", f.undone_at.is_(None))
    )
    wanted = survivors(
        Merge(prior=r.prior_id, surviving=r.patient_id, said_at=r.said_at, key=r.key) for r in rows
    )
    held = {r.prior_id: r.surviving_id for r in tx.execute(select(patient_link))}
    changed = {p for p in held.keys() | wanted.keys() if held.get(p) != wanted.get(p)}
    tx.execute(delete(patient_link).where(patient_link.c.prior_id.in_(changed)))
    new = [{"prior_id": p, "surviving_id": wanted[p]} for p in sorted(changed & wanted.keys())]
    if new:
        tx.execute(insert(patient_link), new)
    return changed


def survivor(tx: Connection, patient_id: int) -> int:
    query = select(patient_link.c.surviving_id).where(patient_link.c.prior_id == patient_id)
    return tx.execute(query).scalar_one_or_none() or patient_id


def told_of(tx: Connection, study_instance_uid: str) -> dict[str, str]:
    """Header fields of which somebody said something newer than the images: values to put in their place.

    Empty for a study of which nobody spoke. A field that the surviving patient lacks stays as the images have it.
    """
    row = (
        tx.execute(
            select(
                patient,
                study.c.accession_number,
                study_patient.c.sent_id,
                study_patient.c.sent_accession_number,
            )
            .join(study, study.c.patient_id == patient.c.id)
            .outerjoin(study_patient, study_patient.c.study_id == study.c.id)
            .where(study.c.study_instance_uid == study_instance_uid)
        )
        .mappings()
        .first()
    )
    if row is None:
        return {}
    told = {name: str(row[name] or "") for name in row["said"] or {}}
    if row["sent_id"] is not None and row["sent_id"] != row["id"]:
        told |= {name: row[name] for name in _WIDTHS if row[name]}
        told |= {name: row[name] for name in ("patient_id", "issuer_of_patient_id")}
    if row["sent_accession_number"] not in (None, row["accession_number"]):
        told["accession_number"] = row["accession_number"]
    return told


def named_anew(tx: Connection, study_ids: Collection[int]) -> None:
    """Objects of these studies may name somebody else now: the publisher looks at them, the sender waits for that.

    Runs that still work are marked as well: they may complete before this is committed.
    """
    marked = update(run).where(run.c.study_id.in_(study_ids), run.c.state.in_(_HAVE_OBJECTS))
    tx.execute(marked.values(identity_version=run.c.identity_version + 1, named_anew=True))


def astray(tx: Connection, patient_ids: Collection[int]) -> list[Astray]:
    """Studies whose own patient is one of these and that do not stand under that one's survivor."""
    own = func.coalesce(study_patient.c.own_id, study.c.patient_id)
    expected = func.coalesce(patient_link.c.surviving_id, own)
    rows = tx.execute(
        select(study.c.id, own.label("own_id"), expected.label("expected"))
        .outerjoin(study_patient, study_patient.c.study_id == study.c.id)
        .outerjoin(patient_link, patient_link.c.prior_id == own)
        .where(own.in_(patient_ids), study.c.patient_id != expected)
        .order_by(study.c.id)
    )
    return [Astray(r.id, r.own_id, r.expected) for r in rows]


def merged_away_with_studies(tx: Connection, limit: int = 50) -> list[int]:
    """Merged patients under whom a study came to stand in the very moment of their merge."""
    query = select(patient_link.c.prior_id).where(
        select(study.c.id).where(study.c.patient_id == patient_link.c.prior_id).exists()
    )
    return list(tx.execute(query.limit(limit)).scalars())


def moved_to(tx: Connection, study_instance_uid: str) -> tuple[int | None, str | None]:
    """(patient row, accession number) that the newest words on this study name; None where there are none."""
    f = identity_fact.c
    rows = tx.execute(
        select(f.patient_id, f.accession_number)
        .where(f.kind == "move", f.study_instance_uid == study_instance_uid, f.undone_at.is_(None))
        .order_by(f.said_at.desc(), f.key.desc())
    ).all()
    patients = [r.patient_id for r in rows if r.patient_id is not None]
    accessions = [r.accession_number for r in rows if r.accession_number is not None]
    return (patients[0] if patients else None), (accessions[0] if accessions else None)


def place(tx: Connection, study_id: int, own_id: int, accession_number: str | None = None) -> None:
    """Put a study under the survivor of `own_id`, keeping how it was sent. accession_number: None as it was sent."""
    held = tx.execute(select(study).where(study.c.id == study_id)).mappings().one()
    upsert(
        tx,
        study_patient,
        {"study_id": study_id},
        {
            "sent_id": held["patient_id"],
            "own_id": own_id,
            "sent_accession_number": held["accession_number"],
        },
        replace=False,
    )
    tx.execute(update(study_patient).where(study_patient.c.study_id == study_id).values(own_id=own_id))
    sent = tx.execute(select(study_patient).where(study_patient.c.study_id == study_id)).mappings().one()
    accession = sent["sent_accession_number"] if accession_number is None else accession_number
    tx.execute(
        update(study)
        .where(study.c.id == study_id)
        .values(patient_id=survivor(tx, own_id), accession_number=accession[:64])
    )


def sent_as(tx: Connection, study_id: int) -> int | None:
    """The patient whom the first image named, of a study that stands or stood elsewhere since; None of any other."""
    return tx.execute(
        select(study_patient.c.sent_id).where(study_patient.c.study_id == study_id)
    ).scalar_one_or_none()


def studies_of(tx: Connection, patient_id: int) -> list[int]:
    query = select(study.c.id).where(study.c.patient_id == patient_id).order_by(study.c.id)
    return list(tx.execute(query).scalars())
