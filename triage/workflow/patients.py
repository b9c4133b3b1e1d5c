"""What registration said about a patient (ADT): to the one step that corrects identity, and to the orders' location.

source: standards 7.1
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from triage.hl7.orders import location_of
from triage.hl7.parse import ErrorCode, Message, Unusable
from triage.hl7.patient import demographics_of, mergings_of, patient_of, said_at
from triage.store import identity, orders
from triage.workflow import reconcile
from triage.workflow.orders import follow_order
from triage.workflow.site import NewId, Site

_UPDATES = frozenset({"A01", "A02", "A03", "A04", "A05", "A06", "A07", "A08", "A28", "A31"})
_MERGES = frozenset({"A18", "A30", "A34", "A36", "A39", "A40", "A47"})  # A47: the old id is the new one's
_BY_HAND = frozenset({"A43", "A49"})  # identifiers that move without their patient
_PLACED = frozenset({"A01", "A02", "A04", "A08"})


def take_patient(
    tx: Connection, message: Message, *, key: str, by: str, site: Site, ids: NewId, now: datetime
) -> str | None:
    """Act on an ADT message; returns a note, "" when all is well, None when the event asks for nothing here.

    key     of the message: a merge that comes twice is one
    raises  Refused
    """
    event = message.msh.field(9, 2).strip() or message.first("EVN").field(1).strip()
    if event in _BY_HAND:
        raise Unusable(
            f"{event} needs a person: correct the patient at the modality or the archive",
            ErrorCode.UNSUPPORTED_EVENT,
        )
    if event in _MERGES:
        for number, pair in enumerate(mergings_of(message)):
            reconcile.merge_patients(
                tx, pair.prior, pair.surviving, said_at=said_at(message, now), key=f"{key}#{number}", by=by,
                site=site, ids=ids, now=now,
            )  # fmt: skip
        _update(tx, message, by, site, now)
        return ""
    if event not in _UPDATES:
        return None
    _update(tx, message, by, site, now)
    if event in _PLACED:
        _place(tx, message, by, site, now)
    return ""


def _update(tx: Connection, message: Message, by: str, site: Site, now: datetime) -> None:
    told = demographics_of(message)
    reconcile.update_patient(
        tx, patient_of(message), told, said_at=said_at(message, now), by=by, site=site, now=now
    )


def _place(tx: Connection, message: Message, by: str, site: Site, now: datetime) -> None:
    """Where the patient lies now, for alerts about studies that are still open: by the orders, newest word first."""
    location = location_of(message)
    if not location:
        return
    patient_id = identity.patient_row(tx, patient_of(message).at(site.issuer_of_patient_id))
    for row in orders.active_of_patient(tx, patient_id):
        at = said_at(message, now)
        if row["said_at"] is None or at >= row["said_at"]:
            orders.change(tx, row["id"], now, patient_location=location, said_at=at)
            for study_id in orders.studies_of(tx, row):
                follow_order(tx, study_id, by, now)
