"""Messages in and out as a person sees and mends them: looked at, sent or worked again, set aside with a reason.

A replay out is a message of its own under a new control id; the one that was parked stays as it is. A replay in works
through the bytes that came.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage.domain.alerting import DeliveryState
from triage.domain.errors import Refused
from triage.hl7.parse import parse
from triage.store import audit, deliveries, messages
from triage.workflow.read.row import NotFound
from triage.workflow.site import NewId

RAW_CHARACTERS = 200_000  # of a message as a person reads it; a report with a document inside is longer


def outgoing(tx: Connection, delivery_id: int) -> dict[str, Any]:
    """One delivery with its study's numbers. raises NotFound"""
    row = deliveries.find(tx, delivery_id)
    if row is None:
        raise NotFound("no such message")
    return row


def incoming(tx: Connection, message_id: int) -> dict[str, Any]:
    """raises NotFound"""
    row = messages.get(tx, message_id)
    if row is None:
        raise NotFound("no such message")
    return row


def raw_text(payload: bytes | None) -> str:
    """The bytes as a person can read them, segments on lines of their own; HL7 in its own character set."""
    if not payload:
        return ""
    text = payload.decode("utf-8", errors="replace")
    if payload.lstrip().startswith(b"MSH"):
        with contextlib.suppress(Refused):  # it may be shown because it could not be read
            text = "\r".join(s.text for s in parse(payload).segments)
    return text.replace("\r\n", "\n").replace("\r", "\n")[:RAW_CHARACTERS]


def note_viewed(tx: Connection, direction: str, message_id: int, person: str, now: datetime) -> None:
    """Patient data were looked at."""
    audit.append(tx, now, person, "message.viewed", "message", f"{direction}-{message_id}")


def send_again(tx: Connection, delivery_id: int, person: str, ids: NewId, now: datetime) -> int:
    """The same word of the same alert over the same route as a new message; returns its id.

    raises  NotFound; Refused while it still waits, or when its route is no longer configured
    """
    row = outgoing(tx, delivery_id)
    if row["state"] == DeliveryState.WAITING.value:
        raise Refused("the message still waits and is sent by itself; park it first if it should not be")
    if not deliveries.route_enabled(tx, row["route"]):
        raise Refused(f"no route is called {row['route']} any more; configure it, then send again")
    new_id = deliveries.add_replay(tx, row, ids(), now)
    audit.append(
        tx, now, person, "delivery.replayed", "alert", row["alert_id"],
        {"route": row["route"], "control_id": row["control_id"], "delivery": new_id},
    )  # fmt: skip
    return new_id


def park_delivery(tx: Connection, delivery_id: int, person: str, reason: str, now: datetime) -> None:
    """A person takes it out of the queue. raises NotFound; Refused without a reason, or when it no longer waits"""
    row = outgoing(tx, delivery_id)
    _needs(reason)
    if not deliveries.park(tx, delivery_id, f"parked by {person}: {reason.strip()}"):
        raise Refused(f"the message is {row['state']}; only one that waits can be parked")
    audit.append(
        tx, now, person, "delivery.parked", "alert", row["alert_id"],
        {"route": row["route"], "control_id": row["control_id"], "detail": reason.strip()[:200]},
    )  # fmt: skip


def park_message(tx: Connection, message_id: int, person: str, reason: str, now: datetime) -> None:
    """Nobody needs to look at it any more. raises NotFound; Refused without a reason"""
    incoming(tx, message_id)
    _needs(reason)
    messages.set_state(tx, message_id, "parked", f"{messages.BY_A_PERSON}{person}: {reason.strip()}")
    audit.append(tx, now, person, "message.parked", "message", message_id, {"reason": reason.strip()[:200]})


def _needs(reason: str) -> None:
    if not reason.strip():
        raise Refused("say why: the reason stays with the message")
