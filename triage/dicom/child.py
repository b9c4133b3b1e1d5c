"""The worker's end of the guarded decoding child: foreign pixels are decoded where a crash, a bomb or an exploit ends
a process that holds nothing (assurance 6.2).

A `DecodingChild` keeps one warm parent process alive and starts a fresh one after its death. Not thread-safe: one per
worker process.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import triage
from triage.dicom import _decoder
from triage.domain.errors import Unavailable
from triage.domain.suitability import NotSuitableError, ReasonCode

OBJECT_SECONDS = 60.0  # wall clock for one object (assurance 6.2)
START_SECONDS = 60.0


@dataclass(frozen=True)
class Task:
    """One frame of one file, and the place in the output that it goes to; slope and intercept: Modality LUT."""

    path: Path
    frame: int = 0
    frames: int = 1
    place: int = 0
    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True)
class Report:
    """decoder: plug-in and version; notes: what the pixels needed ("no window, percentiles used")."""

    decoder: str
    notes: tuple[str, ...] = field(default=())


class SharedArray:
    """Memory that the child fills and we read, without a copy: an anonymous file, sized by us beforehand."""

    def __init__(
        self, shape: tuple[int, ...], dtype: type[np.float32] | type[np.int16] | type[np.uint8]
    ) -> None:
        self.size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.descriptor = os.memfd_create("triage-pixels", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, self.size)
        self._memory = mmap.mmap(self.descriptor, self.size)
        self.array: NDArray[Any] = np.frombuffer(self._memory, dtype).reshape(shape)

    def close(self) -> None:
        """Give up the descriptor; the array lives on as long as somebody holds it."""
        os.close(self.descriptor)


class DecodingChild:
    """with DecodingChild() as child: child.decode(...)"""

    def __init__(self, object_seconds: float = OBJECT_SECONDS) -> None:
        self._object_seconds = object_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def __enter__(self) -> DecodingChild:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def decode(
        self, kind: str, tasks: Sequence[Task], rows: int, columns: int, output: SharedArray
    ) -> Report:
        """Run tasks in one confined child ("film": one task to float32 grey; "slices": to int16 HU;
        "samples": of one file, as stored but uncompressed).

        Tasks of one file stand together. raises NotSuitableError with the child's reason (CORRUPT_PIXELS, TIMEOUT,
        TOO_LARGE, UNSUPPORTED_SYNTAX, PIXELS_MISSING, LOW_QUALITY), Unavailable when a file cannot be opened or no
        decoder can be started.
        """
        report = Report("")
        for some in _portions(tasks):
            report = self._portion(kind, some, rows, columns, output)
        return report

    def _portion(
        self, kind: str, tasks: Sequence[Task], rows: int, columns: int, output: SharedArray
    ) -> Report:
        paths = list(dict.fromkeys(task.path for task in tasks))
        numbers = {path: i for i, path in enumerate(paths)}
        job = {
            "kind": kind,
            "rows": rows,
            "columns": columns,
            "seconds": self._object_seconds,
            "size": output.size,
            "tasks": [[numbers[t.path], t.frame, t.frames, t.place, t.slope, t.intercept] for t in tasks],
        }
        with ExitStack() as opened:
            try:
                files = [opened.enter_context(path.open("rb")) for path in paths]
            except OSError as e:
                raise Unavailable(f"cannot read {Path(str(e.filename)).name}: {e.strerror}") from e
            answer = self._ask(job, [output.descriptor, *(f.fileno() for f in files)], len(tasks))
        if "reason" in answer:
            raise NotSuitableError(ReasonCode(answer["reason"]), str(answer["detail"]))
        return Report(str(answer["decoder"]), tuple(answer["notes"]))

    def _ask(self, job: dict[str, Any], descriptors: list[int], tasks: int) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._socket is not None
        self._socket.settimeout(self._object_seconds * tasks + START_SECONDS)
        try:
            socket.send_fds(self._socket, [json.dumps(job).encode()], descriptors)
            answer = self._socket.recv(_decoder.MAX_MESSAGE)
        except OSError as e:
            self.close()
            raise Unavailable(f"the decoding process does not answer ({type(e).__name__})") from e
        if not answer:
            self.close()
            raise Unavailable("the decoding process died")
        return dict(json.loads(answer))

    def _start(self) -> None:
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._socket = ours
            self._process = subprocess.Popen(
                [sys.executable, "-m", "triage.dicom._decoder", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Nothing of our environment: it may hold secrets. One thread: what forks must not have more.
                env={
                    "PYTHONPATH": str(Path(triage.__file__).parents[1]),
                    "OPENBLAS_NUM_THREADS": "1",
                    "OMP_NUM_THREADS": "1",
                },
            )
        ours.settimeout(START_SECONDS)
        try:
            ready = ours.recv(_decoder.MAX_MESSAGE)
        except OSError:
            ready = b""
        if not ready:
            self.close()
            raise Unavailable("the decoding process does not start; run: python -m triage.dicom._decoder")


def _portions(tasks: Sequence[Task]) -> list[list[Task]]:
    """Tasks in groups that fit one message: MAX_FILES files, 1000 frames."""
    groups: list[list[Task]] = [[]]
    files: set[Path] = set()
    for task in tasks:
        if (task.path not in files and len(files) == _decoder.MAX_FILES) or len(groups[-1]) == 1_000:
            groups.append([])
            files = set()
        files.add(task.path)
        groups[-1].append(task)
    return groups
