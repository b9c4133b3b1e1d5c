"""An order arrives, changes or is cancelled: its row, and the place of every study that it is for, in one transaction.

Orders come before or after their images, and overtake one another: what an older message says fills what is empty and
changes nothing else (`said_at`). source: standards 7.1; ux 9, closing rule (d)
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage.domain.priority import OrderedPriority
from triage.hl7.orders import OrderNews
from triage.store import audit, orders, run_queue, studies, worklist
from triage.workflow.alert import close_alerts
from triage.workflow.rank import rank

_NEWS = (
    "study_instance_uid", "accession_number", "placer_order_number", "placer_namespace", "filler_order_number",
    "filler_namespace", "patient_location", "patient_class", "reason_for_exam", "procedure_code", "procedure_text",
    "modality", "ordering_provider", "requested_at", "priority",
)  # fmt: skip
_NUMBERS = _NEWS[:6]  # an empty number says nothing; it never takes one away


def take_order(
    tx: Connection, news: OrderNews, patient_id: int | None, *, said_at: datetime, by: str, now: datetime
) -> dict[str, Any] | None:
    """Store what a message says about one order and let its studies follow; returns the order's row.

    patient_id  row of the patient whom the message names
    returns     None when the order control asks for nothing here
    """
    if news.act == "none":
        return None
    held = orders.find(
        tx,
        filler=(news.filler_order_number, news.filler_namespace),
        placer=(news.placer_order_number, news.placer_namespace),
        accession_number=news.accession_number,
        study_instance_uid=news.study_instance_uid,
    )
    touched = set(orders.studies_of(tx, held)) if held else set()
    order_id = _store(tx, held, news, patient_id, said_at, now)
    row = orders.get(tx, order_id)
    detail = {"state": row["state"], "priority": row["priority"]}
    audit.append(tx, now, by, f"order.{'changed' if held else 'received'}", "order", order_id, detail)
    for study_id in sorted(touched | set(orders.studies_of(tx, row))):
        follow_order(tx, study_id, by, now)
    return row


def follow_order(tx: Connection, study_id: int, by: str, now: datetime) -> None:
    """The place, location and alerts of one study by the orders that it has now."""
    study = studies.get_study(tx, study_id)
    found = orders.of_study(tx, study["study_instance_uid"], study["accession_number"])
    if not found:
        return
    best = found[0]
    active = best["state"] == "active"
    priority = best["priority"] if active else OrderedPriority.ROUTINE.value
    if priority == OrderedPriority.STAT.value:
        run_queue.hurry(tx, study_id)  # runs before the item, as who takes or ends a run locks them
    item = worklist.lock_item(tx, study_id)
    if item is None:
        return
    values = {"ordered_priority": priority, "location": best["patient_location"][:80] or item["location"]}
    if any(item[name] != value for name, value in values.items()):
        worklist.set_values(tx, item["id"], **values)
        rank(tx, study_id, now)
    if not active:
        close_alerts(tx, study_id, by, "order cancelled", now)


def _store(
    tx: Connection, held: dict[str, Any] | None, news: OrderNews, patient_id: int | None, said_at: datetime, now: datetime
) -> int:  # fmt: skip
    told = {
        k: v for k, v in asdict(news).items() if k in _NEWS and v is not None and (v or k not in _NUMBERS)
    }
    if "priority" in told:
        told["priority"] = OrderedPriority(told["priority"]).value
    if patient_id is not None:
        told["patient_id"] = patient_id
    if held is None:
        state = "cancelled" if news.act == "cancel" else "active"
        return orders.add(tx, now, **told, state=state, said_at=said_at)
    if held["said_at"] is not None and said_at < held["said_at"]:  # overtaken on the way
        orders.change(tx, held["id"], now, **{k: v for k, v in told.items() if held[k] in ("", None)})
        return int(held["id"])
    state = {"cancel": "cancelled", "new": "active"}.get(news.act, held["state"])
    orders.change(tx, held["id"], now, **told, state=state, said_at=said_at)
    return int(held["id"])
