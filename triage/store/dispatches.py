"""What of ours goes to which peer, how far it got, and who has committed it. States move as `domain.dispatch` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select, update
from sqlalchemy.sql import Select

from triage.domain.dispatch import DispatchState, state_after
from triage.store.schema import dispatch, output, run, study
from triage.store.upsert import insert_or_get

NOTE = "note"  # the kind of a note that takes others back


@dataclass(frozen=True)
class Due:
    """One object that a peer should get, or commit."""

    id: int
    output_id: int
    kind: str
    sop_instance_uid: str
    path: str
    state: DispatchState
    attempts: int
    commit_attempts: int
    study_instance_uid: str
    run_id: int
    identity_version: int  # of the object
    why: str  # it is out of date; "": it is not
    is_there: bool  # the peer said that it stored it
    may_be_there: bool  # it was offered, and no answer came


def want(tx: Connection, output_id: int, peer: str, now: datetime) -> None:
    """This object is to go to this peer; what is known already stays as it is, what is out of date stays here."""
    current = select(output.c.id).where(output.c.id == output_id, output.c.state == "written")
    if tx.execute(current.with_for_update()).first() is None:  # the lock: nobody outdates it meanwhile
        return
    key = {"output_id": output_id, "peer": peer}
    insert_or_get(tx, dispatch, key, {"created_at": now, "next_attempt_at": now})


def due_to_send(tx: Connection, peer: str, now: datetime, limit: int) -> list[Due]:
    """Oldest first, so that a report comes before the one that names it as its predecessor.

    Of a study that was named anew nothing leaves before the publisher has looked at it. What is out of date and may be
    there is brought there for certain: the note that takes it back must find it.
    """
    named_rightly = or_(~run.c.named_anew, output.c.kind == NOTE)
    goes = or_(
        and_(output.c.state == "written", named_rightly),
        and_(output.c.state == "superseded", dispatch.c.begun_at.is_not(None)),
    )
    return _listed(tx, _due(peer, now).where(dispatch.c.state == DispatchState.WANTED.value, goes), limit)


def due_to_commit(tx: Connection, peer: str, now: datetime, limit: int) -> list[Due]:
    return _listed(tx, _due(peer, now).where(dispatch.c.state == DispatchState.SENT.value), limit)


def due_to_take_back(tx: Connection, peer: str, limit: int) -> list[Due]:
    """What went out of date since it was wanted, whatever became of it at this peer.

    limit  of sets (Run and version of the identity): each is whole, as the one note that takes it back must be
    """
    outdated = and_(
        dispatch.c.peer == peer, dispatch.c.outdated, dispatch.c.state != DispatchState.WITHDRAWN.value
    )
    made_together = (output.c.run_id, output.c.identity_version)
    sets = select(*made_together).join(dispatch, dispatch.c.output_id == output.c.id).where(outdated)
    first = sets.distinct().order_by(*made_together).limit(limit).subquery()
    of_them = and_(first.c.run_id == output.c.run_id, first.c.identity_version == output.c.identity_version)
    return _listed(tx, _all().join(first, of_them).where(outdated), None)


def outdate(tx: Connection, run_ids: Sequence[int], why: str, *, before_version: int | None = None) -> int:
    """Objects of these runs (only those made before this version of the identity) are out of date.

    why      of `domain.dispatch.TITLE_OF`
    returns  how many wait to be sent and will not be
    """
    old = [output.c.run_id.in_(list(run_ids)), output.c.kind != NOTE, output.c.state != "superseded"]
    if before_version is not None:
        old.append(output.c.identity_version < before_version)
    gone = update(output).where(*old).values(state="superseded", detail=why).returning(output.c.id)
    ids = list(tx.execute(gone).scalars()) if run_ids else []
    if not ids:
        return 0
    tx.execute(update(dispatch).where(dispatch.c.output_id.in_(ids)).values(outdated=True))
    unsent = select(func.count()).where(
        dispatch.c.output_id.in_(ids), dispatch.c.state == DispatchState.WANTED.value
    )
    return int(tx.execute(unsent).scalar_one())


def begin(tx: Connection, due: Sequence[Due], now: datetime) -> None:
    """These are offered now: whoever comes after a crash knows that they may have arrived."""
    tx.execute(update(dispatch).where(dispatch.c.id.in_([d.id for d in due])).values(begun_at=now))


def answered(tx: Connection, due: Due) -> None:
    tx.execute(update(dispatch).where(dispatch.c.id == due.id).values(begun_at=None))


def of_transaction(tx: Connection, transaction_uid: str) -> list[Due]:
    """What still waits for the report of this transaction; () once it is settled (its UID is dead then)."""
    query = _all().where(dispatch.c.transaction_uid == transaction_uid, dispatch.c.transaction_uid != "")
    return _listed(tx, query.where(dispatch.c.state == DispatchState.SENT.value), None)


def move(tx: Connection, due: Due, event: str, **values: Any) -> bool:
    """Take a row on; False when somebody else moved it meanwhile."""
    found = (
        update(dispatch)
        .where(dispatch.c.id == due.id, dispatch.c.state == due.state.value)
        .values(state=state_after(due.state, event).value, **_short(values))
    )
    return tx.execute(found).rowcount == 1


def keep(tx: Connection, due: Due, **values: Any) -> bool:
    """Note something about a row that stays in its state."""
    found = update(dispatch).where(dispatch.c.id == due.id, dispatch.c.state == due.state.value)
    return tx.execute(found.values(**_short(values))).rowcount == 1


def again(tx: Connection, output_id: int, now: datetime) -> int:
    """A person wants what was refused or parked to be tried again; returns how many rows."""
    query = _all().where(
        dispatch.c.output_id == output_id,
        dispatch.c.state.in_((DispatchState.REFUSED.value, DispatchState.PARKED.value)),
    )
    rows = _listed(tx, query, None)
    fresh = {"attempts": 0, "commit_attempts": 0, "next_attempt_at": now, "transaction_uid": ""}
    return sum(move(tx, row, "again", **fresh) for row in rows)


def of_outputs(tx: Connection, output_ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {i: [] for i in output_ids}
    if output_ids:
        query = select(dispatch).where(dispatch.c.output_id.in_(output_ids)).order_by(dispatch.c.peer)
        for row in tx.execute(query).mappings():
            found[row["output_id"]].append(dict(row))
    return found


def counts(tx: Connection) -> Mapping[str, tuple[int, datetime]]:
    """{state: (how many, oldest created)}, for health and metrics."""
    query = select(dispatch.c.state, func.count(), func.min(dispatch.c.created_at)).group_by(dispatch.c.state)
    return {state: (int(count), oldest) for state, count, oldest in tx.execute(query)}


def _short(values: dict[str, Any]) -> dict[str, Any]:
    return values | ({"detail": values["detail"][:400]} if "detail" in values else {})


def _all() -> Select[Any]:
    return (
        select(
            dispatch.c.id,
            dispatch.c.output_id,
            dispatch.c.state,
            dispatch.c.attempts,
            dispatch.c.commit_attempts,
            output.c.kind,
            output.c.sop_instance_uid,
            output.c.path,
            study.c.study_instance_uid,
            output.c.run_id,
            output.c.identity_version,
            case((output.c.state == "superseded", output.c.detail), else_="").label("why"),
            dispatch.c.sent_at.is_not(None).label("is_there"),
            dispatch.c.begun_at.is_not(None).label("may_be_there"),
        )
        .join(output, output.c.id == dispatch.c.output_id)
        .join(run, run.c.id == output.c.run_id)
        .join(study, study.c.id == run.c.study_id)
    )


def _due(peer: str, now: datetime) -> Select[Any]:
    return _all().where(dispatch.c.peer == peer, dispatch.c.next_attempt_at <= now)


def _listed(tx: Connection, query: Select[Any], limit: int | None) -> list[Due]:
    rows = tx.execute(query.order_by(dispatch.c.output_id, dispatch.c.id).limit(limit)).mappings()
    return [Due(**{**row, "state": DispatchState(row["state"])}) for row in rows]
