"""C-STORE throughput with durability, index and validation on, against other receivers, in one interleaved run.

    make bench ONLY=ingest          ROUNDS=5 SLICES=400 FILMS=20 ASSOCIATIONS=1,4,8 RECEIVERS=triage,limit,...

Every send has fresh UIDs: an object that is sent again would be a duplicate, which is cheaper. The senders are
dcmtk's `storescu`; their files lie in memory. Ratios are of rounds, so that a noisy neighbour hits both sides.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import func, select

from triage.cli.up import as_toml, free_port
from triage.store.database import Database
from triage.store.schema import instance

ROUNDS = int(os.environ.get("ROUNDS", "5"))
COUNTS = {"CT": int(os.environ.get("SLICES", "400")), "DX": int(os.environ.get("FILMS", "20"))}
ASSOCIATIONS = [int(n) for n in os.environ.get("ASSOCIATIONS", "1,4,8").split(",")]
CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "DX": "1.2.840.10008.5.1.4.1.1.1.1"}
SHAPES = {"CT": (512, 512), "DX": (2500, 2000)}
ROOT = "1.2.826.0.1.3680043.10.1337.77"
TOKEN = b"1111111111"  # replaced in every UID of a set before each send
NODELAY = "TCP_NODELAY"


@dataclass(frozen=True)
class Receiver:
    """command: with {port} and {folder}; nodelay: TCP_NODELAY=1 in its environment."""

    command: list[str]
    nodelay: bool = False


def receivers() -> dict[str, Receiver]:
    mine = [sys.executable, "-m", "bench._peers"]
    storescp = ["storescp", "--fork", "+B", "-od", "{folder}", "{port}"]
    orthanc = ["Orthanc", "{folder}/orthanc.json"]
    known = {
        "triage": Receiver(
            [
                sys.executable,
                "-m",
                "triage.cli.main",
                "--config",
                "{folder}/triage.toml",
                "up",
                "--only",
                "receiver",
            ]
        ),
        "limit": Receiver([*mine, "limit", "{port}", "{folder}", "flush"]),
        "limit renamed": Receiver([*mine, "limit", "{port}", "{folder}", "rename"]),
        "limit unsynced": Receiver([*mine, "limit", "{port}", "{folder}", "none"]),
        "storescp": Receiver(storescp),
        "storescp nodelay": Receiver(storescp, nodelay=True),
        "orthanc": Receiver(orthanc),
        "orthanc nodelay": Receiver(orthanc, nodelay=True),
        "pynetdicom": Receiver([*mine, "pynetdicom", "{port}", "{folder}"]),
    }
    wanted = [n.strip() for n in os.environ.get("RECEIVERS", "").split(",") if n.strip()]
    names = [n for n in known if not wanted or n in wanted]
    return {n: known[n] for n in names if shutil.which(known[n].command[0])}


@dataclass
class Objects:
    """One set of files; `renew` gives every one of them new UIDs."""

    paths: list[Path]
    megabytes: float
    places: list[list[int]] = field(default_factory=list)
    sent: int = 0

    def renew(self) -> None:
        self.sent += 1
        token = b"2" + f"{self.sent:09d}".encode()
        for path, places in zip(self.paths, self.places, strict=True):
            with path.open("r+b") as file:
                for at in places:
                    file.seek(at)
                    file.write(token)


def write_objects(folder: Path, kind: str) -> Objects:
    folder.mkdir(parents=True)
    chance = np.random.default_rng(1)
    rows, columns = SHAPES[kind]
    made = Objects([], 0.0)
    for number in range(COUNTS[kind]):
        path = folder / f"{number:04d}.dcm"
        _object(kind, number, chance.normal(0, 100, (rows, columns)).astype("<i2")).save_as(
            path, enforce_file_format=True
        )
        head = path.read_bytes()[:8192]
        places, at = [], head.find(TOKEN)
        while at >= 0:
            places.append(at)
            at = head.find(TOKEN, at + 1)
        assert len(places) == 4, places  # file meta and three UIDs
        made.paths.append(path)
        made.places.append(places)
        made.megabytes += path.stat().st_size / 1e6
    return made


def _object(kind: str, number: int, pixels: np.ndarray) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    base = f"{ROOT}.{'12'[kind == 'DX']}.{TOKEN.decode()}"
    ds.SOPClassUID, ds.SOPInstanceUID = CLASSES[kind], f"{base}.3.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{base}.1", f"{base}.2"
    ds.PatientName, ds.PatientID, ds.Modality, ds.InstanceNumber = "Bench^One", "BENCH1", kind, number
    ds.StudyDate, ds.StudyTime, ds.BodyPartExamined = "20260101", "120000", "CHEST"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [0.7, 0.7], 1.0
    ds.PixelData = pixels.tobytes()
    return ds


class Running:
    """A receiver with its own folder, measured from outside."""

    def __init__(self, name: str, receiver: Receiver, folder: Path) -> None:
        self.name, self.folder, self.port = name, folder, free_port()
        folder.mkdir()
        self._configure()
        environment = {k: v for k, v in os.environ.items() if k != NODELAY}
        environment |= {NODELAY: "1"} if receiver.nodelay else {}
        command = [part.format(port=self.port, folder=folder) for part in receiver.command]
        log = (folder.parent / f"{name}.log").open("wb")
        self.process = psutil.Popen(command, env=environment, stdout=log, stderr=log)

    def _configure(self) -> None:
        if self.name == "triage":
            values = {"home": str(self.folder), "dicom": {"port": self.port, "associations_per_peer_max": 20},
                      "broker": {"url": "redis://127.0.0.1:1/0"}}  # fmt: skip
            (self.folder / "triage.toml").write_text(as_toml(values))
        elif self.name.startswith("orthanc"):
            values = {"StorageDirectory": str(self.folder), "IndexDirectory": str(self.folder), "DicomPort": self.port,
                      "DicomCheckCalledAet": False, "HttpPort": free_port(), "RemoteAccessAllowed": False,
                      "OverwriteInstances": True, "Plugins": []}  # fmt: skip
            (self.folder / "orthanc.json").write_text(json.dumps(values))

    def wait(self) -> None:
        deadline = time.monotonic() + 120
        echo = ["echoscu", "-aec", "TRIAGE", "127.0.0.1", str(self.port)]
        while subprocess.run(echo, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, f"{self.name} does not answer"
            time.sleep(0.2)

    def tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def processor_seconds(self) -> float:
        total = 0.0
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def resident_mib(self) -> float:
        total = 0
        for process in self.tree():
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
        return total / (1 << 20)

    def indexed(self) -> int:
        database = Database(f"sqlite:///{self.folder / 'triage.db'}")
        with database.read() as tx:
            found = tx.execute(select(func.count()).select_from(instance)).scalar_one()
        database.close()
        return int(found)

    def clear(self) -> None:
        """What has no index of its own would otherwise fill the disk."""
        if self.name != "triage" and not self.name.startswith("orthanc"):
            for path in self.folder.iterdir():
                path.unlink()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[dict[str, Running]]:
    started: dict[str, Running] = {}
    try:
        for name, receiver in receivers().items():
            started[name] = Running(name, receiver, folder / name.replace(" ", "-"))
        for one in started.values():
            one.wait()
        yield started
    finally:
        for one in started.values():
            tree = one.tree()
            one.process.terminate()
            _, alive = psutil.wait_procs(tree, timeout=20)
            for process in alive:
                process.kill()


class SendFailed(Exception):
    """A sender was refused, aborted or timed out."""


def send(objects: Objects, port: int, associations: int) -> float:
    """Seconds that `storescu` needs, in so many processes at once."""
    begin = time.perf_counter()
    senders = [
        subprocess.Popen(
            ["storescu", "-aec", "TRIAGE", "127.0.0.1", str(port), *map(str, objects.paths[n::associations])],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for n in range(associations)
    ]  # fmt: skip
    failed = ""
    for sender in senders:
        text = sender.communicate()[0]
        if sender.returncode or b"Failed" in text:
            failed = text.decode("utf-8", "replace").strip().splitlines()[-1]
    if failed:
        raise SendFailed(failed)
    return time.perf_counter() - begin


def measure() -> dict[str, Any]:
    """Instances a second, ratios to the others in the same rounds, processor time per instance, resident memory."""
    memory = Path(tempfile.mkdtemp(prefix="triage-ingest-", dir="/dev/shm"))
    disk = Path(tempfile.mkdtemp(prefix="triage-ingest-"))
    try:
        sets = {kind: write_objects(memory / kind, kind) for kind in COUNTS if COUNTS[kind]}
        with running(disk) as started:
            return _rounds(started, sets)
    finally:
        shutil.rmtree(memory, ignore_errors=True)
        shutil.rmtree(disk, ignore_errors=True)


def _rounds(started: dict[str, Running], sets: dict[str, Objects]) -> dict[str, Any]:
    chance = random.Random(20261126)
    cases = [(kind, n) for kind in sets for n in ASSOCIATIONS]
    seconds: dict[tuple[str, int, str], list[float]] = {}
    used: dict[tuple[str, int, str], list[float]] = {}
    memory: dict[str, float] = {}
    acknowledged, index_lag, failed = 0, [], []
    for _ in range(ROUNDS):
        for kind, associations in cases:
            for name in chance.sample(list(started), len(started)):
                one = started[name]
                sets[kind].renew()
                before = one.processor_seconds()
                try:
                    took = send(sets[kind], one.port, associations)
                except (
                    SendFailed
                ) as error:  # an overloaded machine: said in the figures, and left out of them
                    failed.append(f"{name}, {kind}, {associations}: {error}")
                    continue
                if name == "triage":
                    acknowledged += len(sets[kind].paths)
                    index_lag.append(_wait_indexed(one, acknowledged))
                seconds.setdefault((kind, associations, name), []).append(took)
                used.setdefault((kind, associations, name), []).append(one.processor_seconds() - before)
                memory[name] = max(memory.get(name, 0.0), one.resident_mib())
                one.clear()
                os.sync()
    figures: dict[str, Any] = {"rounds": ROUNDS, "objects": COUNTS, "load": os.getloadavg()}
    for kind, associations in cases:
        figures[f"{kind}, {associations} association(s)"] = {
            name: _figures(seconds, used, (kind, associations, name), len(sets[kind].paths))
            for name in started
            if (kind, associations, name) in seconds
        }
    figures["resident_mib"] = {name: round(mib) for name, mib in memory.items()}
    if failed:
        figures["failed sends"] = failed
    if index_lag:
        figures["triage, last answer to last row, seconds"] = round(statistics.median(index_lag), 3)
    return figures


def _wait_indexed(one: Running, expected: int) -> float:
    begin = time.perf_counter()
    while one.indexed() < expected:
        assert time.perf_counter() - begin < 60, "acknowledged objects are not indexed"
        time.sleep(0.01)
    return time.perf_counter() - begin


def _figures(
    seconds: dict[tuple[str, int, str], list[float]],
    used: dict[tuple[str, int, str], list[float]],
    key: tuple[str, int, str],
    count: int,
) -> dict[str, float]:
    kind, associations, _ = key
    ours = seconds.get((kind, associations, "triage"))
    found = {
        "instances_per_second": round(count / statistics.median(seconds[key]), 1),
        "processor_ms_per_instance": round(1000 * statistics.median(used[key]) / count, 2),
    }
    if ours and len(ours) == len(seconds[key]):
        pairs = zip(seconds[key], ours, strict=True)
        found["triage_is_times_as_fast"] = round(statistics.median(theirs / our for theirs, our in pairs), 2)
    return found
