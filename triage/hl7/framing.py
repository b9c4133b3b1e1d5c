"""MLLP bytes, nothing else: one message into a frame, a stream of bytes into messages.

Called by the listener (`hl7.mllp`) and the sender (`channels.mllp`); it knows nothing of what is inside.
source: HL7 v2 Transport Specification MLLP, release 1; standards 7.3
"""

from __future__ import annotations

import math
import time
from typing import Protocol

START = b"\x0b"
END = b"\x1c\x0d"
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 65536


class FramingError(Exception):
    """The stream cannot go on: close the connection, believe nothing that came with it."""


class FrameTooLarge(FramingError):
    """More bytes than allowed before the frame ended (or before it began)."""


class FrameCutOff(FramingError):
    """The peer closed inside a frame."""


class FrameTimeout(FramingError):
    """No whole frame in time."""


class ByteStream(Protocol):
    """The two calls of a socket that reading needs."""

    def recv(self, bufsize: int, /) -> bytes: ...

    def settimeout(self, value: float | None, /) -> None: ...


def frame(message: bytes) -> bytes:
    """`0B message 1C 0D`. Raises ValueError when the message itself holds 0B or 1C: it would end early."""
    if START in message or END[:1] in message:
        raise ValueError("a message for MLLP may not contain the bytes 0B or 1C")
    return START + message + END


class FrameReader:
    """Messages of one connection, however the network cuts the stream.

    Bytes before 0B are skipped and counted in `skipped`; a second 0B inside a frame begins anew (the sender
    gave up on the first). What arrives after a frame is kept for the next `read`.

    max_bytes  limit of one message, and of what may be skipped before one
    """

    def __init__(self, stream: ByteStream, *, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self.skipped = 0

    @property
    def pending(self) -> bool:
        """Has something arrived beyond the last message?"""
        return bool(self._buffer)

    def read(
        self, *, start_by: float, frame_seconds: float = math.inf, end_by: float = math.inf
    ) -> bytes | None:
        """The next message without its frame; None when the peer closed between two frames.

        start_by       moment of `time.monotonic()` by which 0B must have come
        frame_seconds  from 0B to the end block; end_by: the same as a moment
        raises         FrameTimeout, FrameTooLarge, FrameCutOff; OSError of the stream. Then close.
        """
        if not self._skip_to_start(start_by):
            return None
        return self._collect(min(time.monotonic() + frame_seconds, end_by))

    def _skip_to_start(self, start_by: float) -> bool:
        self.skipped = 0
        while (at := self._buffer.find(START)) < 0:
            self._skip(len(self._buffer))
            if not self._receive(start_by):
                return False
        self._skip(at)
        del self._buffer[:1]
        return True

    def _skip(self, count: int) -> None:
        del self._buffer[:count]
        self.skipped += count
        if self.skipped > self._max_bytes:
            raise FrameTooLarge(f"{self.skipped} bytes without the beginning of a frame")

    def _collect(self, deadline: float) -> bytes:
        searched = 0  # bytes of the buffer known to hold neither 0B nor an end block
        while True:
            end = self._buffer.find(END, searched)
            restart = self._buffer.rfind(START, searched, end if end >= 0 else len(self._buffer))
            if restart >= 0:
                del self._buffer[: restart + 1]
                end -= restart + 1
            length = end if end >= 0 else len(self._buffer)
            if length > self._max_bytes:
                raise FrameTooLarge(f"a message of more than {self._max_bytes} bytes")
            if end >= 0:
                message = bytes(self._buffer[:end])
                del self._buffer[: end + len(END)]
                return message
            searched = max(length - 1, 0)  # the 1C may have come without its 0D
            if not self._receive(deadline):
                raise FrameCutOff("the peer closed inside a frame")

    def _receive(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0:
            raise FrameTimeout("no whole frame in time")
        self._stream.settimeout(None if math.isinf(left) else left)
        try:
            chunk = self._stream.recv(_CHUNK_BYTES)
        except TimeoutError:
            raise FrameTimeout("no whole frame in time") from None
        self._buffer += chunk
        return bool(chunk)
