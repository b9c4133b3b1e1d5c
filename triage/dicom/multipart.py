"""multipart/related as it comes (RFC 2046 5.1, RFC 2387): parts one after the other, a chunk in memory, no more.

`Parts(read, boundary)` gives (headers, chunks) for each part. What is left of a part is passed over when the next one is
asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email.message import Message

from triage.domain.errors import Refused

CHUNK = 1 << 16
MAX_HEAD = 8_192  # of one part
MAX_PARTS = 20_000


def parameters(value: str) -> tuple[str, dict[str, str]]:
    """(media type in lower case, parameters) of a Content-Type or one Accept range."""
    message = Message()
    message["Content-Type"] = value
    found = {name.lower(): text for name, text in message.get_params(failobj=[])[1:]}
    return message.get_content_type() if "/" in value else "", found


def boundary_of(content_type: str) -> bytes:
    """raises Refused when there is none, or one that RFC 2046 forbids"""
    text = parameters(content_type)[1].get("boundary", "")
    if not 1 <= len(text) <= 70 or not text.isascii() or text != text.rstrip():
        raise Refused("Content-Type names no valid boundary (RFC 2046 5.1.1)")
    return text.encode()


class Parts:
    """raises Refused while iterating: no boundary, a head that is too long, too many parts, an end that is missing."""

    def __init__(self, read: Callable[[int], bytes], boundary: bytes) -> None:
        self._read = read
        self._delimiter = b"\r\n--" + boundary
        self._buffer = b"\r\n"  # so that the first delimiter is like the others
        self._ended = False

    def __iter__(self) -> Iterator[tuple[dict[str, str], Iterator[bytes]]]:
        for _ in self._until_delimiter():  # the preamble is nobody's
            pass
        for _ in range(MAX_PARTS):
            if self._is_last():
                return
            headers = self._head()
            body = self._until_delimiter()
            yield headers, body
            for _ in body:
                pass
        raise Refused(f"more than {MAX_PARTS} parts in one request; send several")

    def _fill(self) -> None:
        chunk = self._read(CHUNK)
        if not chunk:
            raise Refused("the body ends inside a part: the closing boundary is missing")
        self._buffer += chunk

    def _until_delimiter(self) -> Iterator[bytes]:
        keep = len(self._delimiter) - 1
        while (at := self._buffer.find(self._delimiter)) < 0:
            if len(self._buffer) > keep:
                given, self._buffer = self._buffer[:-keep], self._buffer[-keep:]
                yield given
            self._fill()
        given, self._buffer = self._buffer[:at], self._buffer[at + len(self._delimiter) :]
        if given:
            yield given

    def _is_last(self) -> bool:
        while len(self._buffer) < 2:
            self._fill()
        return self._buffer.startswith(b"--")

    def _head(self) -> dict[str, str]:
        while self._buffer.find(b"\r\n\r\n") < 0:
            if len(self._buffer) > MAX_HEAD:
                raise Refused(f"the head of a part is longer than {MAX_HEAD} bytes")
            self._fill()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD:
            raise Refused(f"the head of a part is longer than {MAX_HEAD} bytes")
        headers = {}
        for line in head.split(b"\r\n")[1:]:
            name, colon, value = line.partition(b":")
            if not colon:
                raise Refused("a header of a part has no colon")
            headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
        return headers
