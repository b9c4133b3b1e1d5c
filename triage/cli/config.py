"""`triage config check|show|example`: is the settings file right, what is in force and why, and one to begin with."""

from __future__ import annotations

import ast
import difflib
import hashlib
import inspect
import io
import json
import os
import tokenize
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel, SecretStr

from triage.cli.common import result, say
from triage.cli.main import State
from triage.domain.errors import Misconfigured
from triage.settings import PerformSettings, PullSettings, RouteSettings, Settings
from triage.workflow.releases import KNOWN
from triage.workflow.routes import client_context
from triage.workflow.supervisor import check_exposure

HIDDEN = "•••"
# Set by the supervisor for its children, and by tests: no settings of the product.
INTERNAL = frozenset(
    {"TRIAGE_CONFIG", "TRIAGE_LOG_FORMAT", "TRIAGE_RESTARTS", "TRIAGE_FLAPPING", "TRIAGE_INFERENCE_THREADS"}
)
EXAMPLE_PULLS = (PullSettings(name="pacs", peer="pacs"),)
EXAMPLE_PERFORMS = (PerformSettings(name="ris", peer="ris"),)
EXAMPLE_ROUTES = (
    RouteSettings(name="ris", kind="mllp", host="ris.hospital.example", port=2575),
    RouteSettings(
        name="oncall", kind="webhook", url="https://oncall.hospital.example/triage",
        secret_file=Path("/etc/triage/oncall.key"), operator=True,
    ),
    RouteSettings(
        name="page", kind="mail", host="mail.hospital.example", port=587, tls="starttls",
        sender="triage@hospital.example", recipients=("radiology-desk@hospital.example",),
    ),
)  # fmt: skip


@click.group()
def config() -> None:
    """Check, show or make a settings file."""


@config.command()
@click.pass_obj
def check(state: State) -> int:
    """Exit 1 when the product would not start with these settings, or would not do what they say."""
    settings = state.settings()  # raises Misconfigured naming each wrong setting
    wrong = list(problems(settings))
    for line in wrong:
        say(f"wrong: {line}")
    for line in unknown_variables(os.environ):
        say(f"look: {line}")
    if not wrong:
        say("the settings are right")
    return 1 if wrong else 0


