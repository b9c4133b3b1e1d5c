"""Claims: a lease of ten minutes on a study, which ends by itself (ux 5.6)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from triage.domain.errors import Refused
from triage.store import audit, reading, studies, worklist
from triage.workflow.read.row import READABLE, Held, locked_item, make_free, tell

CLAIM_LENGTH = timedelta(minutes=10)
OPEN_CLAIMS_MAX = 5
_NEXT_TRIES = 5  # readers who press `next` in the same instant; each try sees what the other took


def claim(
    tx: Connection,
    study_uid: str,
    reader: str,
    now: datetime,
    *,
    version: int | None = None,
    take_over_reason: str = "",
    opened: bool = True,
    by_next: bool = False,
    by: str = "",
    rank_shown: int | None = None,
) -> int:
    """Lease a study to a reader, and note that it was opened; returns the study's row id.

    by                who assigned it to this reader, when that is another
    take_over_reason  take it although another holds it; told to all, audited
    rank_shown        the place in the list at that moment: the only honest basis of turnaround (ux 5.6)
    raises            NotFound; Stale; Held by another; Refused beyond five open claims or when it was read
    """
    study_id, item = locked_item(tx, study_uid, version)
    if item["state"] not in READABLE:
        raise Refused(f"the study is {item['state']}; nothing is left to claim")
    held = worklist.live_claim(tx, item["id"], now)
    mine = held is not None and held["reader"] == reader
    if held is not None and not mine and not take_over_reason:
        raise Held(held["reader"], held["expires_at"], "the study is claimed by")
    if not mine and worklist.open_claims(tx, reader, now) >= OPEN_CLAIMS_MAX:
        whose = "you hold" if by in ("", reader) else f"{reader} holds"
        raise Refused(f"{whose} {OPEN_CLAIMS_MAX} studies; release or report one first")
    if not worklist.take_claim(tx, item["id"], reader, now, CLAIM_LENGTH, take_over=bool(take_over_reason)):
        other = worklist.live_claim(tx, item["id"], now)
        raise Held(
            other["reader"] if other else "", other["expires_at"] if other else None, "just claimed by"
        )
    values: dict[str, Any] = {"state": "claimed"}
    if opened and item["opened_at"] is None:
        values["opened_at"] = now
    worklist.set_values(tx, item["id"], **values)
    if held is not None and not mine:
        audit.append(
            tx, now, reader, "study.taken_over", "study", study_uid,
            {"from": held["reader"], "reason": take_over_reason[:200]},
        )  # fmt: skip
    elif not mine and by not in ("", reader):
        audit.append(tx, now, by, "study.assigned", "study", study_uid, {"to": reader})
    elif not mine:
        audit.append(tx, now, reader, "study.claimed", "study", study_uid)
    if opened:
        audit.append(
            tx, now, reader, "study.opened", "study", study_uid, {"next": by_next, "rank": rank_shown}
        )
    taken = {"taken_from": held["reader"], "reason": take_over_reason[:200]} if held and not mine else {}
    tell(tx, now, study_id, claimed_by=reader, **taken, **({"assigned_by": by} if by else {}))
    return study_id


def ask(tx: Connection, study_uid: str, person: str, now: datetime) -> int:
    """Ask whoever holds a study for it; who asked is told when it is free again (ux 5.6).

    raises  Refused when nobody else holds it
    """
    study_id, item = locked_item(tx, study_uid, None)
    held = worklist.live_claim(tx, item["id"], now)
    if held is None or held["reader"] == person:
        raise Refused("nobody else holds this study; claim it")
    worklist.note_asker(tx, held["id"], person)
    audit.append(tx, now, person, "study.asked_for", "study", study_uid, {"holder": held["reader"]})
    tell(tx, now, study_id, asked_by=person, holder=held["reader"])
    return study_id


def next_study(tx: Connection, reader: str, now: datetime) -> str | None:
    """Claim and open the best free study in true order; None when nothing is free (T15)."""
    for _ in range(_NEXT_TRIES):
        item_id = worklist.best_free(tx, reader, now)
        if item_id is None:
            return None
        uid = reading.study_uid_of_item(tx, item_id)
        place = worklist.ranks(tx, now, [item_id]).get(item_id)
        try:
            claim(tx, uid, reader, now, by_next=True, rank_shown=place[0] if place else None)
        except Held:
            continue
        return uid
    return None


def release(tx: Connection, study_uid: str, reader: str, now: datetime, *, version: int | None = None) -> int:
    """Give a study back; raises Held when it is another's, Refused when nobody holds it."""
    study_id, item = locked_item(tx, study_uid, version)
    held = worklist.live_claim(tx, item["id"], now)
    asked = worklist.askers(held)
    if not worklist.drop_claim(tx, item["id"], reader):
        if held is not None:
            raise Held(held["reader"], held["expires_at"], "the study is claimed by")
        raise Refused("you do not hold this study")
    make_free(tx, study_id, item)
    audit.append(tx, now, reader, "study.released", "study", study_uid)
    tell(tx, now, study_id, claimed_by="", free_for=asked)
    return study_id


def keep(tx: Connection, study_uid: str, reader: str, now: datetime) -> int:
    """Renew one's live claim; raises Refused when it has ended, Held when another took it."""
    study_id, item = locked_item(tx, study_uid, None)
    held = worklist.live_claim(tx, item["id"], now)
    if held is None:
        raise Refused("the claim has ended; claim again")
    if held["reader"] != reader:
        raise Held(held["reader"], held["expires_at"], "the study is claimed by")
    worklist.take_claim(tx, item["id"], reader, now, CLAIM_LENGTH)
    tell(tx, now, study_id, claimed_by=reader)
    return study_id


def free_expired(tx: Connection, now: datetime) -> int:
    """Claims that ran out: the rows are free and their former readers are told. For the scheduler's clock."""
    ended = worklist.expired_claims(tx, now)
    for _, study_id, reader, asked in ended:
        item = worklist.find_item(tx, study_id)
        assert item is not None
        make_free(tx, study_id, item)
        uid = studies.get_study(tx, study_id)["study_instance_uid"]
        audit.append(tx, now, "triage", "claim.expired", "study", uid, {"reader": reader})
        tell(tx, now, study_id, claimed_by="", expired_for=reader, free_for=asked)
    return len(ended)
