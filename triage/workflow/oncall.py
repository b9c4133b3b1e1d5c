"""The on-call calendar: put in, taken out; and whose page an alert goes to when its ladder comes to them (ux 9)."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from triage.domain.errors import Conflict, Refused
from triage.store import audit, oncall, users
from triage.workflow.read.row import NotFound

LONGEST = timedelta(days=31)


def add_duty(
    tx: Connection, *, site: str, place: int, person: str, contact: str, starts_at: datetime, ends_at: datetime, by: str,
    now: datetime,
) -> int:  # fmt: skip
    """One duty; returns its id.

    place   1 first, 2 second on call; contact: mail address, "" for none
    raises  Refused for an unknown person or a time that ends before it begins; Conflict when somebody has it already
    """
    found = users.find_user(tx, person)
    if found is None or found["disabled"] or found["role"] not in ("reader", "lead"):
        raise Refused(f"{person or 'nobody'} cannot take alerts; name a reader or lead")
    if not starts_at < ends_at <= starts_at + LONGEST:
        raise Refused("a duty ends after it begins, within 31 days")
    if oncall.overlapping(tx, site, place, starts_at, ends_at):
        raise Conflict(
            "somebody is on call at that site and place in this time already; remove that duty first"
        )
    duty_id = oncall.add(
        tx,
        site=site,
        place=place,
        person=person,
        contact=contact,
        starts_at=starts_at,
        ends_at=ends_at,
        made_by=by,
    )
    detail = {
        "site": site,
        "place": place,
        "person": person,
        "from": starts_at.isoformat(),
        "to": ends_at.isoformat(),
    }
    audit.append(tx, now, by, "duty.added", "on_call", duty_id, detail)
    return duty_id


def remove_duty(tx: Connection, duty_id: int, by: str, now: datetime) -> None:
    """raises NotFound"""
    if not oncall.remove(tx, duty_id):
        raise NotFound("no such duty")
    audit.append(tx, now, by, "duty.removed", "on_call", duty_id)
