"""Brings acknowledged objects into the index, several at a time (decision 0007).

An object's bytes and its index entry are durable in one file before its sender hears success. What follows here
changes nothing when done twice, and is done again after any crash: a second name by content, the rows, the seal cut
off, and when the second name is durable the first one removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from triage.dicom.header import check_header
from triage.dicom.receiver_config import ReceivedObject
from triage.dicom.seal import Entry, read_seal
from triage.domain.errors import Refused, TriageError, Unavailable
from triage.domain.study import RADIOGRAPH_CLASSES
from triage.log import get_logger
from triage.store import completeness, registration
from triage.store.database import Database
from triage.store.registration import Arrived
from triage.store.spool import Spool
from triage.workflow.celery import Waker
from triage.workflow.complete import complete_series
from triage.workflow.intake import Intake, arrival_of, intake_group
from triage.workflow.site import Site

log = get_logger()

GATHER_SECONDS = (
    0.3  # the first slice of a group waits so long for others: a transaction costs as much as fifty rows
)
GROUP = 200
SETTLE_SECONDS = (
    2.0  # so often, or after so many objects, places by content are made durable, all with one flush
)
SETTLE = 512
BEHIND_SECONDS = 5.0  # older than this, or more than this many: no more is promised
BEHIND = 2_000
RETRY_SECONDS = 0.5
DRAIN_SECONDS = 10.0


@dataclass(frozen=True)
class _Ended:
    association_id: str
    aborted: bool


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What indexing needs. receiver_id  prefix of this process's association ids, the same after a restart."""

    database: Database
    spool: Spool
    site: Site
    waker: Waker
    clock: Callable[[], datetime]
    receiver_id: str


class Indexer:
    """One thread. `put` and `ended` keep their order: an association's end is judged after its last object.

    on_broken   called once, with what ended the thread: a failed flush (OSError) or an error that nobody foresaw;
                nothing is indexed any more, the process must end and the next one recovers
    say_behind  called with True while no more may be promised: the index is too far behind what was acknowledged
    """

    def __init__(
        self,
        desk: Desk,
        on_broken: Callable[[Exception], None],
        say_behind: Callable[[bool], None],
    ) -> None:
        self._desk, self._on_broken, self._say_behind = desk, on_broken, say_behind
        self._events: deque[tuple[float, ReceivedObject | _Ended]] = deque()
        self._hurried = 0  # how many of them wait for nobody
        self._changed = threading.Condition()
        self._closing = False
        self._done: list[Path] = []  # indexed; their first names are still there
        self._settled_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)
        self._thread.start()

    def put(self, received: ReceivedObject) -> None:
        """Take over a sealed, flushed file: it was acknowledged, or will be."""
        self._append(received)

    def ended(self, association_id: str, aborted: bool) -> None:
        self._append(_Ended(association_id, aborted))

    def close(self) -> None:
        """Index what is waiting; what cannot be in time stays sealed for the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=DRAIN_SECONDS)

    def _append(self, event: ReceivedObject | _Ended) -> None:
        with self._changed:
            self._events.append((time.monotonic(), event))
            self._hurried += _waits_for_nobody(event)
            self._look_behind()
            if len(self._events) == 1 or self._is_urgent():  # one more slice need wake nobody
                self._changed.notify()

    def _look_behind(self) -> None:
        late = bool(self._events) and time.monotonic() - self._events[0][0] > BEHIND_SECONDS
        self._say_behind(late or len(self._events) >= BEHIND)

    def _run(self) -> None:
        try:
            self._index_until_closed()
        except Exception as error:  # noqa: BLE001 (the thread's door: dead without a word, it would be waited for)
            self._on_broken(error)

    def _index_until_closed(self) -> None:
        """raises  OSError: a failed flush, which may not be tried again"""
        while True:
            group = self._gather()
            try:
                self._work(group)
                self._settle_now_and_then(final=not group)
            except (Unavailable, OSError) as error:
                if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                log.warning("index.unavailable", count=len(group), error=str(error))
                with self._changed:
                    self._look_behind()
                    if self._changed.wait_for(lambda: self._closing, timeout=RETRY_SECONDS):
                        return
                continue
            with self._changed:
                for event in group:
                    self._events.popleft()
                    self._hurried -= _waits_for_nobody(event)
                self._look_behind()
                if self._closing and not self._events and not self._done:
                    return

    def _gather(self) -> list[ReceivedObject | _Ended]:
        """The oldest events, still in the queue; empty when nothing has come for a while or it is time to go."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._closing, SETTLE_SECONDS)
            if self._events:
                self._changed.wait_for(self._is_urgent, GATHER_SECONDS)
            return [event for _, event in itertools.islice(self._events, GROUP)]

    def _is_urgent(self) -> bool:
        """Also when slices came after what hurries, before this thread could look."""
        return self._closing or len(self._events) >= GROUP or self._hurried > 0

    def _settle_now_and_then(self, *, final: bool) -> None:
        late = time.monotonic() - self._settled_at > SETTLE_SECONDS
        if final or late or len(self._done) >= SETTLE:
            done, self._done = self._done, []
            self._settled_at = time.monotonic()
            settle(self._desk.spool, done)

    def _work(self, group: Sequence[ReceivedObject | _Ended]) -> None:
        objects = [event for event in group if not isinstance(event, _Ended)]
        if objects:
            self._done += index(self._desk, objects)
        for event in group:
            if isinstance(event, _Ended):
                self._end(event)

    def _end(self, event: _Ended) -> None:
        """The transfer is over: judge its series at once rather than at the next sweep."""
        desk = self._desk
        association_id = f"{desk.receiver_id}:{event.association_id}"
        with desk.database.write() as tx:
            touched = completeness.association_ended(tx, association_id, event.aborted, desk.clock())
        for series_id in touched:
            try:
                with desk.database.write() as tx:
                    wake = complete_series(tx, series_id, desk.site, desk.clock())
            except (Unavailable, OSError):
                raise
            except Exception:
                log.error("series.not_judged", code=series_id, exc_info=True)
                continue
            desk.waker.wake(wake)


