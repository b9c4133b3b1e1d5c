"""A socket's own time limit starts anew with every byte; this one does not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cut_at(deadline: float, connection: socket.socket) -> Iterator[None]:
    """The connection is cut at this moment of `time.monotonic()`, whatever is being read or written on it."""
    alarm = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, (connection,))
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()


def _cut(connection: socket.socket) -> None:
    try:
        # Not the TLS kind: its state belongs to the sender.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        return  # closed meanwhile
