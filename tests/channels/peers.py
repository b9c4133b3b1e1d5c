"""Receiving systems that misbehave on purpose, over real sockets on loopback."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from triage.channels.mllp import read_acknowledgement
from triage.hl7.framing import FrameReader, FramingError, frame

TIMEOUT_SECONDS = 0.15


def an_ack(code: str, control_id: str) -> bytes:
    return (
        f"MSH|^~\\&|EHR|HOSP|TRIAGE|SITE|20260102||ACK^R01^ACK|1|P|2.5.1\rMSA|{code}|{control_id}\r".encode()
    )


class Turn:
    """One received message and the connection to answer it on."""

    def __init__(self, peer: BadPeer, connection: socket.socket, control_id: str) -> None:
        self.peer = peer
        self.connection = connection
        self.control_id = control_id

    def ack(self, code: str, control_id: str | None = None) -> None:
        self.say(frame(an_ack(code, self.control_id if control_id is None else control_id)))

    def say(self, data: bytes) -> None:
        """Send bytes; whatever positive answers they hold are remembered *before* they leave."""
        for piece in data.split(b"\x0b"):
            code, answered, _ = read_acknowledgement(piece.removesuffix(b"\x1c\r"))
            if code in ("AA", "CA"):
                self.peer.accepted.add(answered)
        with contextlib.suppress(OSError):
            self.connection.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def sleep(self, seconds: float) -> None:
        self.peer.stopping.wait(seconds)


Behaviour = Callable[[Turn], None]


def hangs(turn: Turn) -> None:
    pass


def closes(turn: Turn) -> None:
    turn.close()


def closes_half_way(turn: Turn) -> None:
    whole = frame(an_ack("AA", turn.control_id))
    with contextlib.suppress(OSError):
        turn.connection.sendall(whole[: len(whole) // 2])
    turn.close()


def half_frame(turn: Turn) -> None:
    """The whole acknowledgement, but never its end block."""
    with contextlib.suppress(OSError):
        turn.connection.sendall(frame(an_ack("AA", turn.control_id))[:-2])


def wrong_end_block(turn: Turn) -> None:
    with contextlib.suppress(OSError):
        turn.connection.sendall(frame(an_ack("AA", turn.control_id))[:-1] + b"\n")


def accepts(turn: Turn) -> None:
    turn.ack("AA")


def accepts_late(turn: Turn) -> None:
    turn.sleep(TIMEOUT_SECONDS * 1.5)
    turn.ack("AA")


def accepts_twice(turn: Turn) -> None:
    turn.ack("AA")
    turn.ack("AA")


def accepts_again_later(turn: Turn) -> None:
    turn.ack("AA")
    turn.sleep(0.01)
    turn.ack("AA")


def rejects_then_accepts(turn: Turn) -> None:
    turn.ack("AR")
    turn.ack("AA")


def accepts_another(turn: Turn) -> None:
    turn.ack("AA", "NOT-" + turn.control_id)


def accepts_the_one_before(turn: Turn) -> None:
    turn.ack("AA", turn.peer.previous(turn.control_id))


def accepts_another_then_this(turn: Turn) -> None:
    accepts_another(turn)
    turn.ack("AA")


def garbage(turn: Turn) -> None:
    turn.say(turn.peer.random.randbytes(300))


def framed_garbage(turn: Turn) -> None:
    turn.say(b"\x0b" + turn.peer.random.randbytes(300).replace(b"\x0b", b"") + b"\x1c\r")


def ten_megabytes(turn: Turn) -> None:
    turn.say(b"\x0bMSH|" + b"A" * 10_000_000 + b"\x1c\r")


def flood_of_others(turn: Turn) -> None:
    turn.say(frame(an_ack("AA", "ANOTHER")) * 1000)


def echo(turn: Turn) -> None:
    turn.say(frame(f"MSH|^~\\&|T|S|E|H|2026||ORU^R01|{turn.control_id}|P|2.5.1\rPID|1\r".encode()))


def two_opinions(turn: Turn) -> None:
    """One message that accepts and refuses: no answer at all. Not `say`: it accepts nothing."""
    both = an_ack("AA", turn.control_id) + f"MSA|AE|{turn.control_id}\r".encode()
    with contextlib.suppress(OSError):
        turn.connection.sendall(frame(both))


def accepts_nobody(turn: Turn) -> None:
    turn.ack("AA", "")


def says(code: str) -> Behaviour:
    return lambda turn: turn.ack(code)


class BadPeer:
    """Answers each message with the next behaviour of a list, the last one for ever."""

    def __init__(self, behaviours: Iterator[Behaviour], seed: int = 0) -> None:
        self._behaviours = behaviours
        self.random = random.Random(seed)
        self.accepted: set[str] = set()
        self.received: list[str] = []
        self.stopping = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []

    def previous(self, control_id: str) -> str:
        others = [c for c in self.received if c != control_id]
        return others[-1] if others else "NONE"

    def __enter__(self) -> BadPeer:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        for closing in (self._server, *self._connections):
            with contextlib.suppress(OSError):
                closing.shutdown(socket.SHUT_RDWR)
            closing.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        reader = FrameReader(connection)
        with contextlib.suppress(OSError, FramingError):
            while (message := reader.read(start_by=time.monotonic() + 60)) is not None:
                control_id = message.split(b"\r", 1)[0].split(b"|")[9].decode()
                self.received.append(control_id)
                next(self._behaviours)(Turn(self, connection, control_id))
