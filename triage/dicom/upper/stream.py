"""Reads PDUs from a socket in pieces, within length and time. A data set is never whole in memory: pieces of its
fragments go on as they come out of the kernel, whatever way the peer has cut them."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from triage.dicom.upper.pdu import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    HEAD,
    P_DATA_TF,
    PDV_HEAD,
    RELEASE_RP,
    RELEASE_RQ,
    UNRECOGNIZED_PDU,
    InvalidPdu,
)

TICK_SECONDS = 0.5  # how often a silent connection looks at its deadlines
CONTROL_BYTES = 65_536  # of any PDU but P-DATA-TF
_BUFFER_BYTES = 262_144
_TICK = struct.pack("ll", int(TICK_SECONDS), int(TICK_SECONDS % 1 * 1e6))
_CONTROL = frozenset((ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, RELEASE_RQ, RELEASE_RP, ABORT))
_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, TimeoutError)


class PeerGone(Exception):
    """The connection is closed or broken."""


class TooSlow(Exception):
    """The peer said nothing, or did not finish a PDU, for longer than it may."""


@dataclass(frozen=True)
class Deadlines:
    """Seconds: without a word, for one PDU (also for the peer to take an answer), for the whole connection."""

    idle: float
    pdu: float
    whole: float


@dataclass(frozen=True)
class Piece:
    """Part of one PDV's fragment. `data` is valid until the next read; `last`: the message's part ends with it."""

    context_id: int
    is_command: bool
    last: bool
    data: memoryview


@dataclass(frozen=True)
class Control:
    """Any PDU but P-DATA-TF, whole."""

    kind: int
    body: bytes


class PduStream:
    """PDUs of one connection after its request.

    pdu_bytes  longest P-DATA-TF that we have announced; one byte more is an abort
    stopping   asked at each tick; True ends the reading with TooSlow
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        pdu_bytes: int,
        deadlines: Deadlines,
        stopping: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._pdu_bytes = pdu_bytes
        self._deadlines = deadlines
        self._stopping = stopping
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start, self._have = 0, 0
        self._in_pdu = 0  # bytes of the P-DATA-TF that are still to come
        self._in_pdv = 0  # bytes of the fragment that are still to come
        self._context_id, self._control = 0, 0
        self._end = time.monotonic() + deadlines.whole
        self._pdu_end = self._end
        self._tls = isinstance(connection, ssl.SSLSocket)
        if self._tls:
            connection.settimeout(TICK_SECONDS)
        else:
            # One system call for a read with a deadline, where a Python timeout takes two.
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TICK)
            answer = struct.pack("ll", max(1, int(deadlines.pdu)), 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, answer)

    def next(self) -> Piece | Control:
        """The next piece or PDU. raises InvalidPdu, PeerGone, TooSlow."""
        while True:
            if self._in_pdv:
                return self._piece()
            if self._in_pdu:
                self._need(PDV_HEAD.size)
                piece = self._open_pdv()
                if piece is not None:
                    return piece
                continue
            self._pdu_end = 0.0
            self._need(HEAD.size)
            kind, length = HEAD.unpack_from(self._buffer, self._start)
            self._start += HEAD.size
            self._pdu_end = time.monotonic() + self._deadlines.pdu
            if kind != P_DATA_TF:
                return self._read_control(kind, length)
            if not PDV_HEAD.size <= length <= self._pdu_bytes:
                raise InvalidPdu(f"a P-DATA-TF of {length} bytes; we announced {self._pdu_bytes}")
            self._in_pdu = length

    def send(self, data: bytes) -> None:
        """One write. raises PeerGone, also when the peer does not take it in time."""
        try:
            if self._tls:
                self._connection.settimeout(self._deadlines.pdu)
            self._connection.sendall(data)
            if self._tls:
                self._connection.settimeout(TICK_SECONDS)
        except OSError as e:
            raise PeerGone from e

    def _read_control(self, kind: int, length: int) -> Control:
        if kind not in _CONTROL:
            raise InvalidPdu(f"a PDU of the unknown type {kind:02X}H", UNRECOGNIZED_PDU)
        if length > CONTROL_BYTES:
            raise InvalidPdu(f"a PDU of type {kind:02X}H with {length} bytes")
        self._need(length)
        body = bytes(self._view[self._start : self._start + length])
        self._start += length
        return Control(kind, body)

    def _open_pdv(self) -> Piece | None:
        length, self._context_id, self._control = PDV_HEAD.unpack_from(self._buffer, self._start)
        self._start += PDV_HEAD.size
        self._in_pdu -= PDV_HEAD.size
        self._in_pdv = length - 2
        if not 0 <= self._in_pdv <= self._in_pdu or 0 < self._in_pdu - self._in_pdv < PDV_HEAD.size:
            raise InvalidPdu("presentation data values do not fill their P-DATA-TF")
        if self._control & 0xFC:
            raise InvalidPdu("a message control header with unknown bits")
        if self._in_pdv:
            return None
        # An empty fragment is legal as the end of a message alone.
        if not self._control & 2:
            raise InvalidPdu("an empty fragment that ends nothing")
        return Piece(self._context_id, bool(self._control & 1), True, self._view[:0])

    def _piece(self) -> Piece:
        if self._start == self._have:
            self._fill()
        count = min(self._in_pdv, self._have - self._start)
        data = self._view[self._start : self._start + count]
        self._start += count
        self._in_pdv -= count
        self._in_pdu -= count
        last = not self._in_pdv and bool(self._control & 2)
        return Piece(self._context_id, bool(self._control & 1), last, data)

    def _need(self, count: int) -> None:
        while self._have - self._start < count:
            self._fill()

    def _fill(self) -> None:
        """At least one more byte; what is read already moves to the front."""
        left = self._have - self._start
        if left:
            self._buffer[:left] = self._buffer[self._start : self._have]
        self._start, self._have = 0, left
        idle_end = time.monotonic() + self._deadlines.idle
        while True:
            try:
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                count = self._connection.recv_into(self._view[left:])
            except _NOT_YET:
                self._look_at_clock(idle_end)
                continue
            except OSError as e:
                raise PeerGone from e
            if not count:
                raise PeerGone
            self._have += count
            if self._pdu_end:
                self._look_at_clock(idle_end)
            return

    def _look_at_clock(self, idle_end: float) -> None:
        now = time.monotonic()
        if self._pdu_end and now > self._pdu_end:
            raise TooSlow("a PDU was not finished in time")
        if now > idle_end:
            raise TooSlow("nothing was said")
        if now > self._end or self._stopping():
            raise TooSlow("the association's time is over")