def problems(settings: Settings) -> Iterator[str]:
    """What types and ranges cannot show: files that must be there, names that must be known, doors left open."""
    for name in settings.detectors:
        if name not in KNOWN:
            yield f"detectors: no detector is called {name!r}; there are {', '.join(KNOWN)}"
    for route in settings.routes:
        try:
            client_context(route)
        except Misconfigured as error:
            yield str(error)
        if route.secret_file is None:
            continue
        try:
            mode = route.secret_file.stat().st_mode & 0o077
        except OSError as error:
            yield f"routes {route.name}: secret_file {route.secret_file} cannot be read ({error.strerror})"
            continue
        if mode:
            yield f"routes {route.name}: others may read {route.secret_file}; chmod 600 {route.secret_file}"
    try:
        check_exposure(settings)
    except Misconfigured as error:
        yield str(error)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """TRIAGE_... variables that set nothing: a typing error there would otherwise pass in silence."""
    known = set(names(Settings)) | INTERNAL
    found = []
    for name in sorted(environment):
        upper = name.upper()
        if upper.startswith("TRIAGE_") and upper not in known:
            near = difflib.get_close_matches(upper, known, n=1)
            found.append(f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
    return found


def names(table: type[BaseModel], prefix: str = "TRIAGE_") -> Iterator[str]:
    """Every environment variable that sets something."""
    for key, field in table.model_fields.items():
        yield f"{prefix}{key.upper()}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from names(field.annotation, f"{prefix}{key.upper()}__")


# --- show ----------------------------------------------------------------------------------------------------


@config.command()
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def show(state: State, as_json: bool) -> None:
    """Every setting with its value and where it comes from; secrets are not shown."""
    settings = state.settings()
    file = tomllib.loads(state.config.read_text(encoding="utf-8")) if state.config else {}
    rows = [
        {"name": ".".join(path), "value": shown(value), "origin": origin(path, file, os.environ)}
        for path, value in leaves(settings)
    ]
    if as_json:
        result(rows)
        return
    for row in rows:
        click.echo(f"{row['name']:<34} {json.dumps(row['value'], ensure_ascii=False):<40} {row['origin']}")


def leaves(table: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of every setting; a list of tables is one value."""
    for key in type(table).model_fields:
        value = getattr(table, key)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def shown(value: Any) -> Any:
    """The value as JSON can hold it; of a secret only whether it is set, and a fingerprint to compare by."""
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return f"{HIDDEN} {hashlib.sha256(secret.encode()).hexdigest()[:8]}" if secret else ""
    if isinstance(value, BaseModel):
        return {".".join(path): shown(inner) for path, inner in leaves(value)}
    if isinstance(value, tuple):
        return [shown(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def origin(path: tuple[str, ...], file: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """environment NAME, file or default: the strongest that sets this; a variable may set a whole table as JSON."""
    variables = {name.upper(): name for name in environment}
    for length in range(len(path), 0, -1):
        name = "TRIAGE_" + "__".join(path[:length]).upper()
        if name in variables and (
            length == len(path) or path[length] in _table(environment[variables[name]])
        ):
            return f"environment {variables[name]}"
    inner: Any = file
    for key in path:
        if not isinstance(inner, Mapping) or key not in inner:
            return "default"
        inner = inner[key]
    return "file"


def _table(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


# --- example -------------------------------------------------------------------------------------------------


@config.command()
def example() -> None:
    """A commented settings file with every default, on stdout."""
    click.echo(example_toml(), nl=False)


def example_toml() -> str:
    """TOML in which every setting stands as a comment with its default and the comment of its source."""
    lines = [
        "## Settings of triage. Every line with one # shows a default; take the # away to change it.",
        "## Stronger than this file: environment variables, e.g. TRIAGE_DICOM__PORT=11112.",
        "## Secrets do not belong here: TRIAGE_DATABASE__URL and TRIAGE_BROKER__URL in the environment.",
        "",
    ]
    defaults = Settings.model_construct()
    tables = []
    for key in Settings.model_fields:
        value = getattr(defaults, key)
        if isinstance(value, BaseModel):
            tables += ["", f"# [{key}]", *_lines(value), *_secret_lines(key, value)]
        elif key not in ("routes", "ladder", "pull", "perform"):
            lines.append(_line(key, value, comments(Settings).get(key, "")))
    examples: tuple[tuple[str, tuple[BaseModel, ...]], ...] = (
        ("pull", EXAMPLE_PULLS), ("perform", EXAMPLE_PERFORMS), ("routes", EXAMPLE_ROUTES),
        ("ladder", tuple(defaults.ladder)),
    )  # fmt: skip
    for heading, rows in examples:
        tables += ["", f"## {inspect.getdoc(type(rows[0]))}"]
        for row in rows:
            tables += [f"# [[{heading}]]", *_lines(row)]
    return "\n".join([*lines, *tables]) + "\n"


def _lines(table: BaseModel) -> list[str]:
    said = comments(type(table))
    return [
        _line(key, getattr(table, key), said.get(key, ""))
        for key in type(table).model_fields
        if getattr(table, key) is not None and not isinstance(getattr(table, key), SecretStr)
    ]


def _secret_lines(table_name: str, table: BaseModel) -> list[str]:
    said = comments(type(table))
    return [
        f"## {key} is a secret: TRIAGE_{table_name.upper()}__{key.upper()}; {said.get(key, '')}"
        for key in type(table).model_fields
        if isinstance(getattr(table, key), SecretStr)
    ]


def _line(key: str, value: Any, comment: str) -> str:
    return f"# {key} = {_toml(value)}" + (f"  # {comment}" if comment else "")


def _toml(value: Any) -> str:
    """A scalar or list as TOML; JSON writes these the same way."""
    return json.dumps(shown(value), ensure_ascii=False)


def comments(table: type[BaseModel]) -> dict[str, str]:
    """The comment beside each field in the source: said once, shown here too."""
    source = inspect.getsource(table)
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.ClassDef)
    spans = {
        node.target.id: (node.lineno, node.end_lineno or node.lineno)
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    said = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    return {
        name: " ".join(said[line] for line in range(first, last + 1) if line in said)
        for name, (first, last) in spans.items()
    }
