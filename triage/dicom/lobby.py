"""Where a connection waits, without a thread, until its whole A-ASSOCIATE-RQ lies in the kernel's buffer.

pynetdicom gives every connection two threads and one of few slots from its first moment, and reads any length that
a peer declares (assurance 1). Here a slow, silent or lying peer costs one file descriptor until its deadline and
nothing else: only a request that is whole and of honest length becomes an association (P16).
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from triage.log import get_logger

log = get_logger()

_HEAD = 6
_ASSOCIATE_RQ = 0x01
# A-ABORT, source 2 (provider), reason 6 (invalid parameter value): PS3.8 9.3.8.
_ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x06"
_ESTABLISHED = b"\x01"  # tcpi_state, the first byte of struct tcp_info
_TICK_SECONDS = 0.25


class Lobby:
    """Holds accepted sockets; calls `admit(socket, address)` once their request is whole.

    request_bytes    longest A-ASSOCIATE-RQ; request_seconds: until it must be whole
    places           waiting connections in total; places_per_address: from one address
    """

    def __init__(
        self,
        admit: Callable[[socket.socket, Any], None],
        *,
        request_bytes: int,
        request_seconds: float,
        places: int,
        places_per_address: int,
    ) -> None:
        self._admit = admit
        self._request_bytes = request_bytes
        self._request_seconds = request_seconds
        self._places = places
        self._places_per_address = places_per_address
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[socket.socket, tuple[Any, float]] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dicom-lobby", daemon=True)
        self._thread.start()

    def enter(self, connection: socket.socket, address: Any) -> None:
        """Take over an accepted connection; closes it at once when all places are taken."""
        with self._lock:
            from_here = sum(1 for a, _ in self._waiting.values() if a[0] == address[0])
            if len(self._waiting) >= self._places or from_here >= self._places_per_address:
                connection.close()
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # SO_RCVLOWAT: the selector wakes us only when so many bytes are there (or the peer is gone).
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _HEAD)
            self._waiting[connection] = (address, time.monotonic() + self._request_seconds)
            self._selector.register(connection, selectors.EVENT_READ, _HEAD)

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=5)
        with self._lock:
            for connection in list(self._waiting):
                self._forget(connection)
                connection.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            for key, _ in self._selector.select(_TICK_SECONDS):
                assert isinstance(key.fileobj, socket.socket)
                self._look_safely(key.fileobj, key.data)
            now = time.monotonic()
            with self._lock:
                late = [c for c, (_, deadline) in self._waiting.items() if deadline < now]
            for connection in late:
                self._last_look(connection)

    def _look(self, connection: socket.socket, expected: int) -> None:
        have = connection.recv(expected, socket.MSG_PEEK)
        if len(have) < expected:
            # Woken early, which the kernel may do when memory is short, or by the peer's end.
            if connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != _ESTABLISHED:
                self._turn_away(connection, b"")
            return
        kind, length = struct.unpack(">BxL", have[:_HEAD])
        if kind != _ASSOCIATE_RQ or length > self._request_bytes:
            self._turn_away(connection, _ABORT)
        elif expected == _HEAD:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _HEAD + length)
            self._selector.modify(connection, selectors.EVENT_READ, _HEAD + length)
        else:
            with self._lock:
                address = self._forget(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            connection.setblocking(True)
            self._admit(connection, address)

    def _last_look(self, connection: socket.socket) -> None:
        """At the deadline: who is whole by now waited for us, not we for them."""
        for _ in range(2):  # the head, then the body
            if connection in self._waiting:
                self._look_safely(connection, self._selector.get_key(connection).data)
        if connection in self._waiting:
            self._turn_away(connection, b"")

    def _look_safely(self, connection: socket.socket, expected: int) -> None:
        """One connection's trouble (no thread left, a peer that is gone) must not make the door deaf."""
        try:
            self._look(connection, expected)
        except Exception as e:  # noqa: BLE001 (the door of every association)
            if not isinstance(e, OSError):
                log.error(
                    "association.not_admitted", error=type(e).__name__, fix="look at threads and memory"
                )
            self._turn_away(connection, b"")

    def _forget(self, connection: socket.socket) -> Any:
        self._selector.unregister(connection)
        address, _ = self._waiting.pop(connection)
        return address

    def _turn_away(self, connection: socket.socket, farewell: bytes) -> None:
        with self._lock:
            if connection in self._waiting:
                self._forget(connection)
        with contextlib.suppress(OSError):
            connection.send(farewell)
        connection.close()
