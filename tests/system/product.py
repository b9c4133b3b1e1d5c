"""The real product as its own processes, for tests: started, spoken with from outside, killed in parts, drained."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pydicom

from triage.cli.up import as_toml, free_port
from triage.dicom.send import SendResult, send
from triage.domain.errors import Unavailable
from triage.hl7.mllp import Inbox, MllpListener
from triage.phantom.identity import identity_for, uid_of
from triage.phantom.person import make_thorax
from triage.phantom.write import write_ct, write_radiograph
from triage.store import users
from triage.store.database import Database
from triage.workflow.constancy import FINDING_OF, Phantoms

FILM_PX = 700
SCOPES = ["worklist:read", "worklist:act", "alerts:act", "qa:read", "audit:read", "metrics:read"]


def wait_until(condition: Callable[[], Any], within_seconds: float, what: str) -> Any:
    """The first true value of `condition`; fails with `what` when the time is over."""
    deadline = time.monotonic() + within_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_seconds:.0f} s: {what}")
        time.sleep(0.05)


@dataclass
class Product:
    """A running `triage up` in its own home."""

    home: Path
    values: dict[str, Any]
    inbox: Inbox
    listener: MllpListener
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    token: str = "system-test-token"

    @property
    def dicom_port(self) -> int:
        return int(self.values["dicom"]["port"])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.values['web']['port']}"

    @property
    def log(self) -> Path:
        return self.home / "log.txt"

    def start(self) -> None:
        config = self.home / "triage.toml"
        config.write_text(as_toml(self.values))
        environment = {**os.environ, **self.environment}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "triage.cli.main", "--config", str(config), "up"],
                stdout=log, stderr=log, env=environment,
            )  # fmt: skip
        self.wait_ready()

    def wait_ready(self, within_seconds: float = 240) -> None:
        wait_until(self._is_ready, within_seconds, f"the product is up; its log: {self.tail()}")

    def _is_ready(self) -> bool:
        assert self.process is not None and self.process.poll() is None, f"it ended: {self.tail()}"
        try:
            if httpx.get(f"{self.address}/ready", timeout=2, trust_env=False).status_code != 200:
                return False
            found = httpx.get(f"{self.address}/health", timeout=2, trust_env=False).json()
        except (httpx.HTTPError, ValueError):
            return False
        beating = {c["name"].split("@")[0] for c in found["checks"] if c["ok"]}
        return {"receiver", "worker-stat", "worker-routine", "relay"} <= beating

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def stop(self) -> int:
        """SIGTERM, and the exit code; nothing of it is left."""
        assert self.process is not None
        if self.process.poll() is None:
            mine = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(timeout=60)
            _, alive = psutil.wait_procs(mine, timeout=10)
            assert not alive, f"left behind: {[p.cmdline() for p in alive]}"
            return code
        return self.process.returncode

    def pids(self, part: str) -> list[int]:
        """Processes of a part, children too: "receiver", "worker-stat", "relay", "broker", "web" ..."""
        assert self.process is not None
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                words = child.cmdline()
                is_web = part == "web" and "triage.web.serve" in " ".join(words)
                is_broker = part == "broker" and any("redis" in w for w in words[:1])
                if is_web or is_broker or part in words:
                    found.append(child.pid)
        return found

    def kill(self, part: str) -> int:
        """SIGKILL to every process of a part; returns how many."""
        pids = self.pids(part)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def database(self) -> Database:
        return Database(self.values.get("database", {}).get("url") or f"sqlite:///{self.home / 'triage.db'}")

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.address}{path}", headers=self.headers, timeout=20, trust_env=False)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        return httpx.post(
            f"{self.address}{path}",
            json=body or {},
            headers={**self.headers, **headers},
            timeout=20,
            trust_env=False,
        )

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def store(self, paths: Sequence[Path]) -> list[SendResult]:
        return send(paths, host="127.0.0.1", port=self.dicom_port, calling="MODALITY", called="TRIAGE")

    def store_until_taken(self, paths: Sequence[Path], within_seconds: float = 60) -> None:
        """As archives do: what was not answered 0000 is sent again."""
        deadline = time.monotonic() + within_seconds
        left = list(paths)
        while left:
            try:
                left = [r.path for r in self.store(left) if not r.ok]
            except Unavailable:
                time.sleep(0.2)
            assert time.monotonic() < deadline, f"{len(left)} objects were never taken: {self.tail()}"

    def row(self, study_uid: str) -> dict[str, Any] | None:
        items = self.get("/api/v1/worklist?limit=500")["items"]
        return next((i for i in items if i["study_uid"] == study_uid), None)

    def wait_row(self, study_uid: str, within_seconds: float = 240, **wanted: Any) -> dict[str, Any]:
        """The worklist row of a study once it has these values."""

        def fits() -> dict[str, Any] | None:
            row = self.row(study_uid)
            return row if row and all(row[k] == v for k, v in wanted.items()) else None

        found: dict[str, Any] = wait_until(
            fits, within_seconds, f"{wanted}; the row is {self.row(study_uid)}; log: {self.tail()}"
        )
        return found


@contextlib.contextmanager
def running(home: Path, **changes: Any) -> Iterator[Product]:
    """A product in `home`, up; drained at the end. `changes` replace tables or keys of its settings.

    inbox, handler  what answers its route "ward";  more_routes: beside that one
    """
    more_routes = changes.pop("more_routes", [])
    inbox = changes.pop("inbox", None) or Inbox()
    handler = changes.pop("handler", inbox)
    environment = changes.pop("environment", {})
    listener = MllpListener("127.0.0.1", 0, handler)
    mllp_port = listener.start()
    home.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "home": str(home),
        "site": "TEST",
        "quiet_seconds": 1.0,
        "constancy_seconds": 86_400.0,
        "dicom": {"port": free_port()},
        "web": {"port": free_port()},
        "hl7": {"port": free_port()},
        "routes": [
            {"name": "ward", "kind": "mllp", "host": "127.0.0.1", "port": mllp_port, "timeout_seconds": 2.0,
             "processing_id": "T"},
            *more_routes,
        ],
    }  # fmt: skip
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    product = Product(home, values, inbox, listener, environment)
    _place_phantoms(home / "constancy" / "template")
    try:
        product.start()
        with product.database().write() as tx:
            users.add_token(tx, "system-test", product.token, SCOPES, datetime.now(UTC))
        yield product
    finally:
        if product.process is not None and product.process.poll() is None:
            product.process.send_signal(signal.SIGTERM)
            try:
                product.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                for child in psutil.Process(product.process.pid).children(recursive=True):
                    child.kill()
                product.process.kill()
        listener.stop()


def _place_phantoms(template: Path) -> None:
    """Every product begins by sending its constancy phantoms; they are the same in each home and cost 15 s to make."""
    if not template.exists():
        shutil.copytree(_phantoms(), template, copy_function=os.link)


@functools.cache
def _phantoms() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="triage-phantoms-")
    atexit.register(folder.cleanup)
    made = Phantoms(Path(folder.name))
    for detector in FINDING_OF:
        made.files(detector, datetime.now(UTC))
    return Path(folder.name) / "template"


def a_film(folder: Path, seed: int, *findings: str, size_px: int = FILM_PX) -> tuple[Path, str]:
    """(file, Study Instance UID) of a phantom film."""
    thorax = make_thorax(seed, findings)
    identity = identity_for(seed, "DX", datetime.now(UTC), sex=thorax.body.sex)
    return write_radiograph(
        folder / f"film-{seed}", thorax, identity=identity, size_px=size_px
    ), identity.study_instance_uid


def a_scan(folder: Path, seed: int, *findings: str, slices: int = 150) -> tuple[list[Path], str]:
    """(files, Study Instance UID) of a phantom CT."""
    thorax = make_thorax(seed, findings)
    identity = identity_for(seed, "CT", datetime.now(UTC), sex=thorax.body.sex)
    return write_ct(
        folder / f"scan-{seed}", thorax, identity=identity, slices=slices
    ), identity.study_instance_uid


def another(source: Path, folder: Path, number: int, **changes: Any) -> tuple[Path, str]:
    """The same picture as a new patient's new study: quick, for many."""
    ds = pydicom.dcmread(source)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(ds, keyword, uid_of(str(ds[keyword].value), str(number)))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.PatientID = f"MANY-{number:05d}"
    ds.AccessionNumber = f"ACC{number:06d}"
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"many-{number}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path, str(ds.StudyInstanceUID)
