"""The guarded child: what a broken or hostile file can do is end it, and nothing else (P15, T7, T8)."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless

from tests.dicom import builders
from triage.dicom.child import DecodingChild, SharedArray, Task
from triage.dicom.header import read_header
from triage.dicom.pixels import Decoder
from triage.domain.errors import Unavailable
from triage.domain.suitability import NotSuitableError, ReasonCode
from triage.sandbox import confine


def in_a_confined_child(attempt: Callable[[], object], cpu_seconds: int = 5) -> tuple[str, int]:
    """(what came back, wait status): "refused", "done", or nothing when it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        confine(cpu_seconds)
        try:
            attempt()
            os.write(writing, b"done")
        except (OSError, MemoryError, ValueError) as e:
            os.write(writing, b"refused" if not isinstance(e, MemoryError) else b"no memory")
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 100).decode()
    os.close(reading)
    return said, os.waitpid(child, 0)[1]


def _signal_the_parent() -> None:
    os.kill(os.getppid(), 0)


def _write_a_file() -> None:
    os.write(os.open("/tmp/triage-exploit", os.O_WRONLY | os.O_CREAT), b"x")


def _run_new_code() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    if libc.mmap(None, 4096, 7, 0x22, -1, 0) == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: socket.socket(),
        lambda: os.open("/etc/passwd", os.O_RDONLY),
        lambda: os.execv("/bin/true", ["true"]),
        lambda: os.fork(),
        lambda: Path("/tmp/nothing-here").unlink(),
        lambda: list(Path("/proc").iterdir()),
        _write_a_file,
        _signal_the_parent,
        _run_new_code,
    ],
    ids=["socket", "open", "exec", "fork", "unlink", "list", "write", "kill", "executable memory"],
)
def test_an_exploit_finds_nothing_to_take_hold_of(attempt: Callable[[], object]) -> None:
    assert in_a_confined_child(attempt)[0] == "refused"


def test_memory_and_time_end_where_the_limit_is() -> None:
    assert in_a_confined_child(lambda: bytearray(3 << 30))[0] == "no memory"

    def spin() -> None:
        while True:
            pass

    _, status = in_a_confined_child(spin, cpu_seconds=1)
    assert os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)


def test_computing_is_allowed() -> None:
    assert in_a_confined_child(lambda: np.arange(1_000_000).sum())[0] == "done"


def spinning_film(folder: Path) -> Path:
    """A JPEG-LS stream cut in the middle that pretends to end: CharLS never comes back (libraries 5)."""
    ds = builders.film()
    stream = bytes(imagecodecs.jpegls_encode(builders.pixels(ds)))
    ds.add_new(0x7FE00010, "OB", encapsulate([stream[: len(stream) // 2] + b"\xff\xd9"]))
    return builders.save(ds, folder / "spin.dcm", JPEGLSLossless)


def test_a_decoder_that_spins_is_ended_and_the_next_film_is_read(tmp_path: Path) -> None:
    spin, sound = spinning_film(tmp_path), builders.save(builders.film(), tmp_path / "sound.dcm")
    with Decoder(object_seconds=0.7) as decoder:
        begin = time.monotonic()
        with pytest.raises(NotSuitableError) as refusal:
            decoder.radiograph(spin, read_header(spin))
        assert refusal.value.answer.code in (ReasonCode.TIMEOUT, ReasonCode.CORRUPT_PIXELS)
        assert time.monotonic() - begin < 6
        assert decoder.radiograph(sound, read_header(sound)).pixels.max() > 0.9


def test_a_warm_parent_that_died_is_replaced(tmp_path: Path) -> None:
    path = builders.save(builders.film(), tmp_path / "film.dcm")
    with Decoder() as decoder:
        decoder.radiograph(path, read_header(path))
        process = decoder._child._process
        assert process is not None
        process.kill()
        process.wait()
        assert decoder.radiograph(path, read_header(path)).pixels.max() > 0.9


def test_the_warm_parent_has_one_thread_no_environment_and_goes_with_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAGE_DATABASE__URL", "postgresql://secret")
    path = builders.save(builders.film(), tmp_path / "film.dcm")
    decoder = Decoder()
    decoder.radiograph(path, read_header(path))
    process = decoder._child._process
    assert process is not None
    proc = Path(f"/proc/{process.pid}")
    assert len(list((proc / "task").iterdir())) == 1
    assert b"secret" not in (proc / "environ").read_bytes()
    decoder.close()
    assert process.poll() is not None


def test_a_file_that_is_gone_is_unavailable_and_no_reason_of_the_patient(tmp_path: Path) -> None:
    path = builders.save(builders.film(), tmp_path / "film.dcm")
    header = read_header(path)
    path.unlink()
    with Decoder() as decoder, pytest.raises(Unavailable, match=r"film\.dcm"):
        decoder.radiograph(path, header)


def test_more_files_than_one_message_takes_are_read_in_portions(tmp_path: Path) -> None:
    paths = builders.save_all(builders.ct_slices(205, step_mm=1.0, rows=16), tmp_path)
    with Decoder() as decoder:
        volume = decoder.volume(paths, [read_header(p) for p in paths])
    assert [int(v) for v in volume.hu[:, 0, 0]] == [-1000 + k for k in range(205)]


def test_random_damage_inside_compressed_frames_is_a_picture_or_a_reason(tmp_path: Path) -> None:
    chance = np.random.default_rng(7)
    ds = builders.film()
    streams = {
        "1.2.840.10008.1.2.4.70": bytes(imagecodecs.ljpeg_encode(builders.pixels(ds), bitspersample=12)),
        "1.2.840.10008.1.2.4.80": bytes(imagecodecs.jpegls_encode(builders.pixels(ds))),
        "1.2.840.10008.1.2.4.90": bytes(
            imagecodecs.jpeg2k_encode(builders.pixels(ds), level=0, codecformat="j2k")
        ),
    }
    outcomes = set()
    with Decoder(object_seconds=0.5) as decoder:
        for number in range(45):
            syntax = list(streams)[number % 3]
            stream = bytearray(streams[syntax])
            for at in chance.integers(0, len(stream), chance.integers(1, 6)):
                stream[at] = chance.integers(0, 256)
            ds.add_new(0x7FE00010, "OB", encapsulate([bytes(stream)]))
            path = builders.save(ds, tmp_path / f"{number}.dcm", syntax)  # type: ignore[arg-type]
            try:
                outcomes.add(decoder.radiograph(path, read_header(path)).pixels.shape)
            except NotSuitableError as e:
                outcomes.add(e.answer.code)
    assert outcomes <= {
        (240, 256),
        ReasonCode.CORRUPT_PIXELS,
        ReasonCode.TIMEOUT,
        ReasonCode.LOW_QUALITY,
        ReasonCode.TOO_LARGE,
    }
    assert len(outcomes) >= 2


def test_a_request_for_a_place_outside_the_output_ends_the_child_alone(tmp_path: Path) -> None:
    """The parent of the child trusts nothing that comes back but a report it understands."""
    path = builders.save(builders.ct_slices(1)[0], tmp_path / "a.dcm")
    with DecodingChild() as child:
        shared = SharedArray((1, 64, 64), np.int16)
        with pytest.raises(NotSuitableError):
            child.decode("slices", [Task(path, place=7)], 64, 64, shared)
        child.decode("slices", [Task(path)], 64, 64, shared)
        assert shared.array[0, 5, 5] == 24
        shared.close()
