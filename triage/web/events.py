"""`/api/v1/events`: what changed, as server-sent events. One poller per process feeds every open page.

An event is a hint (which study, which alert): the page asks for the rows, so a doubled event does no harm and a lost
one is found by the next. Each open stream holds a thread, hence the cap: beyond it pages poll with ETag.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from typing import Any

from flask import Response, request

from triage.domain.errors import Refused, TriageError
from triage.log import get_logger
from triage.settings import Settings
from triage.store import reading
from triage.store.database import Database
from triage.store.events import last_event_id
from triage.web import auth
from triage.web.context import Call, Clock, Principal, Route, Web, stamp
from triage.web.problems import Denied
from triage.workflow import health

log = get_logger()

POLL_SECONDS = 0.25
BEAT_SECONDS = 10.0
GAP_MAX = 500  # missed events beyond which a page fetches anew (ux 6.1)
QUEUE_MAX = 1000  # a page that reads slower than that is dropped; it resumes by Last-Event-ID
_END = b""


class Feed:
    """Listeners of this process, and the one thread that asks the database for them."""

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        self._settings, self._database, self._clock = settings, database, clock
        self._lock = threading.Lock()
        self._queues: set[queue.Queue[bytes]] = set()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def listeners(self) -> int:
        return len(self._queues)

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def subscribe(self) -> queue.Queue[bytes]:
        """A queue of encoded events; b"" means the end. raises Denied 503 at the cap."""
        with self._lock:
            if self.stopped or len(self._queues) >= self._settings.web.listeners_max:
                raise Denied(503, "too many open streams; poll the list instead", 15)
            found: queue.Queue[bytes] = queue.Queue(QUEUE_MAX)
            self._queues.add(found)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
                self._thread.start()
            return found

    def unsubscribe(self, listener: queue.Queue[bytes]) -> None:
        with self._lock:
            self._queues.discard(listener)

    def stop(self) -> None:
        """End every stream: at SIGTERM, since a server waits for its open answers. Only sets a flag."""
        self._stop.set()

    def beat(self) -> bytes:
        """The `health` event: also the heartbeat, since a comment line never reaches a script."""
        now = self._clock()
        try:
            with self._database.read() as tx:
                degraded = health.degraded(tx, self._settings, now, self._database.read_only_since)
        except TriageError as error:
            degraded = [{"part": "database", "since": stamp(now), "text": str(error)}]
        return encode(
            "health", {"as_of": stamp(now), "status": "degraded" if degraded else "ok", "degraded": degraded}
        )

    def _run(self) -> None:
        last = self._newest()
        beat_at = 0.0
        while not self._stop.wait(POLL_SECONDS):
            beat_at += POLL_SECONDS
            if beat_at >= BEAT_SECONDS and self._queues:
                beat_at = 0.0
                self._send(self.beat())
            try:
                last = self._pass_on(last)
            except TriageError as error:
                log.warning("feed.waiting", error=str(error))
        self._send(_END)

    def _newest(self) -> int:
        try:
            with self._database.read() as tx:
                return last_event_id(tx)
        except TriageError:
            return 0

    def _pass_on(self, last: int) -> int:
        """Numbers are in the order of commits (`store.events.publish`): what comes after the last is all that is new."""
        with self._database.read() as tx:
            newest = last_event_id(tx)
            if newest == last:
                return last
            # Another database may have been put in its place (restore): its ids begin anew.
            found = reading.feed(tx, last if newest > last else 0, limit=QUEUE_MAX)
        for event in found:
            self._send(encode_row(event))
        return int(found[-1]["id"]) if len(found) == QUEUE_MAX else newest

    def _send(self, message: bytes) -> None:
        with self._lock:
            for listener in list(self._queues):
                try:
                    listener.put_nowait(message)
                except queue.Full:
                    self._queues.discard(listener)
                    _drop(listener)


def _drop(listener: queue.Queue[bytes]) -> None:
    """A reader too slow: make room for the end, and end it."""
    while True:
        try:
            listener.get_nowait()
        except queue.Empty:
            break
    listener.put_nowait(_END)


def encode(kind: str, data: dict[str, Any], event_id: int | None = None) -> bytes:
    head = "" if event_id is None else f"id: {event_id}\n"
    return f"{head}event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def encode_row(event: dict[str, Any]) -> bytes:
    data = {"study_uid": event["study_instance_uid"], **event["data"]} if event["study_id"] else event["data"]
    return encode(event["kind"], data, event["id"])


def get_events(call: Call) -> Response:
    """Server-sent events: worklist, alert, health; resumes after Last-Event-ID."""
    web = call.web
    after = _last_event_id()
    secret = request.cookies.get(auth.cookie_name(web), "")
    if not call.who.is_person:
        secret = request.headers["Authorization"].partition(" ")[2].strip()
    listener = web.feed.subscribe()
    response = Response(_stream(web, listener, after, call.who, secret), mimetype="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(lambda: web.feed.unsubscribe(listener))
    return response


def _stream(
    web: Web, listener: queue.Queue[bytes], after: int | None, who: Principal, secret: str
) -> Iterator[bytes]:
    yield b"retry: 3000\n\n"
    told: set[bytes] = set()
    if after is None:
        yield (
            b"id: %d\n" % _newest(web) + web.feed.beat()
        )  # so that even a stream that said nothing can resume
    else:
        yield web.feed.beat()
        missed = _missed(web, after)
        told.update(missed)
        yield from missed
    while True:
        try:
            message = listener.get(timeout=BEAT_SECONDS * 2)
        except queue.Empty:
            message = web.feed.beat()  # the poller hangs on a database; the page still hears from us
        if message == _END:
            return
        if message in told:
            told.discard(message)  # it came with the backlog already
            continue
        if message.startswith(b"event: health") and not auth.session_lives(web, who, secret, web.clock()):
            return
        yield message


def _missed(web: Web, after: int) -> list[bytes]:
    """Events after the last one that the page heard; or word to fetch anew when the gap is too wide."""
    with web.database.read() as tx:
        rows = reading.feed(tx, after, limit=GAP_MAX + 1)
        oldest, newest = reading.oldest_event_id(tx), last_event_id(tx)
    forgotten = oldest is not None and after + 1 < oldest
    if len(rows) > GAP_MAX or forgotten or after > newest:
        return [encode("worklist", {"reload": True}, newest)]
    return [encode_row(r) for r in rows]


def _newest(web: Web) -> int:
    with web.database.read() as tx:
        return last_event_id(tx)


def _last_event_id() -> int | None:
    sent = request.headers.get("Last-Event-ID", "").strip()
    if not sent:
        return None
    if not sent.isascii() or not sent.isdigit() or len(sent) > 18:
        raise Refused("Last-Event-ID is a number that this stream gave")
    return int(sent)


ROUTES = (Route(path="/api/v1/events", view=get_events, scopes=("worklist:read",), needs_tx=False),)
