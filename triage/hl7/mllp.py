"""The MLLP listener: connections in, one answer per message. What a message means is the handler's business.

Used by the product for orders and patients (port 2575) and by the demo as the hospital that receives alerts.
source: standards 7.3; limits of assurance 6.1
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from triage.domain.errors import Refused, Unavailable
from triage.hl7.framing import MAX_MESSAGE_BYTES, FrameReader, FramingError, frame
from triage.hl7.parse import AckCode, ErrorCode, build_ack, parse
from triage.log import get_logger

Handler = Callable[[bytes], bytes | Iterable[bytes]]

_ACCEPT_POLL_SECONDS = 0.2
_STOP_SECONDS = 5.0
log = get_logger()


class MllpListener:
    """Threads, one per connection; `handler` gets a raw message and returns the raw answer, or several.

    handler          called from several threads; when it raises, the sender is told to try later (AR, 207). Several
                     answers (enhanced mode: first CA, then AA) leave one by one, as they come
    of_peer          makes the handler of a connection from the address of its peer, instead of `handler`
    max_connections  one more is closed at once
    idle_seconds     a connection that begins no message for so long is closed
    frame_seconds    a message must end so soon after it began; also the time for the peer to take our answer
    tls              a server context, else plain
    """

    def __init__(
        self,
        host: str,
        port: int,
        handler: Handler | None = None,
        *,
        of_peer: Callable[[str], Handler] | None = None,
        max_connections: int = 32,
        max_bytes: int = MAX_MESSAGE_BYTES,
        idle_seconds: float = 300.0,
        frame_seconds: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._address = (host, port)
        assert (handler is None) != (of_peer is None), "one way to answer"
        self._of_peer: Callable[[str], Handler] = of_peer or (lambda _: handler)  # type: ignore[assignment,return-value]
        self._max_connections = max_connections
        self._max_bytes = max_bytes
        self._idle_seconds = idle_seconds
        self._frame_seconds = frame_seconds
        self._tls = tls
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._open: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def start(self) -> int:
        """Listen; returns the port (of interest when 0 was asked for). Raises Unavailable when it is taken."""
        assert self._listener is None, "started twice"
        host, port = self._address
        try:
            listener = socket.create_server((host, port), backlog=64)
        except OSError as error:
            raise Unavailable(f"MLLP cannot listen on {host}:{port}: {error.strerror}") from error
        listener.settimeout(_ACCEPT_POLL_SECONDS)
        self._listener = listener
        self._acceptor = threading.Thread(target=self._accept, args=(listener,), name="mllp", daemon=True)
        self._acceptor.start()
        bound = int(listener.getsockname()[1])
        log.info("mllp.listening", address=host, port=bound)
        return bound

    def stop(self) -> None:
        """Close everything; a message whose answer is not out yet will be sent again by its sender."""
        self._stopping.set()
        if self._listener is None or self._acceptor is None:
            return
        self._acceptor.join(_STOP_SECONDS)
        self._listener.close()
        with self._lock:
            running = dict(self._open)
        for connection in running.values():
            _shut(connection)
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in running:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                connection, peer = listener.accept()
            except TimeoutError:
                continue
            except OSError as error:  # no descriptors left, or the peer is gone already
                log.warning("mllp.accept_failed", error=type(error).__name__, code=error.errno)
                self._stopping.wait(_ACCEPT_POLL_SECONDS)
                continue
            with self._lock:
                full = len(self._open) >= self._max_connections
                if not full:
                    thread = threading.Thread(target=self._serve, args=(connection, peer[0]), daemon=True)
                    self._open[thread] = connection
            if full:
                log.warning("mllp.connection_refused", address=peer[0], limit=self._max_connections)
                connection.close()
            else:
                thread.start()

    def _serve(self, connection: socket.socket, address: str) -> None:
        try:
            connection.settimeout(self._frame_seconds)
            if self._tls is not None:
                connection = self._tls.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
                with self._lock:  # the plain socket is an empty shell now
                    self._open[threading.current_thread()] = connection
                connection.do_handshake()
            self._converse(connection, address)
        except FramingError as error:
            log.info("mllp.connection_closed", address=address, reason=type(error).__name__)
        except OSError as error:
            log.info("mllp.connection_lost", address=address, error=type(error).__name__)
        finally:
            with self._lock:
                self._open.pop(threading.current_thread(), None)
            connection.close()

    def _converse(self, connection: socket.socket, address: str) -> None:
        reader, handler = FrameReader(connection, max_bytes=self._max_bytes), self._of_peer(address)
        while not self._stopping.is_set():
            message = reader.read(
                start_by=time.monotonic() + self._idle_seconds, frame_seconds=self._frame_seconds
            )
            if reader.skipped:
                log.warning("mllp.bytes_skipped", address=address, bytes=reader.skipped)
            if message is None:
                return
            for answer in _answers(handler, message, address):
                connection.settimeout(self._frame_seconds)
                connection.sendall(frame(answer))


def _answers(handler: Handler, message: bytes, address: str) -> Iterator[bytes]:
    try:
        said = handler(message)
        yield from [said] if isinstance(said, bytes) else said
    except Exception as error:  # noqa: BLE001  the door: whatever it is, the sender gets an answer
        log.error("mllp.handler_failed", address=address, error=type(error).__name__)
        yield build_ack(message, AckCode.AR, now=datetime.now(UTC), text="internal error, try later")


class Inbox:
    """A handler that keeps what it gets in memory: the receiving hospital of demo and tests.

    The same control id with the same bytes is answered AA again and kept once; with other bytes it is AE.
    """

    def __init__(self) -> None:
        self._by_control_id: dict[str, bytes] = {}
        self._changed = threading.Condition()
        self.received = 0  # frames, repeated ones too

    @property
    def messages(self) -> list[bytes]:
        """Distinct accepted messages in order of arrival."""
        with self._changed:
            return list(self._by_control_id.values())

    def __call__(self, raw: bytes) -> bytes:
        now = datetime.now(UTC)
        try:
            control_id = parse(raw).control_id
        except Refused as refusal:
            return build_ack(raw, AckCode.AR, now=now, text=str(refusal), error=ErrorCode.DATA_TYPE)
        with self._changed:
            self.received += 1
            if not control_id:
                missing = ErrorCode.REQUIRED_FIELD_MISSING
                return build_ack(raw, AckCode.AE, now=now, text="MSH-10 is empty", error=missing)
            if self._by_control_id.setdefault(control_id, raw) != raw:
                reused = "MSH-10 was used before with other content"
                return build_ack(raw, AckCode.AE, now=now, text=reused, error=ErrorCode.DUPLICATE_KEY)
            self._changed.notify_all()
        return build_ack(raw, AckCode.AA, now=now)

    def wait(self, count: int, within_seconds: float) -> bool:
        """True as soon as `count` distinct messages are there, False when the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._by_control_id) >= count, within_seconds)


def _shut(connection: socket.socket) -> None:
    try:
        socket.socket.shutdown(
            connection, socket.SHUT_RDWR
        )  # not the TLS kind: its state belongs to the server
    except OSError:
        return  # closed meanwhile
