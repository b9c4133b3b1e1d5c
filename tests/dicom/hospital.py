"""A receiver for tests, with what it kept and heard, and the films it is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dicom import builders
from triage.dicom.receive import Receiver
from triage.dicom.receiver_config import ReceivedObject, ReceiverConfig, ReceiverLimits
from triage.dicom.send import echo, send

QUICK = ReceiverLimits(request_seconds=1.0, pdu_seconds=2.0, idle_seconds=5.0)


class Hospital:
    """A receiver with what it kept and heard; `refuse` is raised instead of keeping, as long as it is set."""

    def __init__(self, folder: Path, limits: ReceiverLimits = QUICK) -> None:
        self.kept = folder / "objects"
        self.kept.mkdir()
        self.incoming = folder / "incoming"
        self.received: list[ReceivedObject] = []
        self.ended: list[tuple[str, bool, list[str]]] = []
        self.broken: list[OSError] = []
        self.refuse: Exception | None = None
        config = ReceiverConfig(
            incoming=self.incoming,
            port=0,
            may_call=lambda caller: caller.ae_title != "STRANGER",
            limits=limits,
        )
        self.receiver = Receiver(
            config,
            on_object=self._keep,
            on_association_end=lambda *end: self.ended.append(end),
            on_broken_disk=self.broken.append,
        )
        self.receiver.start()

    @property
    def port(self) -> int:
        return self.receiver.port

    def _keep(self, received: ReceivedObject) -> int:
        if self.refuse is not None:
            raise self.refuse
        received.path.rename(self.kept / f"{received.digest}.dcm")
        self.received.append(received)
        return 0

    def send(self, *paths: Path, calling: str = "MODALITY") -> list[int | None]:
        results = send(
            list(paths),
            host="127.0.0.1",
            port=self.port,
            calling=calling,
            called="TRIAGE",
            timeout_seconds=10,
        )
        return [r.status for r in results]

    def echo(self, **names: str) -> float:
        begin = time.monotonic()
        echo(
            "127.0.0.1",
            self.port,
            called=names.get("called", "TRIAGE"),
            calling=names.get("calling", "MODALITY"),
            timeout_seconds=5,
        )
        return time.monotonic() - begin

    def left_over(self) -> list[Path]:
        """Files with bytes in them; names made ahead have none."""
        return [path for path in self.incoming.iterdir() if path.stat().st_size]


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.receiver.stop(grace_seconds=1)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return builders.save(builders.film(), tmp_path / "film.dcm")


def eventually(condition: Callable[[], object], within_seconds: float = 5) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def data_set(path: Path) -> bytes:
    whole = path.read_bytes()
    return whole[144 + int.from_bytes(whole[140:144], "little") :]
