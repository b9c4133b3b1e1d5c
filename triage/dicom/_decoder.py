"""The warm parent of the decoding children: `python -m triage.dicom._decoder FD`, started by `child`.

Imports the codecs once, then forks one confined child per request. It never looks at a foreign byte itself, holds no
secret and has one thread. Requests and answers are JSON over one SOCK_SEQPACKET socket, files and the output memory
come as descriptors with the request:

  {"kind": "film" | "slices" | "samples", "rows", "columns", "seconds", "size", "tasks": [[file, frame, frames, place,
  slope, intercept], ...]} with descriptors [output memory, file 0, file 1, ...]
  {"decoder", "notes"} or {"reason", "detail"}
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from triage.dicom import codecs, grayscale
from triage.dicom.elements import MAX_INFLATED_HEADER, Elements, read_part10
from triage.dicom.frames import Frames, corrupt
from triage.dicom.text import Values
from triage.domain.errors import Refused
from triage.domain.study import LOSSY_SYNTAXES
from triage.domain.suitability import NotSuitableError, ReasonCode
from triage.sandbox import confine

MAX_MESSAGE = 131_072
MAX_FILES = 200  # descriptors of one message (the kernel's limit is 253)
_REPORT = 4_096
_STEP = b"."


def main(descriptor: int) -> None:
    _warm_up()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which closes our socket
    with socket.socket(fileno=descriptor) as requests:
        requests.send(json.dumps({"ready": os.getpid()}).encode())
        while True:
            message, descriptors, _, _ = socket.recv_fds(requests, MAX_MESSAGE, MAX_FILES + 1)
            if not message:
                return
            try:
                answer = _serve(json.loads(message), descriptors, requests)
            finally:
                for d in descriptors:
                    os.close(d)
            try:
                requests.send(json.dumps(answer).encode())
            except BrokenPipeError:
                return  # the worker is gone


def _warm_up() -> None:
    """Run what a child will run once, on our own bytes: it can open no file, so nothing may be imported later."""
    codecs.warm_up()
    coding = grayscale.Coding(bits_stored=12, shift=0, signed=False)
    codes = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    film = Elements(values={0x00280002: b"\1\0", 0x00280004: b"MONOCHROME2 "})
    for window in ({}, {0x00281050: b"2048", 0x00281051: b"1024", 0x00281056: b"SIGMOID"}):
        grayscale.grey_table(Values(replace(film, values=film.values | window)), coding, codes)
    grayscale.hounsfield_table(Values(film), coding, 1.0, -1024.0)


def _serve(job: dict[str, Any], descriptors: list[int], requests: socket.socket) -> dict[str, Any]:
    """Fork, watch, and say what became of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            requests.close()
            _child(job, descriptors, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    try:
        report, late = _watch(reading, float(job["seconds"]))
    finally:
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if report:
        return dict(json.loads(report))
    killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if late or killed_by == signal.SIGXCPU:
        return {"reason": ReasonCode.TIMEOUT.value, "detail": f"decoding took over {job['seconds']} s"}
    how = f"signal {killed_by}" if killed_by else "no report"
    return {"reason": ReasonCode.CORRUPT_PIXELS.value, "detail": f"the decoder died ({how})"}


def _watch(pipe: int, seconds: float) -> tuple[bytes, bool]:
    """(report, late): each task has `seconds`."""
    report, deadline = b"", time.monotonic() + seconds
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return b"", True
        got = os.read(pipe, _REPORT)
        if not got:
            return report, False
        if not report and got.strip(_STEP) == b"":
            deadline = time.monotonic() + seconds
            continue
        report += got if report else got.lstrip(_STEP)
        if len(report) > _REPORT:
            return b"", False


def _child(job: dict[str, Any], descriptors: list[int], pipe: int) -> None:
    quiet = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(quiet, standard)
    os.close(quiet)
    size = int(job["size"])
    output = mmap.mmap(descriptors[0], size)
    files = [os.fdopen(os.dup(d), "rb", buffering=65_536) for d in descriptors[1:]]
    tasks = job["tasks"]
    confine(int(job["seconds"]) + len(tasks))
    os.write(pipe, json.dumps(_report(job, files, output, pipe)).encode()[:_REPORT])


def _report(job: dict[str, Any], files: list[BinaryIO], output: mmap.mmap, pipe: int) -> dict[str, Any]:
    """Do the job; whatever goes wrong is a reason."""
    try:
        if job["kind"] == "film":
            return _film(files[0], job, output)
        if job["kind"] == "samples":
            return _samples(files[0], job, output, pipe)
        return _slices(files, job, output, pipe)
    except NotSuitableError as e:
        reason, detail = e.answer.code, e.answer.detail
    except MemoryError:
        reason, detail = ReasonCode.TOO_LARGE, "decoding needs too much memory"
    except Refused as e:
        reason, detail = ReasonCode.CORRUPT_PIXELS, str(e)
    except Exception as e:  # noqa: BLE001 (the process's door; the text may hold the file's bytes)
        reason, detail = ReasonCode.CORRUPT_PIXELS, type(e).__name__
    return {"reason": reason.value, "detail": detail}


class _Object:
    """One opened file whose declared geometry is the one that the worker planned with."""

    def __init__(self, file: BinaryIO, rows: int, columns: int, frames: int) -> None:
        bound = rows * columns * 2 * frames
        part10 = read_part10(file, grayscale.PIXEL_ELEMENTS, inflated_limit=MAX_INFLATED_HEADER + bound)
        if part10.dataset.pixel_tag != 0x7FE00010 or part10.dataset.pixel_length == 0:
            raise NotSuitableError(ReasonCode.PIXELS_MISSING)
        self.values = Values(part10.dataset)
        self.rows, self.columns = rows, columns
        if (self.values.unsigned(0x00280010), self.values.unsigned(0x00280011)) != (rows, columns):
            raise corrupt("rows and columns changed since the header was read")
        self.syntax = part10.transfer_syntax_uid
        codecs.require_known(self.syntax)
        encapsulated = self.syntax not in codecs.NATIVE
        lossy = self.syntax in LOSSY_SYNTAXES
        self.coding = grayscale.coding(self.values, encapsulated=encapsulated, lossy=lossy)
        plane = codecs.Plane(rows, columns, self.values.unsigned(0x00280100), self.coding.bits_stored)
        self.plane = plane
        self._frames = Frames(part10, frame_bytes=plane.bytes, frames=frames)
        if self._frames.encapsulated != encapsulated and not self.syntax.endswith(".1.98"):
            raise corrupt("encapsulation contradicts the transfer syntax")

    def samples(self, frame: int) -> Any:
        return codecs.decode_frame(self._frames.read(frame), self.syntax, self.plane)

    def codes(self, frame: int) -> Any:
        return self.coding.codes(self.samples(frame))


def _film(file: BinaryIO, job: dict[str, Any], output: mmap.mmap) -> dict[str, Any]:
    film = _Object(file, int(job["rows"]), int(job["columns"]), 1)
    codes = film.codes(0)
    if codes.min() == codes.max():
        raise NotSuitableError(ReasonCode.LOW_QUALITY, "every pixel has the same value")
    grey = grayscale.grey_table(film.values, film.coding, codes)
    out = np.frombuffer(output, np.float32).reshape(film.rows, film.columns)
    np.take(grey.table, codes, out=out, mode="clip")
    return {"decoder": codecs.decoder_name(film.syntax), "notes": list(grey.notes)}


def _slices(files: list[BinaryIO], job: dict[str, Any], output: mmap.mmap, pipe: int) -> dict[str, Any]:
    """Hounsfield units of each task's frame into its place; a step on the pipe for each."""
    count = int(job["rows"]) * int(job["columns"])
    source, opened = None, -1
    for file, frame, frames, place, slope, intercept in job["tasks"]:
        if source is None or file != opened:
            source, opened = _Object(files[file], int(job["rows"]), int(job["columns"]), int(frames)), file
            if source.values.unsigned(0x00280002) != 1:
                raise corrupt("a CT slice in colour")
        table = grayscale.hounsfield_table(source.values, source.coding, float(slope), float(intercept))
        out = np.frombuffer(output, np.int16, count, offset=2 * count * int(place))
        np.take(table, source.codes(int(frame)).ravel(), out=out, mode="clip")
        os.write(pipe, _STEP)
    assert source is not None
    return {"decoder": codecs.decoder_name(source.syntax), "notes": []}


def _samples(file: BinaryIO, job: dict[str, Any], output: mmap.mmap, pipe: int) -> dict[str, Any]:
    """Each task's frame as native little endian samples (PS3.5 8.1.1), for those who ask for it uncompressed."""
    rows, columns = int(job["rows"]), int(job["columns"])
    source = _Object(file, rows, columns, int(job["tasks"][0][2]))
    if source.values.unsigned(0x00280002) != 1:
        raise NotSuitableError(ReasonCode.UNSUPPORTED_SYNTAX, "compressed colour")
    size = source.plane.bits_allocated // 8
    for _, frame, _, place, _, _ in job["tasks"]:
        samples = source.samples(int(frame))
        kind, start = f"<{samples.dtype.kind}{size}", rows * columns * size * int(place)
        out = np.frombuffer(output, kind, rows * columns, offset=start)
        out[:] = samples.ravel()
        os.write(pipe, _STEP)
    return {"decoder": codecs.decoder_name(source.syntax), "notes": []}


if __name__ == "__main__":
    main(int(sys.argv[1]))
