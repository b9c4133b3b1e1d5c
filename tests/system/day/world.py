"""The day's world: a database in a file that remembers every change of runs, alerts and claims, and a spool with times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as sqlite
from sqlalchemy import event

from tests.simulation.world import Disk, SimDatabase, World
from tests.system.day.script import DAY_BEGINS
from triage.store import schema

TRIGGERS = (
    "CREATE TABLE moved_run (n INTEGER PRIMARY KEY, at, acting, id, was, now, token, policy, active, reason, attempts)",
    "CREATE TABLE moved_alert (n INTEGER PRIMARY KEY, at, id, was, now, step_was, step_now, by_was, by_now, raised_at)",
    "CREATE TABLE moved_claim (n INTEGER PRIMARY KEY, at, item, holder_was, until_was, holder_now)",
    """CREATE TRIGGER run_born AFTER INSERT ON run BEGIN INSERT INTO moved_run
       SELECT NULL, day_now(), day_acting(), NEW.id, '', NEW.state, '', NEW.policy_version,
              (SELECT version FROM policy WHERE active), NEW.reason_code, NEW.attempts; END""",
    """CREATE TRIGGER run_moved AFTER UPDATE OF state ON run WHEN OLD.state <> NEW.state BEGIN INSERT INTO moved_run
       VALUES (NULL, day_now(), day_acting(), NEW.id, OLD.state, NEW.state, OLD.lease_token, NEW.policy_version, NULL,
               NEW.reason_code, NEW.attempts); END""",
    """CREATE TRIGGER alert_moved AFTER UPDATE ON alert BEGIN INSERT INTO moved_alert
       VALUES (NULL, day_now(), NEW.id, OLD.state, NEW.state, OLD.step, NEW.step, OLD.acknowledged_by,
               NEW.acknowledged_by, NEW.raised_at); END""",
    """CREATE TRIGGER claim_moved AFTER UPDATE OF reader ON claim WHEN OLD.reader <> NEW.reader BEGIN
       INSERT INTO moved_claim VALUES (NULL, day_now(), NEW.worklist_item_id, OLD.reader, OLD.expires_at, NEW.reader);
       END""",
)  # fmt: skip


class DayDatabase(SimDatabase):
    """A file, so that a browser's server threads can read beside the day; `world` is set once there is one."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"sqlite:///{path}")
        self._path = path
        self.world: World | None = None
        event.listen(self.engine, "connect", self._teach)
        schema.metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            for statement in TRIGGERS:
                connection.exec_driver_sql(statement)

    def raw(self) -> Any:
        """A connection of the onlookers' own."""
        connection = sqlite.connect(self._path, isolation_level=None, timeout=30, check_same_thread=False)
        self._teach(connection)
        return connection

    def _teach(self, connection: Any, _: Any = None) -> None:
        connection.execute("PRAGMA synchronous=OFF")  # nobody pulls this machine's plug
        connection.create_function("day_now", 0, lambda: str(self.world.now()) if self.world else "")
        connection.create_function("day_acting", 0, lambda: self.world.acting_token if self.world else "")


class TimedDisk(Disk):
    """Knows when each object got its place in the spool: the row is committed in the same instant."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.kept_at: dict[str, int] = {}

    def rename(self, old: str, new: str) -> None:
        super().rename(old, new)
        self.kept_at.setdefault(new.removeprefix("objects/"), self._world.ms)


class DayWorld(World):
    """Begins at midnight; polls more seldom than the short histories do, since a day is long."""

    def __init__(self, seed: int, database: DayDatabase) -> None:
        super().__init__(seed, database)
        database.world = self
        self.ms, self.poll_seconds, self.sweep_seconds = DAY_BEGINS, 20.0, 90.0
        self.latest_wall = self.now()
        self.spool = self.disk = TimedDisk(self)

    def study_id(self, study_uid: str) -> int:
        row = self.raw.execute("SELECT id FROM study WHERE study_instance_uid = ?", (study_uid,)).fetchone()
        return int(row[0])

    def run_until(self, end_ms: int) -> None:
        """Every actor at its time, in fair turn."""
        while self.ms < end_ms:
            awake = [a.name for a in self.actors.values() if a.wake_ms <= self.ms]
            for name in awake:
                self.step(name)
            if not awake:
                self.advance(max(1, min(self.next_wake_ms(), end_ms) - self.ms))
