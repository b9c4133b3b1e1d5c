"""Everything around the workflow that can lie, die or wait: clock, disk, broker, peers, processes; SQL is real.

All chance is drawn from (seed, name of the actor, count), so that cutting one event of a schedule does not change
what the others mean (assurance 4.4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from tests.factories import NOON
from triage.channels.protocol import Answer, Outcome
from triage.domain.alerting import Rung
from triage.domain.errors import Unavailable
from triage.settings import RouteSettings
from triage.store import schema
from triage.store.database import Database
from triage.workflow.site import Site

Steps = Generator[float, None, None]  # what an actor yields: seconds until it wants to go on

ROUTES = {
    "hl7": RouteSettings(name="hl7", kind="mllp", host="localhost", port=2575),
    "hook": RouteSettings(
        name="hook", kind="webhook", url="https://hook", secret_file=Path("key"), operator=True
    ),
    "pager": RouteSettings(name="pager", kind="webhook", url="https://pager", secret_file=Path("key")),
}
OPERATOR_ROUTES = ["hook"]
SITE = Site(
    name="SIM",
    quiet_seconds=2.0,
    ladder=(
        Rung(timedelta(0), ("hl7", "hook")),
        Rung(timedelta(minutes=1), ("pager",)),
        Rung(timedelta(minutes=3), ("hl7",)),
    ),
)


def digest_of(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass
class Inode:
    content: str
    synced: bool = False


class Disk:
    """Two layers: what processes see, and what a power loss leaves."""

    def __init__(self) -> None:
        self.seen: dict[str, Inode] = {}
        self.durable: dict[str, Inode] = {}
        self.full = False

    def write(self, name: str, content: str) -> None:
        if self.full:
            raise Unavailable("no space left")
        self.seen[name] = Inode(content)

    def fsync(self, name: str) -> None:
        self.seen[name].synced = True

    def rename(self, old: str, new: str) -> None:
        self.seen[new] = self.seen.pop(old)

    def fsync_dir(self, folder: str) -> None:
        for name in [n for n in self.durable if n.startswith(folder) and n not in self.seen]:
            del self.durable[name]
        self.durable |= {n: inode for n, inode in self.seen.items() if n.startswith(folder)}

    def power_loss(self, choose: Callable[[], float]) -> None:
        """Bytes that were not flushed are torn; a name whose folder was not flushed is the old or the new one."""
        for name in sorted(self.seen.keys() | self.durable.keys()):
            if self.seen.get(name) is not self.durable.get(name) and choose() < 0.5:
                if name in self.seen:
                    self.durable[name] = self.seen[name]
                else:
                    del self.durable[name]
        for inode in self.durable.values():
            if not inode.synced:
                inode.content, inode.synced = inode.content[: len(inode.content) // 2], True
        self.seen = dict(self.durable)


class Broker:
    """A bag of wake-up calls. It may lose, double or hold back any of them."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []  # (run id, not before this ms)

    def put(self, wake: list[tuple[int, str]] | tuple[tuple[int, str], ...], at_ms: int) -> None:
        self.calls += [(run_id, at_ms) for run_id, _ in wake]

    def take(self, choice: float, now_ms: int) -> int | None:
        ready = [i for i, (_, at) in enumerate(self.calls) if at <= now_ms]
        if not ready:
            return None
        return self.calls.pop(ready[int(choice * len(ready))])[0]


@dataclass
class Heard:
    """One message as it reached a peer."""

    control_id: str
    key: tuple[int, str, int, str]  # alert, route, rung, kind
    payload: bytes


@dataclass
class Peer:
    """A consumer of alerts. It keeps what it heard, whatever it answered."""

    mode: str = "up"  # up, down, late (heard, answer lost), wrong (answers another id), refuse (AE)
    heard: list[Heard] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)

    def send(self, row: dict[str, Any], answer_is_lost: bool) -> Answer:
        if self.mode == "down":
            return Answer(Outcome.RETRY, "connection refused")
        key = (row["alert_id"], row["route"], row["rung"], row["kind"])
        self.heard.append(Heard(row["control_id"], key, bytes(row["payload"])))
        if self.mode == "refuse":
            return Answer(Outcome.REFUSED, "AE")
        if self.mode != "up":
            return Answer(Outcome.RETRY, "no answer in time" if self.mode == "late" else "another control id")
        self.accepted.add(row["control_id"])
        if answer_is_lost:
            return Answer(Outcome.RETRY, "connection closed")
        return Answer(Outcome.DELIVERED, "AA")


class SimDatabase(Database):
    """The real database in memory, which may be busy for the next few units of work."""

    busy = 0

    @contextmanager
    def write(self) -> Iterator[Connection]:
        if self.busy:
            self.busy -= 1
            raise Unavailable("the database is busy")
        with super().write() as tx:
            yield tx

    def empty(self) -> None:
        """All rows away; the compiled statements of the engine stay, which is most of a run's time."""
        self.busy = 0
        raw = self.raw()
        raw.execute("PRAGMA foreign_keys=OFF")
        for table in schema.metadata.tables:
            raw.execute(f'DELETE FROM "{table}"')
        raw.execute("PRAGMA foreign_keys=ON")

    def raw(self) -> Any:
        """The driver's connection: invariants look at rows without our own queries between."""
        pooled = self.engine.raw_connection()
        try:
            return pooled.driver_connection
        finally:
            pooled.close()


