"""`triage up`: the product on this machine."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import click

from triage.cli.common import command, say
from triage.cli.main import State
from triage.domain.errors import Misconfigured
from triage.settings import Settings
from triage.store import migrate
from triage.store.database import Database
from triage.workflow.parts.names import PARTS
from triage.workflow.supervisor import Supervisor, check_exposure, prepare


@click.command()
@click.option("--only", default="", help=f"Comma-separated parts: {', '.join(PARTS)}.")
@click.pass_obj
def up(state: State, only: str) -> int:
    """Run the product (or parts of it) until SIGTERM."""
    settings = state.settings()
    parts = tuple(name.strip() for name in only.split(",") if name.strip())
    if only and not settings.broker.url.get_secret_value():
        raise Misconfigured("parts of the product need a broker that they share: set broker.url")
    os.environ["TRIAGE_LOG_FORMAT"] = state.log_format
    supervisor = start(settings, state.config, parts)
    names = {part.name for part in supervisor.parts}
    doors = []
    if "web" in names:
        doors.append(f"pages http://{settings.web.host}:{settings.web.port}/worklist")
    if "receiver" in names:
        doors.append(f"DICOM {settings.dicom.ae_title} at {settings.dicom.host}:{settings.dicom.port}")
    say(
        f"triage starts{': ' if doors else ''}{', '.join(doors)}. Ctrl-C ends it; {command('doctor')} says how it is."
    )
    return supervisor.run()


def start(settings: Settings, config: Path | None, parts: tuple[str, ...] = ()) -> Supervisor:
    """A supervisor, ready to run, over a prepared home and database.

    raises  Misconfigured for an address that is open without protection, or a database of another version
    """
    check_exposure(settings)
    settings.make_home()
    database = Database(settings.database_url)
    if database.is_sqlite:
        migrate.upgrade(database)  # the embedded database is ours alone: bring it along
    elif migrate.current(database) != migrate.head():
        raise Misconfigured(f"the database is of another version: {command('migrate up')}")
    prepare(settings, database)
    database.close()
    return Supervisor(settings, config, parts)


def with_free_ports(settings: Settings, config_folder: Path) -> tuple[Settings, Path]:
    """Settings whose ports of 0 became real ones, and the TOML file that says so to every part."""
    values: dict[str, Any] = settings.model_dump(mode="json", exclude={"database", "broker"})
    for table in ("dicom", "web", "hl7"):
        if values[table]["port"] == 0:
            values[table]["port"] = free_port()
    path = config_folder / "triage.toml"
    path.write_text(as_toml(values), encoding="utf-8")
    return Settings(**values), path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_toml(values: dict[str, Any]) -> str:
    """TOML of plain settings: scalars and lists first, then tables, then arrays of tables."""
    lines: list[str] = []
    tables: list[str] = []
    for key, value in values.items():
        if isinstance(value, dict):
            tables += [f"[{key}]", *(f"{k} = {_scalar(v)}" for k, v in value.items() if v is not None), ""]
        elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            for row in value:
                tables += [
                    f"[[{key}]]",
                    *(f"{k} = {_scalar(v)}" for k, v in row.items() if v is not None),
                    "",
                ]
        elif value is not None and value != []:
            lines.append(f"{key} = {_scalar(value)}")
    return "\n".join([*lines, "", *tables])


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_scalar(v) for v in value) + "]"
    if isinstance(value, dict):  # an inline table: oidc.roles
        return "{" + ", ".join(f"{_scalar(str(k))} = {_scalar(v)}" for k, v in value.items()) + "}"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def temporary_home() -> Path:
    return Path(tempfile.mkdtemp(prefix="triage-demo-"))
