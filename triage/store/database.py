"""One engine, two ways in: `write()` for a unit of work, `read()` for a look.

On SQLite a unit of work starts with BEGIN IMMEDIATE, since a read snapshot that turns into a write fails at once
(assurance 1); on PostgreSQL it runs at READ COMMITTED with versions and row counts in the statements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pysqlite3.dbapi2 as sqlite
from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.pool import StaticPool

from triage.domain.errors import Misconfigured, ReadOnly, Unavailable
from triage.store.locks import Lock, hold

_SQLITE_READ_ONLY = 8  # SQLITE_READONLY and its extended codes (sqlite.org/rescode.html)
_POSTGRES_READ_ONLY = "25006"  # read_only_sql_transaction
SQLITE_FLOOR = (3, 51, 3)  # below it the WAL-reset error can lose pages (sqlite.org/wal.html#walresetbug)


class Database:
    """Holds the engine; make one per process, after forking."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.engine = _sqlite_engine(url) if self.is_sqlite else _postgres_engine(url)
        self.read_only_since: datetime | None = (
            None  # since the last write was refused so; a beat tries every 5 s
        )

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that may write; commits when the block ends, rolls back when it raises.

        raises  Unavailable when the database does not answer, ReadOnly when it takes no writes
        """
        with self._reachable(), self.engine.connect() as connection:
            late: list[Callable[[Connection], object]] = []
            connection.execution_options(triage_immediate=True, triage_late=late)
            with connection.begin():
                yield connection
                do_last_acts(connection)
        self.read_only_since = None

    @contextmanager
    def reshape(self) -> Iterator[Connection]:
        """As `write()`, for migrations: tables that others refer to may be rebuilt.

        SQLite rebuilds a table by dropping it, which its foreign keys forbid; they rest meanwhile and are checked
        before the commit (sqlite.org/lang_altertable.html, section 7).

        raises  Unavailable when the database does not answer; Misconfigured when a row would lose what it refers to
        """
        if not self.is_sqlite:
            with self.write() as connection:
                yield connection
            return
        with self._reachable(), self.engine.connect() as connection:
            settings = connection.connection.cursor()
            settings.execute("PRAGMA foreign_keys=OFF")  # has no effect within a transaction
            try:
                connection.execution_options(triage_immediate=True)
                with connection.begin():
                    yield connection
                    if lost := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                        raise Misconfigured(
                            f"nothing was changed: a row of {lost[0]} would lose its row of {lost[2]}"
                        )
            finally:
                settings.execute("PRAGMA foreign_keys=ON")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent look; writes nothing."""
        with self._reachable(), self.engine.connect() as connection, connection.begin():
            yield connection

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (exc.OperationalError, exc.InternalError, exc.InterfaceError, exc.TimeoutError) as error:
            if _is_read_only(error):
                self.read_only_since = self.read_only_since or datetime.now(UTC)
                raise ReadOnly("the database takes no writes at present: nothing was changed") from error
            if isinstance(error, exc.InternalError):
                raise
            raise Unavailable(
                f"the database does not answer: {type(error.__cause__ or error).__name__}"
            ) from error


def _is_read_only(error: exc.SQLAlchemyError) -> bool:
    cause = error.__cause__
    primary = (getattr(cause, "sqlite_errorcode", None) or 0) & 0xFF
    return primary == _SQLITE_READ_ONLY or getattr(cause, "sqlstate", None) == _POSTGRES_READ_ONLY


def at_the_end(tx: Connection, write: Callable[[Connection], object]) -> None:
    """Write this as a last act of the unit of work, in the order of asking; nothing when it rolls back.

    On PostgreSQL one unit of work at a time comes to its last acts. Nothing else is waited for under that lock, so it
    cannot be part of a deadlock.
    """
    tx.get_execution_options()["triage_late"].append(write)


def do_last_acts(tx: Connection) -> None:
    """Do now what was kept for the end, for a unit of work that reads what it wrote itself."""
    late = tx.get_execution_options().get("triage_late", [])
    if late:
        hold(tx, Lock.LAST_ACTS)
    while late:
        late.pop(0)(tx)


def _sqlite_engine(url: str) -> Engine:
    if sqlite.sqlite_version_info < SQLITE_FLOOR:
        raise Misconfigured(
            f"SQLite {sqlite.sqlite_version} can lose pages; install pysqlite3 from the lock "
            f"(at least {'.'.join(map(str, SQLITE_FLOOR))})"
        )
    memory = url in ("sqlite://", "sqlite:///:memory:")
    options: dict[str, Any] = {"poolclass": StaticPool} if memory else {"pool_size": 20, "max_overflow": 60}
    engine = create_engine(
        url,
        module=sqlite,
        hide_parameters=True,  # an error's text would carry names into the log
        connect_args={"isolation_level": None, "timeout": 30, "check_same_thread": False},
        **options,
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("triage_immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _postgres_engine(url: str) -> Engine:
    return create_engine(
        url,
        pool_size=10,
        max_overflow=20,
        hide_parameters=True,
        pool_pre_ping=True,  # a restarted server costs a reconnect, not an error
        connect_args={"connect_timeout": 5, "options": "-c statement_timeout=30000 -c lock_timeout=10000"},
    )
