"""`triage doctor`: what is wrong on this machine and how to mend it, one line each."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import click
import pysqlite3.dbapi2 as sqlite
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import text

from triage.cli.common import command, result
from triage.cli.config import problems, unknown_variables
from triage.cli.main import State
from triage.detectors.releases import active_release, load_release
from triage.domain.errors import TriageError
from triage.settings import LOOPBACK, Settings
from triage.store import events, migrate
from triage.store.database import SQLITE_FLOOR, Database
from triage.workflow import certificates
from triage.workflow.broker import private_broker
from triage.workflow.health import SILENT, checks
from triage.workflow.releases import on_disk

IMPORT_SECONDS = 120
SKEW_MAX = timedelta(seconds=2)
REDIS_FLOOR = (7, 0)  # older lines get no more fixes (libraries.md 5)
HEAVY = ("torch", "openvino")


@dataclass(frozen=True)
class Check:
    """level is "ok", "look" (works, but) or "wrong" (does not); fix says what mends it."""

    name: str
    level: str
    detail: str
    fix: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def doctor(state: State, as_json: bool) -> int:
    """Exit 1 when something is wrong; each line says what, and how to mend it."""
    found: list[Check] = []
    try:
        settings = state.settings()
    except TriageError as error:
        found.append(Check("settings", "wrong", str(error), f"correct it, then: {command('config check')}"))
    else:
        found += examine(settings)
    ok = all(c.level != "wrong" for c in found)
    if as_json:
        result({"ok": ok, "checks": [asdict(c) for c in found]})
    else:
        for c in found:
            click.echo(f"{c.level:<5} {c.name}: {c.detail}" + (f"\n      fix: {c.fix}" if c.fix else ""))
    return 0 if ok else 1


def examine(settings: Settings) -> list[Check]:
    """Every check, in the order in which one would look for a fault."""
    database = Database(settings.database_url)
    found: list[Check] = []
    for part in (_python, _settings, _libraries, _sqlite, _broker, _disk, _releases, _encryption):
        found += part(settings)
    found += _database(settings, database)
    database.close()
    return found


def _python(_: Settings) -> Iterator[Check]:
    fits = sys.version_info[:2] == (3, 11)
    yield Check(
        "python",
        "ok" if fits else "wrong",
        platform.python_version(),
        "" if fits else "install Python 3.11; make install",
    )


def _settings(settings: Settings) -> Iterator[Check]:
    wrong = list(problems(settings))
    for line in wrong:
        yield Check("settings", "wrong", line, f"correct it, then: {command('config check')}")
    for line in unknown_variables(os.environ):
        yield Check("settings", "look", line, "unset it or correct its name")
    if not wrong:
        yield Check("settings", "ok", f"home {settings.home.resolve()}, mode {settings.mode}")


def _libraries(_: Settings) -> Iterator[Check]:
    """Imported in a child, as a worker would: a wheel may be there and not load."""
    for name in HEAVY:
        probe = f"import {name}; print({name}.__version__)"
        try:
            ran = subprocess.run(
                [sys.executable, "-c", probe],
                capture_output=True,
                text=True,
                timeout=IMPORT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            yield Check(name, "wrong", f"does not load within {IMPORT_SECONDS} s", "make install")
            continue
        if ran.returncode == 0:
            yield Check(name, "ok", ran.stdout.strip())
        else:
            last = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
            yield Check(name, "wrong", f"does not load: {last[:200]}", "make install")


def _sqlite(settings: Settings) -> Iterator[Check]:
    if not settings.database_url.startswith("sqlite"):
        return
    floor = ".".join(map(str, SQLITE_FLOOR))
    fits = sqlite.sqlite_version_info >= SQLITE_FLOOR
    yield Check(
        "sqlite",
        "ok" if fits else "wrong",
        f"{sqlite.sqlite_version}, at least {floor} wanted",
        "" if fits else "an older one can lose pages: pip install -r requirements/runtime.lock",
    )


def _broker(settings: Settings) -> Iterator[Check]:
    url = settings.broker.url.get_secret_value()
    if url.startswith(("redis", "unix")):
        try:
            with Redis.from_url(url.replace("redis+socket", "unix"), socket_timeout=5) as client:
                version = str(client.info("server")["redis_version"])
        except (RedisError, OSError, ValueError) as error:
            yield Check(
                "broker", "wrong", f"does not answer: {type(error).__name__}",
                "start it, or correct TRIAGE_BROKER__URL; without it studies wait for the sweeper",
            )  # fmt: skip
            return
        yield _redis_check(version, "at TRIAGE_BROKER__URL")
    elif url:
        yield Check("broker", "ok", f"{url.partition(':')[0]}, not tried here")
    else:
        broker = private_broker(settings.home)
        shutil.rmtree(broker.folder, ignore_errors=True)
        if not broker.command:
            yield Check(
                "broker", "look", "no redis: wake-up calls go over files, slower", "apt install redis-server"
            )
            return
        said = subprocess.run(
            [broker.command[0], "--version"], capture_output=True, text=True, timeout=10, check=False
        )
        found = re.search(r"v=(\S+)", said.stdout)
        yield _redis_check(found.group(1) if found else "0", f"{broker.command[0]}, private")


def _redis_check(version: str, where: str) -> Check:
    old = tuple(int(n) for n in version.split(".")[:2]) < REDIS_FLOOR
    return Check(
        "broker",
        "look" if old else "ok",
        f"redis {version} ({where})" + (", a line that gets no more fixes" if old else ""),
        "apt install redis-server; until then only on loopback or a socket" if old else "",
    )


def _disk(settings: Settings) -> Iterator[Check]:
    """Where the spool will lie: the nearest folder that exists. Its free space says nothing where nothing can be made."""
    home = folder = settings.home.resolve()
    while not folder.exists():
        folder = folder.parent
    try:
        # Root may write everywhere, and still make nothing in /proc.
        tempfile.TemporaryDirectory(dir=folder).cleanup()
    except OSError as error:
        what = f"{home} cannot be written" if folder == home else f"{home} cannot be made in {folder}"
        fix = "set home or TRIAGE_HOME to a folder of this user, or chown it"
        yield Check("home", "wrong", f"{what}: {error.strerror}", fix)
        return
    free, reserve = shutil.disk_usage(folder).free, settings.dicom.reserve_bytes
    level = "wrong" if free < reserve else "look" if free < 10 * reserve else "ok"
    fix = "" if level == "ok" else f"free space, move TRIAGE_HOME, or: {command('retention run')}"
    yield Check(
        "disk", level, f"{free / 2**30:.1f} GiB free, stores are refused below {reserve / 2**30:.2f}", fix
    )


def _releases(settings: Settings) -> Iterator[Check]:
    for detector in settings.detectors:
        try:
            release = load_release(active_release(detector))
            others = sum(r.digest != release.digest for r in on_disk(detector))
        except (TriageError, ValueError, KeyError) as error:
            yield Check(
                f"release {detector}", "wrong", str(error), "restore the models folder; triage models verify"
            )
            continue
        yield Check(
            f"release {detector}", "ok", f"{release.title}, files are its own; {others} others on disk"
        )


def _encryption(settings: Settings) -> Iterator[Check]:
    """What leaves this machine unencrypted; whether it may is judged by the settings check."""
    outside = [n for n, host in (("dicom", settings.dicom.host), ("web", settings.web.host), ("hl7", settings.hl7.host))
               if host not in LOOPBACK]  # fmt: skip
    watched = certificates.checks(settings, datetime.now(UTC))
    for check in watched:
        yield Check(
            check["name"],
            "ok" if check["ok"] else "wrong",
            check["detail"],
            "" if check["ok"] else check["fix"],
        )
    if watched:
        return
    if not outside:
        yield Check("certificate", "ok", "none is needed: every port listens on loopback alone")
    else:
        yield Check(
            "certificate", "look", f"none is loaded here, and {', '.join(outside)} listen beyond loopback",
            "put a TLS proxy in front (deploy/), or keep the network to itself",
        )  # fmt: skip


def _database(settings: Settings, database: Database) -> Iterator[Check]:
    """Revision, clock, and, when the product runs, what it says about itself; then whether the ports can be had."""
    now = datetime.now(UTC)
    where = "SQLite in TRIAGE_HOME" if database.is_sqlite else "PostgreSQL"
    if settings.embedded_database is not None and not settings.embedded_database.exists():
        yield Check(
            "database", "look", f"there is none at {settings.embedded_database}", f"{command('up')} makes it"
        )
        yield from _ports(settings, running=False)
        return
    try:
        revision, head = migrate.current(database), migrate.head()
        if revision != head:
            yield Check(
                "database",
                "wrong",
                f"revision {revision or 'none'}, this program wants {head}",
                command("migrate up"),
            )
            yield from _ports(settings, running=False)
            return
        yield Check("database", "ok", f"{where}, revision {revision}")
        with database.read() as tx:
            if not database.is_sqlite:
                yield _skew(tx.execute(text("SELECT clock_timestamp()")).scalar_one() - datetime.now(UTC))
            running = any(now - b["at"] < SILENT for b in events.beats(tx))
            health = checks(tx, settings, now) if running else []
    except TriageError as error:
        yield Check("database", "wrong", str(error), "start it, or correct TRIAGE_DATABASE__URL")
        yield from _ports(settings, running=False)
        return
    for c in health:
        yield Check(
            f"running: {c['name']}",
            "ok" if c["ok"] else "wrong",
            c["detail"],
            "" if c["ok"] else "see its log",
        )
    yield from _ports(settings, running)


def _skew(skew: timedelta) -> Check:
    bad = abs(skew) > SKEW_MAX
    fix = "run chrony or ntpd on both machines" if bad else ""
    return Check(
        "clock", "wrong" if bad else "ok", f"{skew.total_seconds():+.2f} s to the database's clock", fix
    )


def _ports(settings: Settings, running: bool) -> Iterator[Check]:
    for name, host, port in (
        ("dicom", settings.dicom.host, settings.dicom.port),
        ("web", settings.web.host, settings.web.port),
    ):
        if port == 0:
            continue
        taken = _is_taken(host, port)
        if running or not taken:
            level = "ok" if taken == running else "look"
            detail = f"{host}:{port} is {'taken by this triage' if taken else 'free'}"
            yield Check(
                f"port {name}", level, detail, "" if level == "ok" else "this part of triage does not listen"
            )
        else:
            yield Check(
                f"port {name}", "wrong", f"{host}:{port} is taken by another program, or may not be opened",
                f"end it, or set {name}.port to another",
            )  # fmt: skip


def _is_taken(host: str, port: int) -> bool:
    """Could we listen there? As a server would try: an address in TIME_WAIT is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
