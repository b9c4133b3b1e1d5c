"""A Part 10 file of somebody else becomes one of ours: its data set untouched under our own file meta information.

So that an object has one digest, whether it came by C-STORE, over the web, through a folder or was fetched.
"""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from triage.dicom import services
from triage.dicom.elements import read_part10
from triage.dicom.header import read_header
from triage.dicom.incoming import part10_preamble
from triage.dicom.text import Values
from triage.domain.errors import Refused, Unavailable
from triage.domain.study import InstanceHeader

_CHUNK = 1 << 20
_META = {0x00020002: None, 0x00020003: None}
_NAMES = {0x00080016: None, 0x00080018: None}


class ClassNotSupported(Refused):
    """We keep no objects of this SOP class (standards 2.8)."""


class SyntaxNotSupported(Refused):
    """We can decode nothing of this transfer syntax (standards 5.1)."""


@dataclass(frozen=True)
class Written:
    """A file flushed to the disk that has no place in the spool yet."""

    path: Path
    digest: str
    size: int
    header: InstanceHeader


def names_of(path: Path) -> tuple[str, str]:
    """(SOP Class UID, SOP Instance UID) as far as they can be read; "" where not. Never raises for what is in it."""
    try:
        with path.open("rb") as file:
            found = read_part10(file, _NAMES)
    except (Refused, OSError):
        return "", ""
    values, meta = Values(found.dataset), Values(found.meta)
    return (
        (values.code(0x00080016) or meta.code(0x00020002))[:64],
        (values.code(0x00080018) or meta.code(0x00020003))[:64],
    )


def rewrite(source: Path, target: Path, *, object_bytes: int) -> Written:
    """Copy the object in `source` to `target` under our file meta information, flushed.

    object_bytes  longest file that is taken
    raises  Refused (ClassNotSupported, SyntaxNotSupported, ObjectMismatch) for the object's own fault, OSError
            EFBIG, ENOSPC; Unavailable when `source` cannot be read
    """
    try:
        with source.open("rb") as file:
            found = read_part10(file, _NAMES)
            meta, names = Values(found.meta), Values(found.dataset)
            preamble = part10_preamble(
                meta.code(0x00020002) or names.code(0x00080016),
                meta.code(0x00020003) or names.code(0x00080018),
                found.transfer_syntax_uid,
            )
            _check_supported(names.code(0x00080016), found.transfer_syntax_uid)
            if source.stat().st_size > object_bytes:
                raise OSError(errno.EFBIG, f"the object is longer than {object_bytes} bytes")
            file.seek(found.dataset_offset)
            digest, size = _copy(file, preamble, target)
    except FileNotFoundError as error:
        raise Unavailable(f"cannot read {source.name}: {error.strerror}") from error
    return Written(target, digest, size, read_header(target))


def _check_supported(sop_class_uid: str, transfer_syntax_uid: str) -> None:
    if transfer_syntax_uid not in services.TRANSFER_SYNTAXES:
        raise SyntaxNotSupported(f"transfer syntax {transfer_syntax_uid[:64]} is not supported")
    if sop_class_uid not in services.STORAGE_CLASSES:
        raise ClassNotSupported(f"SOP class {sop_class_uid[:64]} is not kept here")


def _copy(file, preamble: bytes, target: Path) -> tuple[str, int]:  # type: ignore[no-untyped-def]
    found, size = hashlib.sha256(), 0
    with target.open("xb") as out:
        chunk = preamble
        while chunk:
            out.write(chunk)
            found.update(chunk)
            size += len(chunk)
            chunk = file.read(_CHUNK)
        out.flush()
        os.fdatasync(out.fileno())
    return found.hexdigest(), size
