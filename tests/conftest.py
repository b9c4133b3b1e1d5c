"""Fixtures for all rooms: databases that are really there, foreign data when it is, and a clock that tests turn.

What is missing on a machine skips with the reason, so that the summary says which promises were not shown.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, text

from tests.factories import Clock
from triage.store import schema
from triage.store.database import Database

POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("quick", max_examples=200, **_common)
settings.register_profile("nightly", max_examples=20_000, **_common)
settings.register_profile("landing", max_examples=200, derandomize=True, **_common)
# A landing does not depend on luck: CI repeats the same examples, everybody else searches on.
settings.load_profile(
    "landing" if os.environ.get("CI") else "quick"
)  # --hypothesis-profile=nightly is stronger


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """How `make test` shares its workers, which take whole groups in this order.

    Two rows of one test after the other, long and with waits that others fill: what starts the product; what breaks it,
    and then pages in Chromium. Then files whose fixtures are made once for all their tests: on two workers they would be
    made twice. The rest test by test.

    What starts processes, or speaks with another's program, shares two cores with the rest and waits for clocks: it is
    run once more when it fails, and the summary says so (RERUN). A rerun is a race to look for; a failure twice in a row
    is none.
    """
    order = {}
    for item in items:
        group = _group_of(item)
        order[item] = _FIRST.index(group) if group in _FIRST else len(_FIRST) + (not group)
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
        if group in _FIRST or item.get_closest_marker("interop"):
            item.add_marker(pytest.mark.flaky(reruns=1))
    items.sort(key=order.__getitem__)


_FIRST = ("processes", "faults and pages")


def _group_of(item: pytest.Item) -> str:
    if item.get_closest_marker("faults") or item.get_closest_marker("browser"):
        return "faults and pages"
    if item.get_closest_marker("system"):
        return "processes"
    assert isinstance(item, pytest.Function)
    shared = (d for ds in item._fixtureinfo.name2fixturedefs.values() for d in ds if d.scope == "module")
    return item.path.stem if any(shared) else ""


@pytest.fixture
def clock() -> Clock:
    """A clock that stands until the test turns it: `clock()` is now, `clock.advance(seconds)` moves."""
    return Clock()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of foreign data sets."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is not on this machine: real data not shown")
    return SHARED_DATA


@pytest.fixture(scope="session")
def _empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "empty.db"
    database = Database(f"sqlite:///{path}")
    schema.metadata.create_all(database.engine)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path


@pytest.fixture
def database(tmp_path: Path, _empty_sqlite: Path) -> Iterator[Database]:
    """SQLite in a file, all tables, no rows."""
    path = tmp_path / "triage.db"
    shutil.copyfile(_empty_sqlite, path)
    made = Database(f"sqlite:///{path}")
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL pattern of an own PostgreSQL cluster on a socket in a temporary folder: format it with a database name."""
    if not (POSTGRES_BIN / "initdb").exists():
        pytest.skip("PostgreSQL 15 is not installed (apt-get install postgresql-15): nothing shown on it")
    folder = Path(tempfile.mkdtemp(prefix="triage-pg-", dir="/tmp"))  # short: a socket path has 107 bytes
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres", "postgres")

    def run(*command: str) -> None:
        done = subprocess.run([*as_user, *command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout

    data = str(folder / "data")
    try:
        run(str(POSTGRES_BIN / "initdb"), "-D", data, "-A", "trust", "-N", "-U", "postgres", "-E", "UTF8",
            "--locale=C")  # fmt: skip
        # fsync is off: a test machine's crash loses a test, nothing else.
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=200"
        run(str(POSTGRES_BIN / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://postgres@/{{}}?host={folder}"
        finally:
            run(str(POSTGRES_BIN / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _postgres_template(postgres_server: str) -> str:
    _create(postgres_server, "template_triage", "template0")
    database = Database(postgres_server.format("template_triage"))
    schema.metadata.create_all(database.engine)
    database.close()
    return "template_triage"


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of an empty PostgreSQL database of this test alone."""
    name = _fresh_name()
    _create(postgres_server, name, "template0")
    yield postgres_server.format(name)
    _drop(postgres_server, name)


@pytest.fixture
def postgres_database(postgres_server: str, _postgres_template: str) -> Iterator[Database]:
    """PostgreSQL, all tables, no rows."""
    name = _fresh_name()
    _create(postgres_server, name, _postgres_template)
    made = Database(postgres_server.format(name))
    yield made
    made.close()
    _drop(postgres_server, name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def any_database(request: pytest.FixtureRequest) -> Database:
    """Both databases in turn: what holds on one must hold on the other."""
    found: Database = request.getfixturevalue(
        "database" if request.param == "sqlite" else "postgres_database"
    )
    return found


_made = 0


def _fresh_name() -> str:
    global _made
    _made += 1
    return f"test_{os.getpid()}_{_made}"


def _create(server: str, name: str, template: str) -> None:
    _administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")


def _drop(server: str, name: str) -> None:
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def _administer(server: str, statement: str) -> None:
    engine = create_engine(server.format("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
