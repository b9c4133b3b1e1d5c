"""One object on its way in: bytes go to a file as they come, with a file meta header that depends on the object alone.

Equal data sets received over different associations make equal files, so the digest of the file is the name of the
content.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

from triage.dicom import services
from triage.domain.errors import Refused

_UID = re.compile(rb"[0-9.]{1,64}\Z")


def part10_preamble(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1) of a received data set.

    raises  Refused when one of the three is no UID
    """
    elements = b""
    for tag, vr, value in (
        (0x0001, b"OB", b"\x00\x01"),
        (0x0002, b"UI", sop_class_uid.encode("ascii", "replace")),
        (0x0003, b"UI", sop_instance_uid.encode("ascii", "replace")),
        (0x0010, b"UI", transfer_syntax_uid.encode("ascii", "replace")),
        (0x0012, b"UI", services.IMPLEMENTATION_CLASS_UID.encode()),
        (0x0013, b"SH", services.IMPLEMENTATION_VERSION_NAME.encode()),
    ):
        if vr == b"UI" and not _UID.match(value):
            raise Refused("the C-STORE command names its object by something that is no UID")
        padded = value + (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
        head = struct.pack("<HH", 2, tag) + vr
        head += struct.pack("<HL", 0, len(padded)) if vr == b"OB" else struct.pack("<H", len(padded))
        elements += head + padded
    length = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(elements))
    return b"\0" * 128 + b"DICM" + length + elements


class IncomingFile:
    """One data set on its way to the disk, as the fragments come.

    A full disk or too long an object does not stop the reading: the rest is drained, so that the sender gets an
    answer (A700) instead of an abort. `failure` holds what went wrong.
    """

    def __init__(
        self,
        place: Callable[[], Path],
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        object_bytes: int,
        reserve_bytes: int,
    ) -> None:
        self.path: Path | None = None  # no place, no file: then there is a failure
        self.size = 0
        self.failure: OSError | Refused | None = None
        self.transfer_syntax_uid = transfer_syntax_uid
        self._object_bytes = object_bytes
        self._descriptor = -1
        self._hash = hashlib.sha256()
        try:
            preamble = part10_preamble(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
            self.path = path = place()
            free = os.statvfs(path.parent)
            if free.f_bavail * free.f_frsize < reserve_bytes:
                raise OSError(errno.ENOSPC, "free space is below the reserve")
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._append(preamble)
        except (OSError, Refused) as e:
            self.failure = e

    def write(self, data: memoryview | bytes) -> None:
        if self.failure is None:
            try:
                self._append(data)
            except OSError as e:
                self.failure = e

    def _append(self, data: memoryview | bytes) -> None:
        if self.size + len(data) > self._object_bytes:
            raise OSError(errno.EFBIG, f"the object is longer than {self._object_bytes} bytes")
        self._put(data)
        self._hash.update(data)
        self.size += len(data)

    def _put(self, data: memoryview | bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of what has been written."""
        return self._hash.hexdigest()

    def make_durable(self, seal: bytes = b"") -> None:
        """Append `seal`, flush to the disk and close. raises OSError once, never to be retried.

        A failed fsync may lie when asked again (assurance 1): the caller discards the file and lets the process die.
        """
        try:
            self._put(seal)
            os.fdatasync(self._descriptor)
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self.path is not None:
            self.path.unlink(missing_ok=True)
