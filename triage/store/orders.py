"""Orders: which row a message speaks of, and which studies an order is for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, exists, insert, or_, select, update

from triage.store.schema import order, patient, study, worklist_item

_WIDTHS = {
    "study_instance_uid": 64, "accession_number": 64, "placer_order_number": 80, "filler_order_number": 80,
    "placer_namespace": 80, "filler_namespace": 80, "patient_location": 80, "procedure_code": 80,
    "procedure_text": 200, "modality": 16, "patient_class": 16, "ordering_provider": 200, "reason_for_exam": 10_000,
}  # fmt: skip


def find(
    tx: Connection, *, filler: tuple[str, str], placer: tuple[str, str], accession_number: str, study_instance_uid: str
) -> dict[str, Any] | None:  # fmt: skip
    """The order that these numbers name: by filler number, else placer, else accession, else study.

    filler, placer  (number, namespace); a namespace that one side leaves out contradicts nothing
    """
    ways: list[ColumnElement[bool] | None] = [
        _numbered(order.c.filler_order_number, order.c.filler_namespace, filler),
        _numbered(order.c.placer_order_number, order.c.placer_namespace, placer),
        # One accession number may hold several orders: where a number tells them apart it has been asked for above.
        and_(order.c.accession_number == accession_number, _free(filler, placer))
        if accession_number
        else None,
        and_(order.c.study_instance_uid == study_instance_uid, _free(filler, placer))
        if study_instance_uid
        else None,
    ]
    for way in ways:
        if way is None:
            continue
        query = select(order).where(way).order_by(order.c.id.desc()).limit(1)
        if (row := tx.execute(query).mappings().first()) is not None:
            return dict(row)
    return None


def _numbered(
    number: ColumnElement[str], namespace: ColumnElement[str], wanted: tuple[str, str]
) -> ColumnElement[bool] | None:
    if not wanted[0]:
        return None
    equal = number == wanted[0][:80]
    return and_(equal, namespace.in_((wanted[1][:80], ""))) if wanted[1] else equal


def _free(filler: tuple[str, str], placer: tuple[str, str]) -> ColumnElement[bool]:
    """An order that has no other number of the kind that is asked for."""
    other_filler = order.c.filler_order_number.in_(("", filler[0][:80])) if filler[0] else None
    other_placer = order.c.placer_order_number.in_(("", placer[0][:80])) if placer[0] else None
    conditions = [c for c in (other_filler, other_placer) if c is not None]
    return and_(True, *conditions)


def add(tx: Connection, now: datetime, **values: Any) -> int:
    return int(
        tx.execute(
            insert(order).values(received_at=now, changed_at=now, **_clipped(values)).returning(order.c.id)
        ).scalar_one()
    )


def change(tx: Connection, order_id: int, now: datetime, **values: Any) -> None:
    tx.execute(update(order).where(order.c.id == order_id).values(changed_at=now, **_clipped(values)))


def _clipped(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v[: _WIDTHS[k]] if k in _WIDTHS and isinstance(v, str) else v for k, v in values.items()}


def get(tx: Connection, order_id: int) -> dict[str, Any]:
    return dict(tx.execute(select(order).where(order.c.id == order_id)).mappings().one())


def studies_of(tx: Connection, row: dict[str, Any]) -> list[int]:
    """Studies that this order is for: by Study Instance UID, else by accession number (standards 7.1)."""
    by_uid = and_(study.c.study_instance_uid == row["study_instance_uid"], row["study_instance_uid"] != "")
    by_accession = and_(study.c.accession_number == row["accession_number"], study.c.accession_number != "")
    query = (
        select(study.c.id).where(or_(by_uid, by_accession), study.c.constancy.is_(False)).order_by(study.c.id)
    )
    return list(tx.execute(query).scalars())


def of_study(tx: Connection, study_instance_uid: str, accession_number: str) -> list[dict[str, Any]]:
    """Every order of a study, the active and most urgent first."""
    by_accession = and_(order.c.accession_number == accession_number, order.c.accession_number != "")
    by_uid = and_(order.c.study_instance_uid == study_instance_uid, order.c.study_instance_uid != "")
    rank = case({"STAT": 0, "URGENT": 1}, value=order.c.priority, else_=2)
    query = (
        select(order)
        .where(or_(by_uid, by_accession))
        .order_by((order.c.state == "active").desc(), rank, order.c.id.desc())
    )
    return [dict(r) for r in tx.execute(query).mappings()]


def expected(tx: Connection, since: datetime, limit: int = 500) -> list[dict[str, Any]]:
    """Active orders whose images have not come, most urgent first: the expected studies."""
    by_uid = and_(study.c.study_instance_uid == order.c.study_instance_uid, order.c.study_instance_uid != "")
    by_accession = and_(study.c.accession_number == order.c.accession_number, order.c.accession_number != "")
    arrived = select(study.c.id).where(or_(by_uid, by_accession)).exists()
    rank = case({"STAT": 0, "URGENT": 1}, value=order.c.priority, else_=2)
    query = (
        select(order)
        .where(order.c.state == "active", order.c.received_at >= since, ~arrived)
        .order_by(rank, order.c.requested_at, order.c.id)
        .limit(limit)
    )
    return [dict(r) for r in tx.execute(query).mappings()]


def active_of_patient(tx: Connection, patient_id: int) -> list[dict[str, Any]]:
    query = (
        select(order).where(order.c.patient_id == patient_id, order.c.state == "active").order_by(order.c.id)
    )
    return [dict(r) for r in tx.execute(query).mappings()]


def unordered(tx: Connection, since: datetime, limit: int = 200) -> list[tuple[int, str, str, str]]:
    """(id, Study Instance UID, accession number, patient id) of open studies since then that have no order."""
    by_accession = and_(order.c.accession_number == study.c.accession_number, order.c.accession_number != "")
    known = exists().where(or_(order.c.study_instance_uid == study.c.study_instance_uid, by_accession))
    query = (
        select(study.c.id, study.c.study_instance_uid, study.c.accession_number, patient.c.patient_id)
        .join(patient, patient.c.id == study.c.patient_id)
        .join(worklist_item, worklist_item.c.study_id == study.c.id)
        .where(
            study.c.first_received_at >= since,
            study.c.constancy.is_(False),
            worklist_item.c.state.in_(("arriving", "to_read", "claimed")),
            or_(study.c.accession_number != "", patient.c.patient_id != ""),
            ~known,
        )
        .order_by(study.c.id)
        .limit(limit)
    )
    return [(r[0], r[1], r[2], r[3]) for r in tx.execute(query)]


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
