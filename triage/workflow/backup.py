"""Yesterday's database is enough: a copy taken while the product runs, and the way back (promise 9, assurance P21).

The spool is the second copy: after a restore, objects that were received since the backup are read again from it.
What is restored does nothing by itself that it may have done before: alerts wait for a person, deliveries are parked,
and who was removed since the backup is removed again (tombstones, assurance H25).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pysqlite3.dbapi2 as sqlite
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url

from triage.dicom.header import read_header
from triage.domain.errors import Conflict, Refused, Unavailable
from triage.log import get_logger
from triage.settings import Settings
from triage.store import audit, events, migrate, removal, studies
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow.health import SILENT
from triage.workflow.intake import arrival_of, intake
from triage.workflow.retention import buried, forget_files, remove_buried
from triage.workflow.site import site_of

SQLITE_MAGIC, POSTGRES_MAGIC = b"SQLite format 3\0", b"PGDMP"
PAGES_A_STEP = 2000  # between steps writers get their turn
TOOL_SECONDS = 6 * 3600
log = get_logger()


@dataclass(frozen=True)
class Restored:
    """alerts, deliveries: left for a person; reread: objects taken from the spool again; unreadable: refused by it."""

    alerts: int
    deliveries: int
    removed_again: int
    reread: int
    unreadable: int


# --- backup --------------------------------------------------------------------------------------------------


def backup(settings: Settings, target: Path, now: datetime, by: str) -> str:
    """Copy the database into `target` while it is in use; returns the file's SHA-256.

    raises  Refused when `target` exists; Unavailable when a tool or the disk is missing
    """
    if target.exists():
        raise Refused(f"{target} exists; a backup never writes over a file")
    database = Database(settings.database_url)
    part = target.with_name(f".{target.name}.part")
    try:
        with database.write() as tx:
            audit.append(tx, now, by, "backup.made", "backup", target.name)
        if database.is_sqlite:
            _copy_sqlite(_sqlite_path(settings), part)
        else:
            run_tool(settings.database_url, "pg_dump", "--format=custom", f"--file={part}")
        part.chmod(0o600)  # patients' data
        digest = _digest(part)
        _make_durable(part, target)
    except (OSError, sqlite.OperationalError) as error:
        raise Unavailable(f"the backup cannot be written to {target}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
        database.close()
    return digest


def _copy_sqlite(source: Path, target: Path) -> None:
    """SQLite's online backup: a consistent copy, although others write meanwhile. source: sqlite.org/backup.html"""
    with closing(sqlite.connect(str(source))) as old, closing(sqlite.connect(str(target))) as new:
        old.backup(new, pages=PAGES_A_STEP, sleep=0.01)
        new.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
        _require_whole(new, target)


def _require_whole(connection: sqlite.Connection, path: Path) -> None:
    try:
        found = str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    except sqlite.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise Refused(f"{path} is damaged: {found[:200]}")


def _require_known(connection: sqlite.Connection, path: Path) -> None:
    """A database of this program at a revision that it can bring up to its own."""
    known = {r.revision for r in ScriptDirectory(str(migrate.MIGRATIONS)).walk_revisions()}
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite.DatabaseError as error:
        raise Refused(f"{path} is no database of triage") from error
    if row is None or row[0] not in known:
        raise Refused(
            f"{path} is of a newer triage (revision {row[0] if row else 'none'}); install that one first"
        )


def _sqlite_path(settings: Settings) -> Path:
    name = make_url(settings.database_url).database
    assert name
    return Path(name)


def run_tool(database_url: str, tool: str, *words: str) -> None:
    """A tool of PostgreSQL on this database; the password goes by the environment, where others cannot list it.

    raises  Unavailable when it is not installed, or fails
    """
    url = make_url(database_url)
    binary = shutil.which(tool)
    if binary is None:
        raise Unavailable(f"{tool} is not installed: apt install postgresql-client")
    host = url.host or url.query.get("host", "")  # a socket's folder stands in the query
    where = [f"--host={host}"] * bool(host) + [f"--port={url.port}"] * bool(url.port)
    who = [f"--username={url.username}"] * bool(url.username)
    ran = subprocess.run(
        [binary, *where, *who, "--no-password", f"--dbname={url.database}", *words],
        env={**os.environ, "PGPASSWORD": str(url.password or "")},
        capture_output=True, text=True, timeout=TOOL_SECONDS, check=False,
    )  # fmt: skip
    if ran.returncode != 0:
        last = (ran.stderr.strip().splitlines() or ["no word"])[-1]
        raise Unavailable(f"{tool} failed: {last[:300]}")


def _make_durable(part: Path, target: Path) -> None:
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- restore -------------------------------------------------------------------------------------------------


