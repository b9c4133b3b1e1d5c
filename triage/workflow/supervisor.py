"""`triage up`: runs every part as a process of its own, brings back what dies, says what flaps, and drains on SIGTERM.

The supervisor computes nothing and holds no connection of a part; a SIGKILL of anything at any moment loses nothing
that was acknowledged.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from triage.domain.errors import Misconfigured, TriageError
from triage.log import get_logger
from triage.settings import LOOPBACK, Settings
from triage.store import events, policies, run_queue
from triage.store.database import Database
from triage.store.locks import Lock, hold
from triage.workflow.broker import Broker, private_broker
from triage.workflow.parts.common import clock
from triage.workflow.parts.names import PARTS, parts_of
from triage.workflow.releases import places_of, register_releases

log = get_logger()
STOP_ORDER = (
    "receiver", "hl7", "collector", "web", "scheduler", "worker-stat", "worker-routine", "publisher", "relay", "broker",
)  # fmt: skip
DRAIN_SECONDS = 30.0
FLAPPING = 3  # deaths within FLAP_SECONDS
FLAP_SECONDS = 60.0
DEAF_AFTER = timedelta(
    seconds=60
)  # rows wait and nobody has taken one for so long: the workers are deaf (F16)
DEAF_LOOK_SECONDS = 10.0
PR_SET_PDEATHSIG = 1
STDERR = 2


@dataclass
class Part:
    """One process that should run."""

    name: str
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    restarts: int = 0
    not_before: float = 0.0
    started_at: datetime | None = None
    ready_at: datetime | None = None  # its first heartbeat since then

    @property
    def flaps(self) -> bool:
        recent = [d for d in self.deaths if time.monotonic() - d < FLAP_SECONDS]
        return len(recent) >= FLAPPING

    def note_beat(self, at: datetime | None) -> None:
        """at: its last heartbeat; one from before this process was started is a dead one's."""
        if self.ready_at is None and at is not None and self.started_at is not None and at > self.started_at:
            self.ready_at = at

    def start(self) -> None:
        environment = {
            **self.environment,
            "TRIAGE_RESTARTS": str(self.restarts),
            "TRIAGE_FLAPPING": "1" if self.flaps else "",
        }
        # A part's words go to stderr, Redis's as well: stdout is for results (demo --json).
        self.process = subprocess.Popen(
            self.command, env=environment, stdout=STDERR, preexec_fn=_die_with_parent
        )
        self.started_at, self.ready_at = clock(), None
        log.info("part.started", part=self.name, pid=self.process.pid, attempts=self.restarts)


