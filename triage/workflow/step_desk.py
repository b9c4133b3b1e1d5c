"""Answers for the reading list's steps over DIMSE: the same acts as over UPS-RS, with the statuses of PS3.4 CC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from pydicom.dataset import Dataset
from sqlalchemy import Connection

from triage.dicom import workitem as dataset
from triage.dicom.statuses import INVALID_ATTRIBUTE_VALUE, MISSING_ATTRIBUTE, Failed
from triage.dicom.ups import Asked
from triage.domain.errors import Conflict, Refused
from triage.domain.workitem import FINAL, StepState
from triage.store import peers
from triage.store import workitems as store
from triage.store.database import Database
from triage.store.subscriptions import FILTERED, GLOBAL
from triage.workflow import subscriptions, workitems
from triage.workflow.read.row import Held, NotFound

ALREADY_CANCELED, ALREADY_COMPLETED = 0xB304, 0xB306
NO_LONGER, WRONG_TRANSACTION, IN_PROGRESS_ALREADY, NEEDS_MORE = 0xC300, 0xC301, 0xC302, 0xC304
BY_CREATE_ALONE, UNKNOWN, UNKNOWN_RECEIVER = 0xC303, 0xC307, 0xC308
NOT_IN_PROGRESS, IS_COMPLETED, WILL_NOT, NOT_FITTING = 0xC310, 0xC311, 0xC313, 0xC314
MOST = 1_000  # steps of one answer


class StepDesk:
    """retrieve_url  base of our DICOMweb, as others reach it"""

    def __init__(self, database: Database, clock: Callable[[], datetime], retrieve_url: str) -> None:
        self._database, self._clock, self._url = database, clock, retrieve_url

    def find(self, asked: Asked) -> Iterator[Dataset]:
        now = self._clock()
        with self._database.write() as tx:
            workitems.follow(tx, now)
        with self._database.read() as tx:
            since = now - workitems.ENDED_SHOWN
            rows = store.search(tx, since=since, limit=MOST, **asked.matches)
            found = [self._dataset(tx, row) for row in rows]
        yield from found

    def get(self, uid: str) -> Dataset:
        with self._acting(uid) as (tx, _):
            return self._dataset(tx, workitems.get(tx, uid))

    def update(self, uid: str, said: Dataset) -> None:
        transaction = str(said.get("TransactionUID") or "")
        if "TransactionUID" in said:
            del said.TransactionUID
        performed = dataset.performed(said.to_json_dict())
        with self._acting(uid) as (tx, now):
            workitems.note(tx, uid, transaction, performed, now)

    def move(self, uid: str, state: str, transaction_uid: str, who: str) -> int:
        """The status: a warning where it was so already (PS3.4 table CC.1.1-2)."""
        if state == StepState.SCHEDULED.value:
            raise Failed(BY_CREATE_ALONE, "a step is SCHEDULED when it is made")
        if state not in (s.value for s in StepState):
            raise Failed(INVALID_ATTRIBUTE_VALUE, "Procedure Step State (0074,1000)")
        claims = state == StepState.IN_PROGRESS.value
        with self._acting(uid, IN_PROGRESS_ALREADY if claims else NEEDS_MORE) as (tx, now):
            if claims:
                if not workitems.start(tx, uid, transaction_uid, _name(who), now):
                    raise Failed(IN_PROGRESS_ALREADY, "it is yours already")
                return 0
            if workitems.finish(tx, uid, transaction_uid, StepState(state), now):
                return 0
        return ALREADY_COMPLETED if state == StepState.COMPLETED.value else ALREADY_CANCELED

    def ask_cancel(self, uid: str, reason: str, who: str) -> int:
        with self._acting(uid) as (tx, now):
            state = workitems.get(tx, uid)["state"]
            if state == StepState.CANCELED.value:
                return ALREADY_CANCELED
            if state == StepState.COMPLETED.value:
                raise Failed(IS_COMPLETED, "the step is COMPLETED")
            if state == StepState.SCHEDULED.value:
                raise Failed(WILL_NOT, "the study waits to be read")
            workitems.ask_cancel(tx, uid, _name(who), reason[:1024], now)
        return 0

    def subscribe(self, uid: str, receiver: str, asked: Asked) -> None:
        """A key that we do not match refuses a filter: its subscriber would hear of steps that it did not ask for."""
        if uid == FILTERED and asked.ignored:
            raise Failed(NOT_FITTING, "a key of the filter is not matched here")
        if uid == FILTERED and not asked.matches:
            raise Failed(MISSING_ATTRIBUTE, "a filter with at least one key and its value")
        with self._acting(uid) as (tx, now):
            if not peers.hosts_of(tx, receiver):
                raise Failed(UNKNOWN_RECEIVER, "the receiving AE is no peer here")
            subscriptions.subscribe(tx, receiver, uid, _name(receiver), now, asked.matches)

    def unsubscribe(self, uid: str, receiver: str) -> None:
        with self._acting(uid) as (tx, now):
            subscriptions.unsubscribe(tx, receiver, uid, _name(receiver), now)

    def suspend(self, uid: str, receiver: str) -> None:
        if uid not in (GLOBAL, FILTERED):
            raise Failed(NOT_FITTING, "only a global subscription is suspended")
        with self._acting(uid) as (tx, now):
            subscriptions.suspend(tx, receiver, _name(receiver), now)

    @contextmanager
    def _acting(self, uid: str, missing: int = NOT_FITTING) -> Iterator[tuple[Connection, datetime]]:
        """One unit of work on a step as the list has it now; errors get the status that PS3.4 CC gives them.

        missing  status when the step is the performer's and yet cannot do what was asked
        """
        now = self._clock()
        try:
            with self._database.write() as tx:
                workitems.follow(tx, now)
                yield tx, now
        except Failed:
            raise
        except NotFound as error:
            raise Failed(UNKNOWN, "no such work item") from error
        except workitems.NotThisTransaction as error:
            raise Failed(WRONG_TRANSACTION, "not the performer's Transaction UID") from error
        except Held as error:
            raise Failed(IN_PROGRESS_ALREADY, "a reader has the study") from error
        except workitems.WrongState as error:
            raise Failed(self._why(uid, missing), "not in this state of the step") from error
        except (Conflict, Refused) as error:
            raise Failed(NOT_FITTING, "not possible for this step") from error

    def _why(self, uid: str, missing: int) -> int:
        with self._database.read() as tx:
            row = store.find(tx, uid)
        state = StepState(row["state"]) if row else StepState.CANCELED
        if state in FINAL:
            return NO_LONGER
        if state is StepState.SCHEDULED:
            return NOT_IN_PROGRESS
        return missing

    def _dataset(self, tx: Connection, row: dict[str, object]) -> Dataset:
        return dataset.as_dataset(row, store.series_of(tx, int(str(row["study_id"]))), self._url)


def _name(ae_title: str) -> str:
    return f"dicom:{ae_title}"
