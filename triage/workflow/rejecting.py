"""Rejection notes are honoured: what they name is taken out of use, and everything that rested on it says so (IHE IOCM).

A note is a row under its SOP Instance UID, so a repetition changes nothing. It may come before its images, and a later
note may take its place. Bytes stay; a study loses its place only with an audit event that says whose word it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from triage.dicom.rejection import read_rejection
from triage.domain.eligibility import radiograph_answer
from triage.domain.errors import Refused
from triage.domain.rejection import WHY, Reason, Rejection
from triage.domain.study import RADIOGRAPH_CLASSES
from triage.domain.suitability import NotSuitable, ReasonCode
from triage.log import get_logger
from triage.store import audit, completeness, dispatches, instances, rejections, studies, worklist
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow.alert import settle_alerts
from triage.workflow.complete import complete_series
from triage.workflow.intake import NOT_READ, request_runs
from triage.workflow.rank import rank
from triage.workflow.reconcile import told_as
from triage.workflow.site import NewId, Site, new_id

Wake = list[tuple[int, str]]
log = get_logger()


def read_notes(
    database: Database, spool: Spool, site: Site, clock: Callable[[], datetime], ids: NewId = new_id
) -> Wake:
    """Read every Key Object Selection that nobody has read yet; one transaction each. Runs to wake."""
    with database.read() as tx:
        waiting = rejections.unread(tx)
    wake: Wake = []
    for note in waiting:
        try:
            said = read_rejection(spool.path(note["digest"]))
        except Refused as error:
            log.warning("rejection.unreadable", sop_instance_uid=note["sop_instance_uid"], detail=str(error))
            with database.write() as tx:
                rejections.settle(tx, note["id"], state="unreadable")
            continue
        with database.write() as tx:
            if said is None:
                rejections.settle(tx, note["id"], state="none")
            elif not site.may_reject(note["said_by"]):
                _pass_over(tx, note, said, clock())
            else:
                wake += take_note(tx, note, said, site, ids, clock())
    return wake


def _pass_over(tx: Connection, note: Mapping[str, Any], said: Rejection, now: datetime) -> None:
    """Its sender may not take images away: they stay in use, and the trail says that somebody tried."""
    rejections.settle(tx, note["id"], state="none")
    audit.append(
        tx, now, f"dicom:{note['said_by']}", "security.rejection_refused", "study", said.study_instance_uid,
        {"note": note["sop_instance_uid"], "reason": said.reason.value},
    )  # fmt: skip
    log.warning("rejection.refused", peer=note["said_by"], fix="[dicom] rejection_notes_from names who may")


def reject_at_once(
    tx: Connection, source_uid: str, said: Rejection, by: str, site: Site, ids: NewId, now: datetime
) -> Wake:
    """What another kind of message says as a note would (MPPS discontinued for a wrong worklist entry)."""
    note_id, new = rejections.note(
        tx, source_uid, now, study_instance_uid=said.study_instance_uid, state="unread", said_by=by[:16]
    )
    note = {"id": note_id, "sop_instance_uid": source_uid, "said_by": by}
    return take_note(tx, note, said, site, ids, now) if new else []


def take_note(
    tx: Connection, note: Mapping[str, Any], said: Rejection, site: Site, ids: NewId, now: datetime
) -> Wake:
    """Honour one note that is still unread; runs to wake after the commit."""
    if not rejections.settle(tx, note["id"], state="live", reason=said.reason.value):
        return []
    rejections.reject(tx, note["id"], said.sop_instance_uids)
    # A note replaces others by saying so, or by naming them among what it rejects.
    freed = rejections.replace(tx, said.replaces | said.sop_instance_uids, said.study_instance_uid)
    marked = rejections.mark(tx, said.sop_instance_uids | freed, said.study_instance_uid)
    # A note that names a note changes no images of its own series.
    changed = {
        s: uids for s, uids in marked.items() if completeness.get_series(tx, s)["modality"] not in NOT_READ
    }
    study_id = studies.find_study(tx, said.study_instance_uid)
    if study_id is None or not changed:
        _audit(tx, note, said, now, {"instances": 0})
        return []
    before = _place(tx, study_id)
    ended: list[int] = []
    wake: Wake = []
    for series_id, uids in changed.items():
        changes = rejections.reopen(tx, series_id, now)
        ended += rejections.supersede_runs(tx, series_id, uids, now)
        wake += _ask_films(tx, study_id, series_id, uids, changes, site, now)
    unsent = dispatches.outdate(tx, ended, WHY[said.reason])
    _settle(tx, study_id, said.reason, site, ids, now)
    for series_id in changed:  # last: what is left is asked for again
        wake += complete_series(tx, series_id, site, now, ids)
    _audit(
        tx, note, said, now,
        {
            "instances": sum(map(len, changed.values())), "runs": len(ended), "outputs_not_sent": unsent,
            "before": before, "after": _place(tx, study_id),
        },
    )  # fmt: skip
    return wake


def _ask_films(
    tx: Connection,
    study_id: int,
    series_id: int,
    uids: Collection[str],
    changes: int,
    site: Site,
    now: datetime,
) -> Wake:
    """Each film is a question of its own: one that was taken out is answered, one that came back is asked again."""
    wake: Wake = []
    for rejected in (True, False):
        for one in instances.held(tx, series_id, rejected=rejected):
            uid = one.header.sop_instance_uid
            if uid not in uids or one.header.sop_class_uid not in RADIOGRAPH_CLASSES:
                continue
            answer = NotSuitable(ReasonCode.REJECTED) if rejected else radiograph_answer(one.header)
            inputs = [(uid, one.digest)]
            wake += request_runs(
                tx, "chest_xray", study_id, series_id, inputs, answer, site, now, changes=changes
            )
    return wake


def _settle(tx: Connection, study_id: int, reason: Reason, site: Site, ids: NewId, now: datetime) -> None:
    """The item leaves the list when nothing of its study is in use, and comes back with the first image that is."""
    item = worklist.lock_item(tx, study_id)
    if item is not None:
        used, rejected = rejections.counts(tx, study_id, NOT_READ)
        if rejected and not used and item["state"] in worklist.OPEN_STATES:
            held = worklist.live_claim(tx, item["id"], now)
            if held is not None:
                worklist.drop_claim(tx, item["id"], held["reader"])
            worklist.set_values(tx, item["id"], state="withdrawn")
        elif used and item["state"] == "withdrawn":
            worklist.set_values(tx, item["id"], state="to_read")
    rank(tx, study_id, now)
    # With the identity under which it was told a withdrawal says that the study is of another patient.
    identity = told_as(tx, study_id) if reason is Reason.WRONG_ENTRY else None
    settle_alerts(tx, study_id, site, ids, now, WHY[reason], identity)


def _place(tx: Connection, study_id: int) -> dict[str, Any]:
    item = worklist.find_item(tx, study_id)
    return {} if item is None else {"state": item["state"], "class": item["priority_class"]}


def _audit(
    tx: Connection, note: Mapping[str, Any], said: Rejection, now: datetime, detail: dict[str, Any]
) -> None:
    audit.append(
        tx, now, f"dicom:{note['said_by']}", "instances.rejected", "study", said.study_instance_uid,
        {"note": note["sop_instance_uid"], "reason": said.reason.value, **detail},
    )  # fmt: skip
