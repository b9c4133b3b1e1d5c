"""A received file that carries its own index entry until the index has it: one flush makes both durable.

The entry stands in a Data Set Trailing Padding element (FFFC,FFFC) after the data set, so that the file is a valid
Part 10 file even with it (PS3.10 7.2). Whoever indexes the object cuts it off again. Layout of its value: JSON, then
CRC-32 of the JSON, length of the whole seal, four letters.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from triage.dicom.elements import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

_FOOT = struct.Struct("<LL4s")
_LETTERS = b"TRIA"
_SEAL_BYTES = 4_096  # more than any entry needs
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """What the index needs and the data set does not say. digest, size: of the file without its seal."""

    digest: str
    size: int
    calling_ae_title: str
    called_ae_title: str
    association_id: str
    address: str


def seal_of(entry: Entry, transfer_syntax_uid: str) -> bytes:
    text = json.dumps(vars(entry)).encode()
    text += b" " * (len(text) % 2)
    order = ">" if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    head = struct.pack(order + "HH", 0xFFFC, 0xFFFC)
    head += b"" if transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN else b"OB\0\0"
    length = len(text) + _FOOT.size
    head += struct.pack(order + "L", length)
    return head + text + _FOOT.pack(zlib.crc32(text), len(head) + length, _LETTERS)


def read_seal(path: Path) -> Entry | None:
    """The entry of a file that was flushed with it; None when it never was, whatever the file holds.

    The whole file is read: only bytes that still have their digest count as stored.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < _FOOT.size:
            return None
        file.seek(size - _FOOT.size)
        crc, length, letters = _FOOT.unpack(file.read())
        if letters != _LETTERS or not _FOOT.size + 8 < length <= min(size, _SEAL_BYTES):
            return None
        file.seek(size - length)
        seal = file.read(length - _FOOT.size)
        text = seal[seal.find(b"{") :]
        if zlib.crc32(text) != crc:
            return None
        entry = Entry(**json.loads(text))
        if entry.size != size - length or _digest(path, entry.size) != entry.digest:
            return None
    return entry


def _digest(path: Path, size: int) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while size:
            chunk = file.read(min(size, _CHUNK))
            if not chunk:
                break
            found.update(chunk)
            size -= len(chunk)
    return found.hexdigest()