def restore(
    settings: Settings, source: Path, now: datetime, by: str, told: Callable[[int], None] = lambda _: None
) -> Restored:
    """Put a backup in the place of the database, which is kept beside it, and read the spool for what came since.

    told    called with the number of objects looked at in the spool
    raises  Conflict while the product runs; Refused when `source` is no backup or is damaged
    """
    settings.make_home()
    database = Database(settings.database_url)
    _require_stopped(database, now)
    database.close()
    digest = _digest_of_backup(source, SQLITE_MAGIC if database.is_sqlite else POSTGRES_MAGIC)
    if database.is_sqlite:
        _put_sqlite(_sqlite_path(settings), source, now)
    else:
        run_tool(
            settings.database_url,
            "pg_restore",
            "--clean",
            "--if-exists",
            "--no-owner",
            "--single-transaction",
            str(source),
        )
    database = Database(settings.database_url)
    migrate.upgrade(database)
    with database.write() as tx:
        held_back = removal.after_restore(tx)
        detail = {"file": source.name, "sha256": digest, **held_back}
        audit.append(tx, now, by, "backup.restored", "backup", source.name, detail)
    removed_again = _bury_again(database, settings, now, by)
    reread, unreadable = _read_spool(database, settings, told)
    database.close()
    return Restored(held_back["alerts"], held_back["deliveries"], removed_again, reread, unreadable)


def _require_stopped(database: Database, now: datetime) -> None:
    if database.is_sqlite and not Path(make_url(database.url).database or "").exists():
        return
    if migrate.current(database) is None:
        return
    with database.read() as tx:
        beating = sorted(b["part"] for b in events.beats(tx) if abs(now - b["at"]) < SILENT)
    if beating:
        raise Conflict(f"triage runs on this database ({', '.join(beating)}); stop it, then restore")


def _digest_of_backup(source: Path, magic: bytes) -> str:
    try:
        with source.open("rb") as stream:
            head = stream.read(len(magic))
        if head != magic:
            raise Refused(f"{source} is no backup of this kind of database")
        return _digest(source)
    except OSError as error:
        raise Refused(f"{source} cannot be read: {error.strerror}") from error


def _put_sqlite(target: Path, source: Path, now: datetime) -> None:
    """Copy, check, then swap; what was there keeps a name of its own."""
    part = target.with_name(f".{target.name}.restoring")
    shutil.copyfile(source, part)
    part.chmod(0o600)
    try:
        with closing(sqlite.connect(str(part))) as connection:
            _require_whole(connection, source)
            _require_known(connection, source)
        if target.exists():
            with closing(sqlite.connect(str(target))) as old:
                old.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the file alone holds everything
            target.replace(target.with_name(f"{target.name}.before-{now:%Y%m%dT%H%M%SZ}"))
        for suffix in ("-wal", "-shm"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        _make_durable(part, target)
    finally:
        part.unlink(missing_ok=True)


def _bury_again(database: Database, settings: Settings, now: datetime, by: str) -> int:
    spool, count = Spool(settings.spool), 0
    for uid in sorted(buried(settings.home)):
        with database.write() as tx:
            study_id = studies.find_study(tx, uid)
            if study_id is None:
                continue
            removed = remove_buried(tx, study_id, by, now)
        forget_files(settings, spool, removed)
        count += 1
    return count


def _read_spool(database: Database, settings: Settings, told: Callable[[int], None]) -> tuple[int, int]:
    """Index objects that no row names: they were acknowledged after the backup. (read again, unreadable)"""
    site, reread, unreadable = site_of(settings), 0, 0
    dead, found = buried(settings.home), []
    for seen, path in enumerate(_objects(settings.spool), start=1):
        told(seen)
        with database.read() as tx:
            if not removal.is_named(tx, path.stem):
                found.append((path.stat().st_mtime, path))
    for received, path in sorted(found):  # in the order in which they came: waiting is counted from then
        try:
            header = read_header(path)
        except Refused as error:
            log.warning(
                "spool.unreadable", digest=path.stem, error=str(error), fix="look at the file by hand"
            )
            unreadable += 1
            continue
        if header.study_instance_uid in dead:
            path.unlink(missing_ok=True)
            continue
        arrival = arrival_of(header, path.stem, path.stat().st_size, "", "")
        with database.write() as tx:
            intake(tx, arrival, site, datetime.fromtimestamp(received, UTC))
        reread += 1
    return reread, unreadable


def _objects(spool: Path) -> Iterator[Path]:
    root = spool / "objects"
    if not root.exists():
        return
    for shard in sorted(p for p in root.iterdir() if p.is_dir()):
        with os.scandir(shard) as entries:
            names = sorted(
                e.name for e in entries if e.name.endswith(".dcm") and e.is_file(follow_symlinks=False)
            )
        yield from (shard / name for name in names)
