"""A report of the RIS: kept in its words, and the study that it is about is read (ux 9, closing rule (b)).

The words serve agreement and turnaround (issue 11, item 7); nothing here judges them. A report whose images have not
come waits for them.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

from sqlalchemy import Connection

from triage.hl7.reports import ReportNews
from triage.store import messages, orders, studies
from triage.workflow.read.reported import note_report, withdraw_report


def take_report(tx: Connection, news: ReportNews, message_id: int | None, *, by: str, now: datetime) -> str:
    """Store and act on one report; returns in words what became of it, "" when all is well. Twice is once."""
    if news.state == "none":
        return "result status O or I: nothing is reported yet"
    study_ids = _studies(tx, news)
    note = "" if study_ids else "no study of this report is here yet"
    homes: list[int | None] = [*study_ids] or [None]
    for study_id in homes:
        new = messages.add_report(
            tx, now, digest=_digest(news, study_id, _withdrawals(tx, study_id)), study_id=study_id,
            message_id=message_id, study_instance_uid=news.study_instance_uid,
            accession_number=news.accession_number, state=news.state, text=news.text, reported_at=news.reported_at,
        )  # fmt: skip
        if not new:
            note = "this very report is known"
        elif study_id is not None:
            _act(tx, study_id, news.state, by, now)
    return note


def settle_homeless(tx: Connection, study_id: int, now: datetime) -> None:
    """The images of a study came after its report: it is read already."""
    study = studies.get_study(tx, study_id)
    waiting = messages.homeless_reports(tx, study["study_instance_uid"], study["accession_number"])
    for row in waiting:
        messages.give_home(tx, row["id"], study_id)
        _act(tx, study_id, row["state"], "ris", now)


def _act(tx: Connection, study_id: int, state: str, by: str, now: datetime) -> None:
    if state == "withdrawn":
        withdraw_report(tx, study_id, by, now)
    else:
        note_report(tx, study_id, by, now, state=state)


def _studies(tx: Connection, news: ReportNews) -> list[int]:
    """By Study Instance UID or accession number, else through the order that the numbers name."""
    named = {"study_instance_uid": news.study_instance_uid, "accession_number": news.accession_number}
    found = orders.studies_of(tx, named)
    if found:
        return found
    order = orders.find(
        tx, filler=(news.filler_order_number, ""), placer=(news.placer_order_number, ""),
        accession_number=news.accession_number, study_instance_uid=news.study_instance_uid,
    )  # fmt: skip
    return orders.studies_of(tx, order) if order else []


def _withdrawals(tx: Connection, study_id: int | None) -> int:
    """After a report was taken back the same words are a new report."""
    if study_id is None:
        return 0
    return sum(r["state"] == "withdrawn" for r in messages.reports_of(tx, study_id))


def _digest(news: ReportNews, study_id: int | None, withdrawals: int) -> str:
    said = [study_id, news.study_instance_uid, news.accession_number, news.state, news.text, withdrawals]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
