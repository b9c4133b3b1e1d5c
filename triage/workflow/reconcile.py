"""Identity is corrected: patients are updated and merged, studies moved; everything that shows them follows.

Called for HL7 (ADT, ORM) and for people. Each step is one transaction, idempotent under the `key` of the message, and
comes to the same in whatever order messages arrive: `said_at` (EVN-2, MSH-7) decides, not arrival. A message may speak
of a patient or study whose images come later. Findings hang on series and stay with their pixels.

Who was told under the old identity hears of the new one (standards 7.1, 7.2; assurance P14, I24):
    update  open alerts show the new name; nothing is sent again
    merge   the same person: a correction under the surviving id
    move    another person: what was told is withdrawn under the old identity and told anew under the right one
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage.domain.errors import Refused
from triage.domain.identity import Demographics, PatientKey, may_merge
from triage.domain.priority import OrderedPriority
from triage.store import alerts, audit, events, identity, orders, studies, worklist
from triage.workflow.alert import correct, settle_alerts, withdraw
from triage.workflow.rank import rank
from triage.workflow.site import NewId, Site

_TOLD = (
    "issuer_of_patient_id",
    "patient_name",
    "patient_birth_date",
    "patient_sex",
    "accession_number",
)


@dataclass(frozen=True)
class Reconciled:
    """new: False when the message was heard before; study_ids: studies that look different now."""

    new: bool
    study_ids: tuple[int, ...] = ()


def update_patient(
    tx: Connection,
    who: PatientKey,
    told: Demographics,
    *,
    said_at: datetime,
    by: str,
    site: Site,
    now: datetime,
) -> Reconciled:
    """Name, birth date, sex of one patient (ADT^A01, A04, A05, A08, A31). raises Refused without an id"""
    patient_id = identity.patient_row(tx, who.at(site.issuer_of_patient_id))
    changed = identity.say(tx, patient_id, told, said_at, now)
    if not changed:
        return Reconciled(False)
    study_ids = identity.studies_of(tx, patient_id)
    audit.append(tx, now, by, "patient.updated", "patient", patient_id, {"fields": changed})
    identity.named_anew(tx, study_ids)
    for study_id in study_ids:
        rank(tx, study_id, now)
        for alert in alerts.alive(tx, study_id).values():
            events.publish(tx, now, "alert", study_id, alert_id=alert["id"], state=alert["state"])
    return Reconciled(True, tuple(study_ids))


def merge_patients(
    tx: Connection, prior: PatientKey, surviving: PatientKey, *, said_at: datetime, key: str, by: str, site: Site,
    ids: NewId, now: datetime,
) -> Reconciled:  # fmt: skip
    """`prior` is `surviving` (ADT^A18, A34, A36, A39, A40; A47 from the old id to the new).

    raises  Refused when the two ids are of different authorities
    """
    old, new = prior.at(site.issuer_of_patient_id), surviving.at(site.issuer_of_patient_id)
    may_merge(old, new)
    prior_id, surviving_id = identity.patient_row(tx, old), identity.patient_row(tx, new)
    if not identity.add_fact(tx, key, "merge", said_at, by, now, prior_id=prior_id, patient_id=surviving_id):
        return Reconciled(False)
    identity.hear(tx, (prior_id, surviving_id), now)
    audit.append(tx, now, by, "patient.merged", "patient", prior_id, {"into": surviving_id, "key": key[:120]})
    return Reconciled(True, _follow_links(tx, identity.relink(tx), site, ids, now, same_person=True))


def move_study(
    tx: Connection, study_instance_uid: str, *, patient: PatientKey | None = None,
    accession_number: str | None = None, said_at: datetime, key: str, by: str, site: Site, ids: NewId, now: datetime,
) -> Reconciled:  # fmt: skip
    """The study is of another patient, or has another accession number (ADT^A43, order changes, corrections).

    None leaves that as it is. raises Refused when neither is said
    """
    if patient is None and accession_number is None:
        raise Refused("a study is moved to a patient or to an accession number; neither was named")
    patient_id = identity.patient_row(tx, patient.at(site.issuer_of_patient_id)) if patient else None
    if not identity.add_fact(
        tx, key, "move", said_at, by, now, patient_id=patient_id,
        study_instance_uid=study_instance_uid[:64], accession_number=accession_number,
    ):  # fmt: skip
        return Reconciled(False)
    identity.hear(tx, [i for i in (patient_id,) if i is not None], now)
    audit.append(
        tx, now, by, "study.moved", "study", study_instance_uid, {"to": patient_id, "key": key[:120]}
    )
    return Reconciled(True, _follow_moves(tx, study_instance_uid, site, ids, now))


def undo(tx: Connection, key: str, *, by: str, site: Site, ids: NewId, now: datetime) -> Reconciled:
    """Take back a merge or a move: all is as if it had never been said, and who was told hears so."""
    fact = identity.undo_fact(tx, key, now)
    if fact is None:
        return Reconciled(False)
    audit.append(tx, now, by, f"{fact['kind']}.undone", "identity", fact["id"], {"key": key[:120]})
    if fact["kind"] == "move":
        return Reconciled(True, _follow_moves(tx, fact["study_instance_uid"], site, ids, now))
    return Reconciled(True, _follow_links(tx, identity.relink(tx), site, ids, now, same_person=False))


def settle_strays(tx: Connection, site: Site, ids: NewId, now: datetime) -> None:
    """A study that began in the very moment of its patient's merge follows it; the sweeper's step."""
    priors = identity.merged_away_with_studies(tx)
    if priors:
        _follow_links(tx, priors, site, ids, now, same_person=True)


def _follow_links(
    tx: Connection, patient_ids: Collection[int], site: Site, ids: NewId, now: datetime, *, same_person: bool
) -> tuple[int, ...]:
    found = identity.astray(tx, patient_ids)
    for one in found:
        before = told_as(tx, one.study_id)
        identity.place(tx, one.study_id, one.own_id, before["accession_number"])
        identity.named_anew(tx, [one.study_id])
        _tell(tx, one.study_id, before, site, ids, now, same_person=same_person)
    return tuple(one.study_id for one in found)


def _follow_moves(
    tx: Connection, study_instance_uid: str, site: Site, ids: NewId, now: datetime
) -> tuple[int, ...]:
    study_id = studies.find_study(tx, study_instance_uid)
    if study_id is None:
        return ()
    before = told_as(tx, study_id)
    patient_id, accession = identity.moved_to(tx, study_instance_uid)
    sent = identity.sent_as(tx, study_id)
    own = patient_id or sent or studies.get_study(tx, study_id)["patient_id"]
    identity.place(tx, study_id, own, accession)
    after = told_as(tx, study_id)
    if after == before:
        return ()
    identity.named_anew(tx, [study_id])  # runs before the item, as who finishes a run locks them
    if after["accession_number"] != before["accession_number"]:
        _follow_order(tx, study_id, study_instance_uid, after["accession_number"])
    same = all(after[name] == before[name] for name in ("patient_code", "issuer_of_patient_id"))
    _tell(tx, study_id, before, site, ids, now, same_person=same)
    return (study_id,)


def _follow_order(tx: Connection, study_id: int, study_instance_uid: str, accession_number: str) -> None:
    """The place in the list that the order of the right accession number asks for."""
    item = worklist.lock_item(tx, study_id)
    order = orders.find_order(tx, study_instance_uid, accession_number)
    if item is not None and order is not None:
        ordered = OrderedPriority(order["priority"]).value
        worklist.set_values(tx, item["id"], ordered_priority=ordered, location=order["patient_location"][:80])


def told_as(tx: Connection, study_id: int) -> dict[str, Any]:
    """How messages name the study now."""
    row = studies.get_study(tx, study_id)
    return {"patient_code": row["patient_code"], **{name: row[name] for name in _TOLD}}


def _tell(
    tx: Connection,
    study_id: int,
    before: dict[str, Any],
    site: Site,
    ids: NewId,
    now: datetime,
    *,
    same_person: bool,
) -> None:
    for alert in alerts.alive(tx, study_id).values():
        if same_person:
            correct(tx, alert["id"], study_id, alert["state"], ids, now)
        else:
            withdraw(tx, alert["id"], study_id, "the study is of another patient", ids, now, told_as=before)
    rank(tx, study_id, now)
    settle_alerts(tx, study_id, site, ids, now)
