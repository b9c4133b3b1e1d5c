"""A report exists, or was taken back: the study is read and its alerts close, or it waits again (ux 9)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from triage.domain.errors import Refused
from triage.store import audit, completeness, reading, studies, worklist
from triage.workflow.alert import close_alerts
from triage.workflow.read.row import Held, locked_item, tell

REPORT_STATES = ("preliminary", "final", "addendum")


def report(
    tx: Connection, study_uid: str, person: str, now: datetime, *, state: str, version: int | None = None
) -> int:
    """A report exists: the study is read and its alerts close (closing rule b, ux 9).

    state   preliminary, final or addendum
    raises  Held while another reader has the study
    """
    if state not in REPORT_STATES:
        raise Refused(f"report state {state!r} is unknown; one of {', '.join(REPORT_STATES)}")
    study_id, item = locked_item(tx, study_uid, version)
    held = worklist.live_claim(tx, item["id"], now)
    if held is not None and held["reader"] != person:
        raise Held(held["reader"], held["expires_at"], "the study is claimed by")
    note_report(tx, study_id, person, now, state=state)
    return study_id


def note_report(tx: Connection, study_id: int, by: str, now: datetime, *, state: str) -> bool:
    """A report is there, whoever holds the study: it is read, its alerts close. False without a worklist item.

    A report never falls back: a preliminary one that comes after the final one changes nothing (messages overtake).
    """
    item = worklist.lock_item(tx, study_id)
    if item is None:
        return False
    uid = studies.get_study(tx, study_id)["study_instance_uid"]
    held = item["report_state"]
    best = state if held not in REPORT_STATES else max(held, state, key=REPORT_STATES.index)
    reading.end_claim(tx, item["id"])
    worklist.set_values(
        tx, item["id"], state="withdrawn" if item["state"] == "withdrawn" else "read", report_state=best,
        read_at=item["read_at"] or now, opened_at=item["opened_at"] or now,
    )  # fmt: skip
    audit.append(tx, now, by, "study.reported", "study", uid, {"state": state})
    close_alerts(tx, study_id, by, f"{state} report", now)
    tell(tx, now, study_id, claimed_by="")
    return True


def withdraw_report(tx: Connection, study_id: int, by: str, now: datetime) -> bool:
    """The report was taken back (OBR-25 X): the study waits again, in its old place. False when it was not read."""
    item = worklist.lock_item(tx, study_id)
    if item is None or item["state"] != "read":
        return False
    uid = studies.get_study(tx, study_id)["study_instance_uid"]
    state = "arriving" if completeness.study_is_arriving(tx, study_id) else "to_read"
    worklist.set_values(tx, item["id"], state=state, report_state="", read_at=None)
    audit.append(tx, now, by, "study.report_withdrawn", "study", uid)
    tell(tx, now, study_id)
    return True
