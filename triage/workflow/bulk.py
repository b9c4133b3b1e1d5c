"""One act on many studies: claim for a colleague, release, raise, label. Never acknowledge, judge or lower (ux 5.5)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from triage.domain.errors import Conflict, Refused
from triage.domain.finding import PriorityClass
from triage.store import audit, events, studies, users, worklist
from triage.workflow.read import claims, verdicts
from triage.workflow.read.row import NotFound

ACTS = ("assign", "release", "raise", "label")
READERS = ("reader", "lead")


def act(
    tx: Connection,
    name: str,
    study_uids: Sequence[str],
    person: str,
    now: datetime,
    *,
    to: str = "",
    priority_class: str = "high",
    reason: str = "",
    label: str = "",
) -> tuple[int, list[tuple[str, str]]]:
    """(how many were done, [(study uid, why not)]).

    raises  Refused when the act itself makes no sense: an unknown colleague, a raise without a reason
    """
    if name == "assign":
        _check_reader(tx, to)
    if name == "raise" and not reason.strip():
        raise Refused("say why: the reason is shown on the list and kept in the audit")
    done, refused = 0, []
    for uid in dict.fromkeys(study_uids):
        try:
            if name == "assign":
                claims.claim(tx, uid, to, now, opened=False, by=person)
            elif name == "release":
                claims.release(tx, uid, person, now)
            elif name == "raise":
                _raise(tx, uid, person, now, PriorityClass.from_word(priority_class), reason)
            else:
                _label(tx, uid, person, now, label.strip())
        except (Conflict, Refused) as error:
            refused.append((uid, str(error)))
        else:
            done += 1
    return done, refused


def _check_reader(tx: Connection, name: str) -> None:
    found = users.find_user(tx, name)
    if found is None or found["disabled"] or found["role"] not in READERS:
        raise Refused(f"{name or 'nobody'} cannot read studies; name a reader or lead")


def _raise(tx: Connection, uid: str, person: str, now: datetime, to: PriorityClass, reason: str) -> None:
    """Up alone: of many studies at once none is lowered."""
    study_id = studies.find_study(tx, uid)
    item = worklist.find_item(tx, study_id) if study_id is not None else None
    if item is not None and item["priority_class"] >= to:
        raise Refused(f"the study is {PriorityClass(item['priority_class']).word} already")
    verdicts.override(tx, uid, person, now, priority_class=to, reason=reason)


def _label(tx: Connection, uid: str, person: str, now: datetime, label: str) -> None:
    study_id = studies.find_study(tx, uid)
    item = worklist.lock_item(tx, study_id) if study_id is not None else None
    if item is None:
        raise NotFound("no such study")
    worklist.set_values(tx, item["id"], label=label[:40])
    audit.append(tx, now, person, "study.labelled", "study", uid, {"label": label[:40]})
    events.publish(tx, now, "worklist", study_id)
