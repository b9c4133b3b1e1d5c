"""Alerts out by MLLP: one message in flight, and only the answer that names it counts.

Never raises for what a peer does; whatever is in doubt closes the connection, so that no late answer of one
message can be taken for the answer to the next (P10).
source: standards 7.3; HL7 v2.5.1 2.9
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import threading
import time

from triage.channels.lookup import Lookup
from triage.channels.protocol import Answer, Outcome
from triage.hl7.framing import FrameCutOff, FrameReader, FrameTimeout, FrameTooLarge, frame
from triage.log import get_logger

_MAX_ANSWER_BYTES = 256 * 1024
_MAX_FOREIGN_ANSWERS = 100  # of one wait: a peer that floods is not listened to for ever
_OUTCOMES = {  # table 0008; the C codes come from peers that answer in enhanced mode unasked
    "AA": Outcome.DELIVERED,
    "CA": Outcome.DELIVERED,
    "AE": Outcome.REFUSED,
    "CE": Outcome.REFUSED,
    "AR": Outcome.RETRY,
    "CR": Outcome.RETRY,
}
log = get_logger()


class MllpChannel:
    """A Channel to one peer. Thread-safe: a second sender waits its turn.

    timeout_seconds  for one whole attempt: connect, send, answer
    tls              a client context that verifies, else plain: a route with TLS never falls back
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout_seconds: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._tls = tls
        self._lookup = Lookup(
            host, port
        )  # once: a name that later points elsewhere gets no patient's data (F29)
        self._socket: socket.socket | None = None
        self._reader: FrameReader | None = None
        self._turn = threading.Lock()

    def send(self, payload: bytes, control_id: str) -> Answer:
        """Send once and wait for the acknowledgement whose MSA-2 is `control_id`.

        payload  a message without frame; ValueError when it holds a byte of the framing
        """
        framed = frame(payload)
        with self._turn:
            answer = self._attempt(framed, control_id)
            if answer.outcome is not Outcome.DELIVERED:
                self._hang_up()  # a second, late answer must find nobody at home
            return answer

    def close(self) -> None:
        with self._turn:
            self._hang_up()

    def _attempt(self, framed: bytes, control_id: str) -> Answer:
        deadline = time.monotonic() + self._timeout_seconds
        try:
            connection, reader = self._connected(deadline)
        except ssl.SSLError as error:
            return Answer(Outcome.RETRY, f"TLS failed: {error.reason or type(error).__name__}")
        except OSError as error:
            return Answer(Outcome.RETRY, f"cannot connect: {error.strerror or type(error).__name__}")
        except UnicodeError:
            return Answer(Outcome.RETRY, "cannot connect: the host name of the route is not valid")
        try:
            connection.settimeout(_left(deadline))
            connection.sendall(framed)
            return self._await(reader, control_id, deadline)
        except (FrameTimeout, TimeoutError):
            return Answer(Outcome.RETRY, f"no acknowledgement within {self._timeout_seconds:g} s")
        except FrameCutOff:
            return Answer(Outcome.RETRY, "the peer closed inside its acknowledgement")
        except FrameTooLarge:
            return Answer(Outcome.RETRY, "the peer's answer is too large to be an acknowledgement")
        except OSError as error:
            return Answer(Outcome.RETRY, f"connection lost: {error.strerror or type(error).__name__}")

    def _await(self, reader: FrameReader, control_id: str, deadline: float) -> Answer:
        for _ in range(_MAX_FOREIGN_ANSWERS):
            raw = reader.read(start_by=deadline, end_by=deadline)
            if raw is None:
                return Answer(Outcome.RETRY, "the peer closed without an acknowledgement")
            code, answered, error = read_acknowledgement(raw)
            if answered != control_id or code not in _OUTCOMES:
                log.warning(
                    "delivery.foreign_answer", peer=f"{self._host}:{self._port}", control_id=control_id
                )
                continue
            return Answer(_OUTCOMES[code], f"{code} {error}".strip())
        return Answer(Outcome.RETRY, "the peer answers everything but our message")

    def _connected(self, deadline: float) -> tuple[socket.socket, FrameReader]:
        """The kept connection when it is silent and open, else a new one."""
        if self._socket is not None and self._reader is not None:
            if not self._reader.pending and not _has_news(self._socket):
                return self._socket, self._reader
            self._hang_up()
        connection = self._dial(deadline)
        self._socket = connection
        self._reader = FrameReader(connection, max_bytes=_MAX_ANSWER_BYTES)
        return self._socket, self._reader

    def _dial(self, deadline: float) -> socket.socket:
        trouble: OSError = TimeoutError("no address")
        for family, address in self._lookup.addresses(deadline):
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.settimeout(_left(deadline))
                connection.connect(address)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None:
                    return self._tls.wrap_socket(connection, server_hostname=self._host)
                return connection
            except OSError as error:
                trouble = error
                connection.close()
        raise trouble

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = self._reader = None


def read_acknowledgement(raw: bytes) -> tuple[str, str, str]:
    """(MSA-1, MSA-2, ERR-3.1) of a message with exactly one MSA; three times "" for anything else.

    The error code only when it is one of table 0357, three digits: a peer's own words go nowhere.
    """
    segments = re.split(b"[\r\n]+", raw.strip(b"\r\n"))
    if not segments[0].startswith(b"MSH") or len(segments[0]) < 5:
        return "", "", ""
    separator = segments[0][3:4]
    fields = [s.split(separator) for s in segments]
    answers = [f for f in fields if f[0] == b"MSA"]
    if len(answers) != 1 or len(answers[0]) < 3:
        return "", "", ""
    code, control_id = (field.decode("ascii", errors="replace").strip() for field in answers[0][1:3])
    errors = [f[3][:3] for f in fields if f[0] == b"ERR" and len(f) > 3 and re.match(rb"[0-9]{3}\b", f[3])]
    return code, control_id, errors[0].decode("ascii") if errors else ""


def _has_news(connection: socket.socket) -> bool:
    """Readable before we asked: an answer that nobody waits for, or the end. Both are doubt."""
    if isinstance(connection, ssl.SSLSocket) and connection.pending():
        return True
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
