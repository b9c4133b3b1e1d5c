"""Where connections are that need no thread: TLS handshake, Sta2 until the request is whole, Sta13 until the peer
has closed. One selector for all of them, and the accepting too: a slow, silent or lying peer costs one descriptor
until its deadline and nothing else (P16)."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from triage.dicom.upper.pdu import ASSOCIATE_RQ, HEAD, INVALID_VALUE, abort_pdu
from triage.dicom.upper.states import Action, Event, Machine, State
from triage.domain.errors import Unavailable
from triage.log import get_logger

log = get_logger()

_TICK_SECONDS = 0.25
_ACCEPTS_AT_ONCE = 64
BACKLOG = 128
Admit = Callable[[socket.socket, str, bytes, Machine], None]


@dataclass(frozen=True, kw_only=True)
class DoorstepLimits:
    """request_bytes: longest A-ASSOCIATE-RQ; request_seconds: TLS and request together, ARTIM of Sta2;
    closing_seconds: ARTIM of Sta13; places: waiting connections in total, and of one address."""

    request_bytes: int
    request_seconds: float
    closing_seconds: float
    places: int
    places_per_address: int


@dataclass
class _Waiting:
    connection: socket.socket
    address: str
    deadline: float
    machine: Machine
    handshake: bool = False
    request: bytearray = field(default_factory=bytearray)
    expected: int = HEAD.size


class Doorstep:
    """Accepts, and calls `admit(connection, address, request body, machine)` once a request is whole (Evt6 is next)."""

    def __init__(self, admit: Admit, limits: DoorstepLimits) -> None:
        self._admit, self._limits = admit, limits
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[int, _Waiting] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dicom-doorstep", daemon=True)

    def listen(self, listener: socket.socket, context: Callable[[], ssl.SSLContext] | None = None) -> None:
        """Serve a listening socket too; `context` is asked for each connection, so that certificates can change."""
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, (listener, context))

    def start(self) -> None:
        self._thread.start()

    def linger(self, connection: socket.socket, address: str, machine: Machine) -> None:
        """Take a connection back whose last PDU is sent: an early close would overtake it (Sta13)."""
        if machine.state is not State.STA13 or self._closing.is_set():
            connection.close()
            return
        with contextlib.suppress(OSError, ValueError, KeyError):  # the door may be closing beside us
            connection.setblocking(False)
            _say_no_more(connection)
            self._enter(_Waiting(connection, address, self._until(self._limits.closing_seconds), machine))
            return
        connection.close()

    def close(self) -> None:
        """Nobody new; who waits is turned away when the thread ends."""
        self._closing.set()
        self._thread.join(timeout=5)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._waiting.clear()
        self._selector.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            for key, _ in self._selector.select(_TICK_SECONDS):
                if isinstance(key.data, tuple):
                    self._accept(*key.data)
                elif key.data.connection.fileno() >= 0:
                    self._look_safely(key.data)
            now = time.monotonic()
            with self._lock:
                late = [w for w in self._waiting.values() if w.deadline < now]
            for waiting in late:
                waiting.machine.on(Event.EVT18)  # ARTIM: AA-2
                self._forget(waiting)

    def _accept(self, listener: socket.socket, context: Callable[[], ssl.SSLContext] | None) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                connection, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as e:  # no descriptor left: those who wait will free some
                log.error("connection.not_accepted", error=type(e).__name__, fix="look at open files")
                return
            try:
                self._welcome(connection, str(address[0]), context)
            except (OSError, ValueError) as e:
                connection.close()
                log.warning("connection.not_accepted", address=str(address[0]), error=type(e).__name__)

    def _welcome(
        self, connection: socket.socket, address: str, context: Callable[[], ssl.SSLContext] | None
    ) -> None:
        machine = Machine()
        machine.on(Event.EVT5)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            connection = context().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        waiting = _Waiting(connection, address, self._until(self._limits.request_seconds), machine)
        waiting.handshake = context is not None
        self._enter(waiting)

    def _enter(self, waiting: _Waiting) -> None:
        with self._lock:
            from_there = sum(1 for w in self._waiting.values() if w.address == waiting.address)
            if len(self._waiting) >= self._limits.places or from_there >= self._limits.places_per_address:
                waiting.connection.close()
                return
            self._waiting[waiting.connection.fileno()] = waiting
            self._selector.register(waiting.connection, selectors.EVENT_READ, waiting)

    def _look_safely(self, waiting: _Waiting) -> None:
        """One connection's trouble (no thread left, a peer that is gone) must not make the door deaf."""
        try:
            self._look(waiting)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except ssl.SSLWantWriteError:
            self._selector.modify(waiting.connection, selectors.EVENT_READ | selectors.EVENT_WRITE, waiting)
        except ssl.SSLError as e:
            log.warning("tls.refused", address=waiting.address, reason=str(e.reason or type(e).__name__))
            self._forget(waiting)
        except OSError:
            self._forget(waiting)
        except Exception as e:  # noqa: BLE001 (the door of every association)
            log.error("association.not_admitted", error=type(e).__name__, fix="look at threads and memory")
            self._forget(waiting)

    def _look(self, waiting: _Waiting) -> None:
        if waiting.machine.state is State.STA13:
            for _ in range(16):  # what it still sends is passed over, a little at a time
                if not waiting.connection.recv(65_536):
                    waiting.machine.on(Event.EVT17)
                    self._forget(waiting)
                    return
            return
        if waiting.handshake:
            waiting.connection.do_handshake()  # type: ignore[attr-defined]
            waiting.handshake = False
            self._selector.modify(waiting.connection, selectors.EVENT_READ, waiting)
        while True:
            more = waiting.connection.recv(waiting.expected - len(waiting.request))
            if not more:
                waiting.machine.on(Event.EVT17)
                self._forget(waiting)
                return
            waiting.request += more
            if len(waiting.request) == waiting.expected and self._read(waiting):
                return

    def _read(self, waiting: _Waiting) -> bool:
        """True when nothing more is to be read here."""
        if waiting.expected > HEAD.size:
            self._hand_on(waiting)
            return True
        kind, length = HEAD.unpack(waiting.request)
        if kind != ASSOCIATE_RQ or not 0 < length <= self._limits.request_bytes:
            action = waiting.machine.on(Event.EVT19)
            assert action is Action.AA1
            with contextlib.suppress(OSError):
                waiting.connection.send(abort_pdu(2, INVALID_VALUE))
                _say_no_more(waiting.connection)
            waiting.deadline = self._until(self._limits.closing_seconds)
            return True
        waiting.expected += length
        return False

    def _hand_on(self, waiting: _Waiting) -> None:
        with self._lock:
            self._selector.unregister(waiting.connection)
            del self._waiting[waiting.connection.fileno()]
        try:
            self._admit(
                waiting.connection, waiting.address, bytes(waiting.request[HEAD.size :]), waiting.machine
            )
        except BaseException:
            waiting.connection.close()
            raise

    def _forget(self, waiting: _Waiting) -> None:
        with self._lock:
            descriptor = waiting.connection.fileno()
            if self._waiting.pop(descriptor, None) is not None:
                self._selector.unregister(waiting.connection)
        waiting.connection.close()

    @staticmethod
    def _until(seconds: float) -> float:
        return time.monotonic() + seconds


def _say_no_more(connection: Any) -> None:
    """The peer sees the end of what we say at once; we go on listening so that nothing overtakes our last PDU."""
    if isinstance(connection, ssl.SSLSocket):
        with contextlib.suppress(OSError, ValueError):
            connection.unwrap()  # sends close_notify; the peer's own is not waited for
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def open_port(host: str, port: int, *, share: bool) -> socket.socket:
    """A listening socket; share: several processes on one port. raises Unavailable when it is taken."""
    try:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as e:
        raise Unavailable(f"cannot listen on {host}:{port}: {e.strerror}") from e
    return listener
