"""Subscriptions to work items, and the channel over which their events come: a WebSocket (PS3.18 8.10, 11.9 to 11.13)."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from urllib.parse import quote

from flask import Response, request
from simple_websocket import ConnectionClosed, Server
from sqlalchemy import Connection

from triage.dicom import workitem as dataset
from triage.domain.errors import Refused, TriageError
from triage.log import get_logger
from triage.store import subscriptions as store
from triage.store import workitems as steps
from triage.web import auth
from triage.web.context import Call, Route, Web
from triage.web.dicomweb_worklist import BASE, READ, add_key
from triage.web.problems import Denied, problem
from triage.workflow import subscriptions, workitems

POLL_SECONDS = 1.0
PING_SECONDS = 25
SEND_SECONDS = 20.0
POLICY_VIOLATION, GOING_AWAY = 1008, 1001  # RFC 6455 7.4.1
MESSAGE_BYTES_MAX = 1024  # of a client, which has nothing to say
NO_LOCK = "299 triage: The deletion lock was not granted: a step goes with its study."
_AE = re.compile(r"[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?\Z")
log = get_logger()


def subscribe(call: Call, uid: str, ae: str) -> Response:
    """201 with the address of the event channel; the state of now comes as its first events. A filtered one: ?filter="""
    _check(ae)
    try:
        matching = _filter() if uid == store.FILTERED else None
        done = _acted(
            call, lambda tx: subscriptions.subscribe(tx, ae, uid, call.who.name, call.now, matching), 201
        )
    except subscriptions.NoFilter as error:
        return problem(400, "bad-request", str(error))
    except subscriptions.FilterNotSupported as error:
        return problem(403, "forbidden", str(error))
    if done.status_code == 201:
        done.headers["Content-Location"] = _channel_url(ae)
        if request.args.get("deletionlock") == "true":
            done.headers["Warning"] = NO_LOCK
    return done


def unsubscribe(call: Call, uid: str, ae: str) -> Response:
    """One work item, or with a global UID all of them."""
    _check(ae)
    return _acted(call, lambda tx: subscriptions.unsubscribe(tx, ae, uid, call.who.name, call.now), 200)


def suspend(call: Call, uid: str, ae: str) -> Response:
    """A global subscription takes no new work items."""
    _check(ae)
    if uid not in (store.GLOBAL, store.FILTERED):
        return problem(400, "bad-request", "only a global subscription is suspended")
    return _acted(call, lambda tx: subscriptions.suspend(tx, ae, call.who.name, call.now), 200)


def channel(call: Call, ae: str) -> Response:
    """The WebSocket of one subscriber: an event a message, as DICOM JSON."""
    _check(ae)
    if call.who.is_person:
        auth.check_origin()  # a browser opens sockets for any site, with our cookie
    with call.web.database.read() as tx:
        held = store.find_subscriber(tx, ae)
    if held is None or held["owner"] != call.who.name:
        return problem(404, "not-found", "nobody of this AE title has subscribed with this token")
    if request.headers.get("Upgrade", "").lower() != "websocket":
        response = problem(426, "bad-request", "this address speaks the WebSocket protocol (RFC 6455)")
        response.headers["Upgrade"] = "websocket"
        return response
    if not call.web.channels.acquire(blocking=False):
        raise Denied(503, "as many event channels are open as may be", 60)
    try:
        _serve(call, ae, int(held["told_up_to"]))
    finally:
        call.web.channels.release()
    return _Over()


class _Over(Response):
    """The socket was the channel's: nothing may be written to it any more."""

    def __call__(self, *_: Any) -> Iterable[bytes]:
        raise StopIteration  # gunicorn closes the connection (gthread)


def _serve(call: Call, ae: str, told: int) -> None:
    sock = request.environ["gunicorn.socket"]
    sock.settimeout(SEND_SECONDS)  # of a send; the reader waits with a selector
    secret = request.headers.get("Authorization", "").partition(" ")[2].strip()
    if call.who.is_person:
        secret = request.cookies.get(auth.cookie_name(call.web), "")
    try:
        ws = Server.accept(
            request.environ, ping_interval=PING_SECONDS, max_message_size=MESSAGE_BYTES_MAX,
            thread_class=partial(threading.Thread, daemon=True),
        )  # fmt: skip
        code = _pump(call, ws, ae, told, secret)
        ws.close(code)
    except (ConnectionClosed, OSError):
        pass


def _pump(call: Call, ws: Server, ae: str, told: int, secret: str) -> int:
    """Events until the client goes; the close code when it is we who end it."""
    web, asked_at = call.web, time.monotonic()
    while not web.feed.stopped:
        try:
            told = _pass_on(web, ws, ae, told)
            if time.monotonic() - asked_at >= PING_SECONDS:
                asked_at = time.monotonic()
                if not auth.session_lives(web, call.who, secret, web.clock()):
                    return POLICY_VIOLATION
        except TriageError as error:
            log.warning("channel.waiting", error=str(error))
        if ws.receive(timeout=POLL_SECONDS) is not None:
            return POLICY_VIOLATION
    return GOING_AWAY


def _pass_on(web: Web, ws: Server, ae: str, told: int) -> int:
    now = web.clock()
    with web.database.read() as tx:
        behind = bool(steps.stale(tx, now, 1))
    if behind:
        with web.database.write() as tx:
            workitems.follow(tx, now)
    with web.database.read() as tx:
        found, last = store.events_for(tx, ae, told)
    for one in found:
        ws.send(json.dumps(dataset.event(one["id"], one["sop_instance_uid"], one["kind"], one["data"])))
    if last != told:
        with web.database.write() as tx:
            store.told(tx, ae, last)
    return last


def _acted(call: Call, act: Callable[[Connection], None], status: int) -> Response:
    try:
        with call.web.database.write() as tx:
            act(tx)
    except subscriptions.NotYours as error:
        return problem(403, "forbidden", str(error))
    return Response(status=status)


def _check(ae: str) -> None:
    if not _AE.match(ae):
        raise Refused("an AE title has 1 to 16 printable characters")


def _filter() -> dict[str, Any]:
    """Keys of ?filter=name=value,name=value, or as parameters of their own, as some clients send them.

    raises  FilterNotSupported for a key that is not matched here
    """
    asked: dict[str, Any] = {}
    try:
        for name, value in request.args.items(multi=True):
            if name == "filter":
                for pair in filter(None, value.split(",")):
                    add_key(asked, *_pair(pair))
            elif name != "deletionlock":
                add_key(asked, name, value)
    except Refused as error:
        raise subscriptions.FilterNotSupported(str(error)) from error
    return {field: value for field, value in asked.items() if any(value)}  # without a value all match


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value


def _channel_url(ae: str) -> str:
    scheme = "wss" if request.scheme == "https" else "ws"
    return f"{scheme}://{request.host}{BASE}/subscribers/{quote(ae)}"


_OF_ONE = f"{BASE}/workitems/<uid:uid>/subscribers/<ae>"
ROUTES = (
    Route(path=_OF_ONE, view=subscribe, method="POST", scopes=READ, needs_tx=False),
    Route(path=_OF_ONE, view=unsubscribe, method="DELETE", scopes=READ, needs_tx=False),
    Route(path=f"{_OF_ONE}/suspend", view=suspend, method="POST", scopes=READ, needs_tx=False),
    Route(path=f"{BASE}/subscribers/<ae>", view=channel, scopes=READ, needs_tx=False, websocket=True),
)