@dataclass
class Actor:
    name: str
    process: str
    steps: Steps
    wake_ms: int = 0


@dataclass(frozen=True)
class Grant:
    """A claim as its reader believes in it: until the wall clock or ten real minutes say otherwise."""

    reader: str
    until: datetime
    until_ms: int


class World:
    """One history. `mistakes` names defences that a planted-mistake test has taken out of the actors."""

    def __init__(self, seed: int, database: SimDatabase, mistakes: frozenset[str] = frozenset()) -> None:
        self.seed = seed
        self.database = database
        self.raw = database.raw()
        self.mistakes = mistakes
        self.ms = 0
        self.skew = timedelta(0)
        self.latest_wall = self.now()
        self.calm = False
        self.poll_seconds = 4.0  # how often workers and couriers look
        self.sweep_seconds = 4.0  # how often the scheduler sweeps
        self.disk = Disk()
        self.broker = Broker()
        self.loss = 0.0  # share of peers' answers that are lost on their way
        self.peers = {name: Peer() for name in ROUTES}
        self.actors: dict[str, Actor] = {}
        self.starters: dict[str, Callable[[], None]] = {}
        self.restart_ms: dict[str, int] = {}
        self.incarnations: dict[str, int] = {}
        self.receiving = False  # the receiver's port is open
        self.leads: dict[str, bool] = {}
        self.patients: list[Any] = []  # senders' plans; outside world, never crashes
        self.acknowledged: set[tuple[str, str]] = set()  # (SOP Instance UID, digest) answered with success
        self.doomed: list[str] = []  # processes that an object is about to kill
        self.acting_token = ""  # lease token of the worker that commits in this step
        self.grants: dict[int, Grant] = {}  # by study id, as the readers believe
        self.lease_writes = 0  # rows of this step that only renewed the leader's lease
        self.touched = True  # something that an invariant looks at may have changed
        self._counts: dict[str, int] = {}

    # --- time and chance

    def now(self) -> datetime:
        """The wall clock of every process."""
        return NOON + timedelta(milliseconds=self.ms) + self.skew

    def set_skew(self, skew: timedelta) -> None:
        """Somebody sets the clock of the machine."""
        self.skew = skew
        self.latest_wall = max(self.latest_wall, self.now())

    def draw(self, name: str) -> float:
        """The next number in [0, 1) of this actor."""
        count = self._counts[name] = self._counts.get(name, 0) + 1
        raw = hashlib.blake2b(f"{self.seed}/{name}/{count}".encode(), digest_size=8).digest()
        return (int.from_bytes(raw, "big") >> 11) / (1 << 53)

    def ids(self, name: str) -> Callable[[], str]:
        def new() -> str:
            count = self._counts[f"id/{name}"] = self._counts.get(f"id/{name}", 0) + 1
            return hashlib.sha256(f"{self.seed}/{name}/{count}".encode()).hexdigest()[:20].upper()

        return new

    def any(self, statement: str, *values: Any) -> bool:
        """A cheap look that spares an idle actor its turn."""
        return self.raw.execute(statement, values).fetchone() is not None

    # --- processes

    def add(self, name: str, process: str, steps: Steps) -> None:
        assert name not in self.actors
        self.actors[name] = Actor(name, process, steps, self.ms)

    def serve(self, process: str, start: Callable[[], None]) -> None:
        """A process that the supervisor brings back whenever it dies."""
        self.starters[process] = start
        self.start(process)

    def start(self, process: str) -> None:
        self.incarnations[process] = self.incarnations.get(process, 0) + 1
        self.restart_ms.pop(process, None)
        self.starters[process]()

    def crash(self, process: str) -> None:
        """kill -9: nothing of it runs another line; the supervisor starts it anew a few seconds later."""
        if process in self.restart_ms or process not in self.starters:
            return
        for actor in [a for a in self.actors.values() if a.process == process]:
            actor.steps.close()
            del self.actors[actor.name]
        self.leads.pop(process, None)
        self.receiving = self.receiving and process != "receiver"
        self.restart_ms[process] = self.ms + 1000 + int(9000 * self.draw(f"restart/{process}"))
        self.touched = True

    def is_up(self, process: str) -> bool:
        return process not in self.restart_ms

    def advance(self, ms: int) -> None:
        self.ms += ms
        self.latest_wall = max(self.latest_wall, self.now())
        for process in [p for p, at in self.restart_ms.items() if at <= self.ms]:
            self.start(process)

    def step(self, name: str) -> bool:
        """One step of an actor; False when it is gone or asleep. Between two steps it may die."""
        actor = self.actors.get(name)
        if actor is None or actor.wake_ms > self.ms:
            return False
        before = self.raw.total_changes
        self.acting_token = ""
        try:
            actor.wake_ms = self.ms + int(next(actor.steps) * 1000)
        except StopIteration:
            self.actors.pop(name, None)
        while self.doomed:
            self.crash(self.doomed.pop())
        changes = self.raw.total_changes - before - self.lease_writes
        self.lease_writes = 0
        self.touched = self.touched or changes != 0
        return True

    def next_wake_ms(self) -> int:
        times = [a.wake_ms for a in self.actors.values()] + list(self.restart_ms.values())
        return min(times, default=self.ms)
