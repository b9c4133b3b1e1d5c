"""Objects of ours that went out of date are not sent any more, and taken back where they are (IHE IOCM; standards 2.7).

The sender's step, in its own thread: nothing of this peer is on its way meanwhile. What was offered without an answer
is brought there first; a note that names what an archive does not have would be refused. Where that was given up, the
note names it all the same: a refused note is seen by a person, another patient's object in an archive by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby

from sqlalchemy import Connection

from triage.dicom.objects import note
from triage.dicom.objects.common import Made
from triage.domain.dispatch import TITLE_OF, DispatchState
from triage.domain.errors import Conflict, Refused
from triage.domain.finding import Mode
from triage.log import get_logger
from triage.settings import OutletSettings, Settings
from triage.store import audit, dispatches, outputs
from triage.store.database import Database
from triage.store.dispatches import Due
from triage.workflow.publish import analysis_of, reference, write

BATCH = 50  # sets
log = get_logger()


def take_back(
    database: Database, settings: Settings, outlet: OutletSettings, clock: Callable[[], datetime]
) -> int:
    """Settle what is out of date at this peer; how many objects.

    raises  Unavailable when database or disk are away
    """
    with database.read() as tx:
        outdated = dispatches.due_to_take_back(tx, outlet.peer, BATCH)
    settled = 0
    for one_set in _sets(outdated):
        if outlet.rejection_notes and any(_may_arrive(d) for d in one_set):
            continue
        there = [d for d in one_set if _is_there(d)] if outlet.rejection_notes else []
        made = _note(database, settings, outlet.peer, there, clock()) if there else None
        try:
            with database.write() as tx:
                _settle(tx, settings, outlet.peer, one_set, made, clock())
        except Conflict:  # a report moved one on since it was read: the next turn sees the set as it is then
            continue
        settled += len(one_set)
    return settled


def _sets(outdated: list[Due]) -> Iterator[list[Due]]:
    """By Run and version of the identity: what was made together is taken back together."""
    key = lambda d: (d.run_id, d.identity_version)  # noqa: E731
    for _, of_one in groupby(sorted(outdated, key=key), key):
        yield list(of_one)


def _may_arrive(due: Due) -> bool:
    return due.state is DispatchState.WANTED and due.may_be_there


def _is_there(due: Due) -> bool:
    """The peer said so, or nobody tries any more to find out."""
    return due.is_there or (due.may_be_there and due.state is not DispatchState.WANTED)


def _note(
    database: Database, settings: Settings, peer: str, there: Sequence[Due], now: datetime
) -> tuple[Made, str] | None:
    """The note and its path; None where the images are gone by now and nothing can be said of whom they were."""
    first = there[0]
    with database.read() as tx:
        run = outputs.find_run(tx, first.run_id, at=first.identity_version)
        if run is None:
            return None
        try:
            analysis = analysis_of(tx, run, Mode.TRIAGE_ONLY, settings.dicom.ae_title)
        except Refused as error:
            log.warning("note.not_made", run_id=first.run_id, reason=str(error))
            return None
    rejected = [reference(run, d.kind, d.identity_version) for d in there]
    told = replace(analysis, finished_at=now)
    made = note.build(told, rejected, TITLE_OF[first.why], first.why, peer=peer)
    path = f"{run.study_instance_uid}/{made.kind}-{made.sop_instance_uid}.dcm"
    return made, path


def _settle(
    tx: Connection, settings: Settings, peer: str, one_set: Sequence[Due], made: tuple[Made, str] | None, now: datetime
) -> None:  # fmt: skip
    """Withdraw the whole set with the note that names it, whose file is written by the one who could.

    raises  Conflict when somebody moved an object of the set meanwhile
    """
    first = one_set[0]
    for due in one_set:
        words = first.why if _is_there(due) or due.state is DispatchState.WANTED else ""
        if not dispatches.move(tx, due, "withdrawn", next_attempt_at=None, begun_at=None, detail=words):
            raise Conflict(f"dispatch {due.id} is no longer {due.state.value}")
    if made is None:
        return
    document, path = made
    output_id = outputs.record(
        tx, first.run_id, document.kind, document.sop_instance_uid, now, path=path,
        identity_version=first.identity_version, peer=peer, detail=first.why,
    )  # fmt: skip
    if output_id is None:  # of a set that was cut before it came here: one UID does not get other content
        log.warning("note.known_already", run_id=first.run_id, peer=peer)
    else:
        write(settings.outputs, path, document.content)
        dispatches.want(tx, output_id, peer, now)
        detail = {
            "peer": peer,
            "run": first.run_id,
            "objects": [d.sop_instance_uid for d in one_set if _is_there(d)],
        }
        audit.append(tx, now, "triage", "output.taken_back", "output", document.sop_instance_uid, detail)
