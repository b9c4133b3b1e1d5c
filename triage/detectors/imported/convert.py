"""The importer's end of the child that opens foreign model files: bounded in size and time, answers checked."""

from __future__ import annotations

import hashlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

import triage
from triage.detectors.imported.child import LARGEST, SECONDS
from triage.domain.errors import Refused, Unavailable

_LARGEST_ANSWER = 2 * LARGEST
_WALL_SECONDS = SECONDS + 60.0


def checked(path: Path, sha256: str | None) -> str:
    """The SHA-256 of a model file. raises Refused when it is absent, too large, or not the expected one."""
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise Refused(f"{path} has {size >> 20} MB; a model file has at most {LARGEST >> 20} MB")
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror})") from error
    if sha256 is not None and found != sha256.strip().lower():
        raise Refused(
            f"{path} has the sha256 {found}, expected {sha256}: it is not the file that was meant; get it again"
        )
    return found


def converted(path: Path, kind: str) -> tuple[bytes, ...]:
    """What the child made of a file: (safetensors,) of kind "torch", (xml, bin) of kind "onnx".

    raises  Refused with the child's words, or when it died or ran out of time; Unavailable when it cannot start
    """
    reading, writing = os.pipe()
    try:
        with tempfile.TemporaryDirectory() as folder:
            with path.open("rb") as file:
                process = _started(kind, file, writing, folder)
            os.close(writing)
            writing = -1
            try:
                return _answer(reading, path)
            finally:
                process.kill()
                process.wait()
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _started(kind: str, file: BinaryIO, writing: int, folder: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "triage.detectors.imported.child",
        kind,
        str(file.fileno()),
        str(writing),
    ]
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            pass_fds=[file.fileno(), writing],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Nothing of our environment: it may hold secrets.
            env={
                "PYTHONPATH": str(Path(triage.__file__).parents[1]),
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
        )
    except OSError as error:
        raise Unavailable(f"the process that opens model files cannot start ({error.strerror})") from error


def _answer(reading: int, path: Path) -> tuple[bytes, ...]:
    content = bytearray()
    deadline = time.monotonic() + _WALL_SECONDS
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise Refused(f"{path.name}: opening it took over {_WALL_SECONDS:.0f} s")
        got = os.read(reading, 1 << 20)
        if not got:
            break
        content += got
        if len(content) > _LARGEST_ANSWER:
            raise Refused(f"{path.name}: its weights are larger than {_LARGEST_ANSWER >> 20} MB")
    return _parts(bytes(content), path)


def _parts(content: bytes, path: Path) -> tuple[bytes, ...]:
    head, found, rest = content.partition(b"\n")
    if not found:
        raise Refused(f"{path.name} ended the process that opened it: it is damaged, or made to do harm")
    answer = json.loads(head)
    if "error" in answer:
        raise Refused(f"{path.name} is no usable model file: {answer['error']}")
    parts = []
    for size in answer["parts"]:
        parts.append(rest[:size])
        rest = rest[size:]
    return tuple(parts)