def _die_with_parent() -> None:
    """A part that outlives a killed supervisor would hold its port; the kernel ends it (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.setpgid(0, 0)  # Ctrl-C reaches the supervisor alone, which then drains the parts in order


def check_exposure(settings: Settings) -> None:
    """Closed until opened: raises Misconfigured, with what mends it, for an open address without protection."""
    dicom = settings.dicom
    if dicom.host not in LOOPBACK and not dicom.insecure_plain and not dicom.tls_certificate:
        raise Misconfigured(
            f"dicom.host {dicom.host} is not loopback and DICOM is not encrypted here. Name the peers "
            "(triage peer add NAME --aet AET --host HOST --port PORT) and set dicom.tls_certificate, tls_key and "
            "tls_ca, or say dicom.insecure_plain = true if the network is trusted."
        )
    hl7 = settings.hl7
    if hl7.host not in LOOPBACK and hl7.cert_file is None and not hl7.insecure_plain:
        raise Misconfigured(
            f"hl7.host {hl7.host} is not loopback and HL7 is not encrypted here. Name a certificate (hl7.cert_file, "
            "hl7.key_file), put a TLS proxy in front, or say hl7.insecure_plain = true if the network is trusted."
        )
    if settings.web.host not in LOOPBACK and not settings.web.secure_cookies:
        raise Misconfigured(
            f"web.host {settings.web.host} is not loopback: put TLS in front and set web.secure_cookies = true."
        )


def prepare(settings: Settings, database: Database) -> None:
    """Before any part runs: home, first policy, releases."""
    settings.make_home()
    with database.write() as tx:
        hold(tx, Lock.PREPARATION)
        policies.ensure_first(tx, clock())
        register_releases(tx, settings.detectors, clock(), places_of(settings))


class Supervisor:
    def __init__(self, settings: Settings, config: Path | None, only: tuple[str, ...] = ()) -> None:
        self._settings = settings
        self._broker: Broker | None = None
        broker_url = settings.broker.url.get_secret_value()
        self.parts: list[Part] = []
        environment = dict(os.environ)
        environment |= {
            "TRIAGE_CONFIG": str(config.resolve()) if config else "",
            "TRIAGE_HOME": str(settings.home.resolve()),
            # A folder called triage where somebody happens to stand is not this package.
            "PYTHONSAFEPATH": "1",
        }
        if not broker_url:
            self._broker = private_broker(settings.home)
            broker_url = self._broker.url
            if self._broker.command:
                self.parts.append(Part("broker", list(self._broker.command), environment))
        environment["TRIAGE_BROKER__URL"] = broker_url
        for name in only or parts_of(settings):
            command, own = _command(name, settings), self._of_part(name, environment)
            if name != "receiver":
                self.parts.append(Part(name, command, own))
                continue
            # A port of 0 is any free one, which two processes would not share.
            for number in range(settings.dicom.processes if settings.dicom.port else 1):
                self.parts.append(Part(name, command, {**own, "TRIAGE_RECEIVER": str(number + 1)}))
        self._database = Database(settings.database_url)
        self._deaf_look_at = time.monotonic() + DEAF_LOOK_SECONDS
        self.stopping = False

    def _of_part(self, name: str, environment: dict[str, str]) -> dict[str, str]:
        if not name.startswith("worker"):
            return environment
        # More inference threads than cores spin against each other (libraries 4).
        cores = os.cpu_count() or 1
        per_worker = cores if name == "worker-stat" else max(1, cores // self._settings.workers)
        return {
            **environment,
            "TRIAGE_INFERENCE_THREADS": str(per_worker),
            "OMP_NUM_THREADS": str(per_worker),
        }

    def run(self) -> int:
        """Until SIGTERM or SIGINT; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        self.start()
        while not self.stopping:
            self.turn()
            time.sleep(0.2)
        self.stop()
        return 0

    def start(self) -> None:
        for part in self.parts:
            part.start()

    def turn(self) -> None:
        """Bring back what died, at once the first time, later when it flaps."""
        for part in self.parts:
            if part.process is None:
                if time.monotonic() >= part.not_before:
                    part.start()
                continue
            code = part.process.poll()
            if code is None:
                continue
            part.process = None
            part.deaths.append(time.monotonic())
            part.restarts += 1
            part.not_before = time.monotonic() + (10.0 if part.flaps else 0.2)
            log.error("part.died", part=part.name, exit_code=code, fix="see the lines above; triage doctor")
        if time.monotonic() >= self._deaf_look_at:
            self._deaf_look_at = time.monotonic() + DEAF_LOOK_SECONDS
            self._restart_deaf_workers()

    def _restart_deaf_workers(self) -> None:
        try:
            with self._database.read() as tx:
                deaf = run_queue.nobody_takes(tx, clock(), DEAF_AFTER)
                beats = {b["part"].split("@")[0]: b["at"] for b in events.beats(tx)}
        except TriageError:
            return  # the database is away: workers are not to blame
        workers = [p for p in self.parts if p.name.startswith("worker") and p.process is not None]
        for part in workers:
            part.note_beat(beats.get(part.name))
            # A worker that still loads its weights is not deaf.
            if deaf and part.ready_at is not None and clock() - part.ready_at >= DEAF_AFTER:
                assert part.process is not None
                log.error(
                    "worker.deaf", part=part.name, detail="rows wait and none is taken; it is started again"
                )
                part.process.kill()

    def stop(self) -> None:
        """Drain: doors first, then those who work, the broker last."""
        running = sorted((p for p in self.parts if p.process), key=lambda p: STOP_ORDER.index(p.name))
        for part in running:
            if part.name != "broker" and part.process is not None:
                part.process.terminate()
        deadline = time.monotonic() + DRAIN_SECONDS
        for part in running:
            assert part.process is not None
            if part.name == "broker":
                part.process.terminate()
            try:
                part.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("part.killed", part=part.name, detail="did not drain in time")
                os.killpg(part.process.pid, signal.SIGKILL)
                part.process.wait()
        if self._broker is not None:
            shutil.rmtree(self._broker.folder, ignore_errors=True)
        self._database.close()

    def _asked_to_stop(self, *_: object) -> None:
        self.stopping = True


def _command(name: str, settings: Settings) -> list[str]:
    if name == "web":
        return [sys.executable, "-m", "triage.web.serve"]
    if name not in PARTS:
        raise Misconfigured(f"no part is called {name!r}; there are {', '.join(PARTS)}")
    return [sys.executable, "-m", "triage.workflow.parts", name, str(settings.workers)]
