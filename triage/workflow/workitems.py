"""The reading list as a Unified Procedure Step worklist: steps follow the list, and what is done to a step is done to it.

`follow` brings the steps to what the list says now; it runs before every look and every act, so an unused service
costs nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from triage.dicom import workitem as dataset
from triage.domain.errors import Conflict, Refused
from triage.domain.finding import PriorityClass
from triage.domain.workitem import FINAL, StepState, path, readiness, step_priority, wanted_state
from triage.store import audit, subscriptions, workitems, worklist
from triage.workflow.read import claims, reported
from triage.workflow.read.row import NotFound

NAMESPACE = uuid.UUID("0b6f9b26-6a53-5c67-8f7b-6a2f7f0f4b11")
BATCH = 500
CLAIM_LENGTH = timedelta(hours=1)  # of a performer; each update renews it
ENDED_SHOWN = timedelta(days=1)
Filters = Sequence[tuple[str, dict[str, Any]]]  # AE title of a subscriber, what steps must match
STATE_REPORT, CANCEL_REQUESTED, PROGRESS_REPORT = 1, 2, 3  # Event Type IDs


class NotThisTransaction(Refused):
    """The Transaction UID is wrong or missing (C301H). HTTP 400."""


class WrongState(Conflict):
    """The step is in a state in which this cannot be done. HTTP 409."""


def follow(tx: Connection, now: datetime) -> int:
    """Bring steps to what the list says; returns how many were looked at."""
    rows = workitems.stale(tx, now, BATCH)
    filters = subscriptions.filters(tx) if rows else []
    for row in rows:
        _follow_one(tx, row, now, filters)
    return len(rows)


def _follow_one(tx: Connection, row: dict[str, Any], now: datetime, filters: Filters) -> None:
    current = StepState(row["step_state"]) if row["step_state"] else None
    states, fresh = path(current, wanted_state(row["state"]))
    said = {
        "priority": step_priority(PriorityClass(row["priority_class"]), row["bound_at"] < now),
        "readiness": readiness(row["state"]),
        "item_version": row["version"],
    }
    workitem_id, sop_uid = row["workitem_id"], row["sop_instance_uid"]
    if fresh and current is not None and current not in FINAL:
        workitems.change(tx, workitem_id, now, state=states[0].value, item_version=row["version"])
        _tell_state(tx, workitem_id, sop_uid, states[0], row["readiness"], now, filters)
        states = states[1:]
    if fresh:
        generation = (row["generation"] or 0) + 1
        sop_uid = step_uid(row["study_instance_uid"], generation)
        workitem_id = workitems.add(
            tx, worklist_item_id=row["item_id"], generation=generation, sop_instance_uid=sop_uid,
            state=states[-1].value, created_at=now, changed_at=now, **said,
        )  # fmt: skip
    elif states:
        workitems.change(tx, workitem_id, now, state=states[-1].value, **said)
    else:
        changed = row["priority"] != said["priority"] or row["readiness"] != said["readiness"]
        workitems.change(tx, workitem_id, now, **said)
        if changed:
            states = (wanted_state(row["state"]),)
        else:  # a step may match for what nobody is told of, such as another patient ID
            report = dataset.state_report(row["step_state"], row["readiness"])
            for ae_title in _newly_matched(tx, sop_uid, now, filters):
                workitems.tell(tx, workitem_id, sop_uid, STATE_REPORT, report, now, receiver=ae_title)
    for state in states:
        _tell_state(tx, workitem_id, sop_uid, state, str(said["readiness"]), now, filters)


def step_uid(study_instance_uid: str, generation: int) -> str:
    return f"2.25.{uuid.uuid5(NAMESPACE, f'{study_instance_uid}|{generation}').int}"


def get(tx: Connection, sop_uid: str) -> dict[str, Any]:
    """raises NotFound"""
    row = workitems.find(tx, sop_uid)
    if row is None:
        raise NotFound("no such work item")
    return row


def start(tx: Connection, sop_uid: str, transaction_uid: str, who: str, now: datetime) -> bool:
    """Claim a step for reading. False when this performer has it already (then nothing changes).

    raises  NotFound; WrongState (C302H, C300H); Held when a reader has the study
    """
    row = get(tx, sop_uid)
    if row["state"] == StepState.IN_PROGRESS.value and transaction_uid == row["transaction_uid"]:
        return False
    if row["state"] != StepState.SCHEDULED.value:
        raise WrongState(f"the work item is {row['state']}")
    claims.claim(tx, row["study_instance_uid"], who, now, opened=False)
    worklist.take_claim(tx, row["worklist_item_id"], who, now, CLAIM_LENGTH)
    if not workitems.claim(tx, row["id"], transaction_uid, who, now):
        raise WrongState("the work item was claimed just now")
    _tell_state(
        tx, row["id"], sop_uid, StepState.IN_PROGRESS, row["readiness"], now, subscriptions.filters(tx)
    )
    follow(tx, now)  # the version of the list's row moved with the claim
    return True


def note(tx: Connection, sop_uid: str, transaction_uid: str, said: dict[str, Any], now: datetime) -> None:
    """What the performer says while it works: progress and what it did; renews its claim.

    raises  NotFound, NotThisTransaction, WrongState (C310H)
    """
    row = _ours(get(tx, sop_uid), transaction_uid)
    kept = {**(row["performed"] or {}), **said}
    workitems.change(tx, row["id"], now, performed=kept)
    worklist.take_claim(tx, row["worklist_item_id"], row["performer"], now, CLAIM_LENGTH)
    if dataset.PROGRESS in said:
        workitems.tell(
            tx, row["id"], sop_uid, PROGRESS_REPORT, {dataset.PROGRESS: said[dataset.PROGRESS]}, now
        )


def finish(tx: Connection, sop_uid: str, transaction_uid: str, state: StepState, now: datetime) -> bool:
    """End a step: COMPLETED is a report, CANCELED gives the study back to the list. False when it was so already.

    raises  NotFound, NotThisTransaction, WrongState (C304H: what a completed step needs was not said)
    """
    row = get(tx, sop_uid)
    if row["state"] == state.value and transaction_uid == row["transaction_uid"]:
        return False
    row = _ours(row, transaction_uid)
    if state is StepState.COMPLETED:
        missing = dataset.missing_when_completed(row["performed"] or {})
        if missing:
            raise WrongState(f"before COMPLETED these must be said: {', '.join(missing)}")
        reported.report(tx, row["study_instance_uid"], row["performer"], now, state="final")
    else:
        workitems.change(tx, row["id"], now, state=StepState.CANCELED.value)
        _tell_state(
            tx, row["id"], sop_uid, StepState.CANCELED, row["readiness"], now, subscriptions.filters(tx)
        )
        claims.release(tx, row["study_instance_uid"], row["performer"], now)
    audit.append(tx, now, row["performer"], f"workitem.{state.value.lower()}", "workitem", sop_uid)
    follow(tx, now)
    return True


def ask_cancel(tx: Connection, sop_uid: str, who: str, reason: str, now: datetime) -> None:
    """Somebody wants the step canceled: its performer is told and decides. raises NotFound, WrongState.

    A step that nobody performs stays: the study waits to be read, whoever else may think otherwise.
    """
    row = get(tx, sop_uid)
    if row["state"] != StepState.IN_PROGRESS.value:
        raise WrongState(f"the work item is {row['state']}: nothing is in progress that could be canceled")
    data = dataset.cancel_request(reason, who)
    workitems.tell(tx, row["id"], sop_uid, CANCEL_REQUESTED, data, now)
    audit.append(tx, now, who, "workitem.cancel_asked", "workitem", sop_uid)


def _ours(row: dict[str, Any], transaction_uid: str) -> dict[str, Any]:
    if row["state"] in (StepState.COMPLETED.value, StepState.CANCELED.value):
        raise WrongState(f"the work item is {row['state']}")
    if row["state"] != StepState.IN_PROGRESS.value:
        raise WrongState("the work item is not in progress yet")
    if not transaction_uid or transaction_uid != row["transaction_uid"]:
        raise NotThisTransaction("the Transaction UID is not that of the performer")
    return row


def _tell_state(
    tx: Connection,
    workitem_id: int,
    sop_uid: str,
    state: StepState,
    ready: str,
    now: datetime,
    filters: Filters,
) -> None:
    _newly_matched(tx, sop_uid, now, filters)  # they hear this very report
    workitems.tell(tx, workitem_id, sop_uid, STATE_REPORT, dataset.state_report(state.value, ready), now)


def _newly_matched(tx: Connection, sop_uid: str, now: datetime, filters: Filters) -> list[str]:
    """Who is subscribed to this step from now on, since it matches now; what matched once stays (PS3.4 CC.2.3.3.1)."""
    return [
        ae_title
        for ae_title, matching in filters
        if workitems.search(tx, sop_instance_uid=sop_uid, since=now - ENDED_SHOWN, limit=1, **matching)
        and subscriptions.want_if_undecided(tx, ae_title, sop_uid)
    ]