def _waits_for_nobody(event: ReceivedObject | _Ended) -> bool:
    """A slice waits for its neighbours; a film, or the end of a transfer, does not."""
    return isinstance(event, _Ended) or event.sop_class_uid in RADIOGRAPH_CLASSES


def index(desk: Desk, objects: Sequence[ReceivedObject]) -> list[Path]:
    """Give sealed files their rows, in one transaction, and take their seals off; returns those that are done.

    Their first names may go once the second ones are durable: `settle`. An object that cannot be indexed is put
    aside and said: it was acknowledged, so it is kept.

    raises  Unavailable: then all of them are as they were
    """
    for one in objects:
        with contextlib.suppress(FileExistsError):
            os.link(one.path, desk.spool.path(one.digest))
    try:
        taken = _commit(desk, objects)
    except (Unavailable, OSError):
        raise
    except Exception as error:  # noqa: BLE001 (one bad object must not hold up its neighbours)
        if len(objects) > 1:
            return [path for one in objects for path in index(desk, [one])]
        _put_aside(desk, objects[0], error)
        return []
    for one, intaken in zip(objects, taken, strict=True):
        os.truncate(one.path, one.size)
        if intaken.arrived is not Arrived.NEW:
            log.warning(
                "instance.kept_aside", reason=intaken.arrived.value, sop_instance_uid=one.sop_instance_uid
            )
    for intaken in taken:
        desk.waker.wake(intaken.wake)
    return [one.path for one in objects]


def settle(spool: Spool, done: Sequence[Path]) -> None:
    """Make the places by content durable for all of them together, then let the first names go."""
    if done:
        spool.sync_objects()
        for path in done:
            path.unlink(missing_ok=True)


def recover(desk: Desk, paths: Sequence[Path]) -> int:
    """Take up what processes that are gone had acknowledged; returns how many objects that were.

    With a seal: not known to be indexed. Without, but whole and in the index: its place may not have been durable.
    Anything else was never acknowledged, and stays for the caller to remove.
    """
    sealed, indexed = [], 0
    for path in [*paths, *sorted(desk.spool.aside.glob("*.dcm"))]:
        entry = read_seal(path)
        if entry is not None:
            sealed += _read_again(desk, path, entry)
        elif path.stat().st_size:
            indexed += _place_again(desk, path)
    done = []
    for start in range(0, len(sealed), GROUP):
        done += index(desk, sealed[start : start + GROUP])
    if sealed or indexed:
        desk.spool.sync_objects()
        log.info("receiver.recovered", count=len(sealed) + indexed)
    for path in done:
        path.unlink()
    return len(sealed) + indexed


def _read_again(desk: Desk, path: Path, entry: Entry) -> list[ReceivedObject]:
    try:
        header = check_header(path)
    except Refused as error:  # it was read before it was acknowledged: other code than ours wrote this file
        log.error("instance.not_recovered", digest=entry.digest, detail=str(error))
        path.replace(desk.spool.aside / f"{entry.digest}.unreadable")
        return []
    return [
        ReceivedObject(
            path=path,
            digest=entry.digest,
            size=entry.size,
            header=header,
            calling_ae_title=entry.calling_ae_title,
            called_ae_title=entry.called_ae_title,
            association_id="",  # its association is over, whoever hears of it first
            address=entry.address,
        )
    ]


def _place_again(desk: Desk, path: Path) -> bool:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with desk.database.read() as tx:
        known = registration.is_held(tx, digest)
    if known:
        with contextlib.suppress(FileExistsError):
            os.link(path, desk.spool.path(digest))
    return known


def _commit(desk: Desk, objects: Sequence[ReceivedObject]) -> list[Intake]:
    arrivals = [
        arrival_of(
            one.header.decode(),
            one.digest,
            one.size,
            one.calling_ae_title,
            f"{desk.receiver_id}:{one.association_id}" if one.association_id else "",
        )
        for one in objects
    ]
    with desk.database.write() as tx:
        return intake_group(tx, arrivals, desk.site, desk.clock())


def _put_aside(desk: Desk, one: ReceivedObject, error: Exception) -> None:
    target = desk.spool.aside / f"{one.digest}.dcm"
    one.path.replace(target)
    reason = str(error) if isinstance(error, TriageError) else ""
    log.error("instance.not_indexed", digest=one.digest, error=type(error).__name__, detail=reason,
              fix="it is kept and tried again at the next start; triage doctor")  # fmt: skip
