"""The indexer in a process of its own, so that those who receive do not wait for the interpreter's lock.

In one process each system call of an association (about twenty an object) ends with waiting for the lock while rows
are made. What crosses is a header, a path and a digest, of a header too long for a message only where it lies;
the object is sealed and durable before (decision 0007), so whichever process dies, the next start takes it up.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import multiprocessing
import os
import pickle
import signal
import socket
import struct
from collections.abc import Callable

from triage.dicom.header import check_header
from triage.dicom.receiver_config import ReceivedObject
from triage.domain.errors import Unavailable
from triage.log import get_logger
from triage.workflow.indexer import BEHIND_SECONDS, DRAIN_SECONDS, Desk, Indexer

BROKEN_DISK = 3  # exit code: a failed flush may not be tried again (F5)
FAILED = 1  # exit code: an error that nobody foresaw ended the thread that indexes
MESSAGE_BYTES = 1 << 18
_SEND_TIMEOUT = struct.pack("ll", int(BEHIND_SECONDS), 0)
_PR_SET_PDEATHSIG = 1  # prctl(2)

log = get_logger()


class IndexerProcess:
    """`put` and `ended` may be called by any thread. Make it before the first thread and the first connection: it forks."""

    def __init__(self, make_desk: Callable[[], Desk]) -> None:
        # Whole messages or none: associations need no lock among themselves.
        self._feed, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._feed.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        self._feed.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES)
        self._behind = mmap.mmap(-1, 1)  # shared: 1 while no more may be promised
        self._process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(theirs, self._feed, self._behind, make_desk, os.getpid()), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.exitcode

    def put(self, received: ReceivedObject) -> None:
        """Hand over a sealed, flushed file. raises Unavailable when the index does not follow: nothing is taken."""
        if self._behind[0]:
            raise Unavailable("the database does not follow; send again later")
        message = pickle.dumps(received)
        if len(message) > MESSAGE_BYTES:  # the other side would get its beginning alone, or nothing
            message = pickle.dumps({**vars(received), "header": None})
        self._send(message)

    def ended(self, association_id: str, aborted: bool) -> None:
        self._send(pickle.dumps((association_id, aborted)))

    def close(self) -> None:
        """Wait until what was handed over is indexed; what cannot be in time stays sealed for the next start."""
        with contextlib.suppress(OSError):  # it is gone already
            self._feed.shutdown(socket.SHUT_WR)
        self._process.join(DRAIN_SECONDS + 1)
        self._process.kill()
        self._process.join()
        self._feed.close()

    def _send(self, message: bytes) -> None:
        try:
            self._feed.send(message)
        except OSError as error:
            raise Unavailable("the indexer does not take it; send again later") from error


def _serve(
    feed: socket.socket, parents: socket.socket, behind: mmap.mmap, make_desk: Callable[[], Desk], parent: int
) -> None:
    """The child: until the receiver closes its end. Ends with BROKEN_DISK or FAILED when it can index no more."""
    parents.close()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # the next receiver takes up what we leave
    if os.getppid() != parent:
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # meant for the receiver, which closes the feed at its end
    exit_codes: list[int] = []

    def on_broken(error: Exception) -> None:
        exit_codes.append(_exit_code(error))
        feed.shutdown(socket.SHUT_RDWR)

    def say_behind(late: bool) -> None:
        behind[0] = late

    indexer = Indexer(make_desk(), on_broken, say_behind)
    while message := feed.recv(MESSAGE_BYTES):
        event = pickle.loads(message)  # noqa: S301 (of the process that forked us, through a nameless socket)
        if isinstance(event, ReceivedObject):
            indexer.put(event)
        elif isinstance(event, dict):
            indexer.put(ReceivedObject(**{**event, "header": check_header(event["path"])}))
        else:
            indexer.ended(*event)
    indexer.close()
    if exit_codes:
        raise SystemExit(exit_codes[0])


def _exit_code(error: Exception) -> int:
    if isinstance(error, OSError):
        log.error("index.flush_failed", error=error.strerror, fix="check the disk")
        return BROKEN_DISK
    log.error("index.failed", exc_info=error,
              fix="none: the next receiver takes up what it left; report it")  # fmt: skip
    return FAILED
