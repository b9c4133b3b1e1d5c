"""`python -m tests.reference_pages`: docs/reference, written from the code's own tables, so that it cannot lie.

A test holds that what is committed is what this writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from triage.cli.config import example_toml
from triage.cli.main import COMMANDS, LazyGroup
from triage.domain.finding import FINDING_CODES
from triage.domain.suitability import SENTENCES
from triage.web.app import ROUTES
from triage.web.context import PUBLIC, SIGNED_IN, Route
from triage.workflow.accounts import ROLE_SCOPES

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
MADE = "<!-- made by `make docs` from the code; changes here are lost -->\n"


def pages() -> dict[str, str]:
    """File name to content."""
    return {
        "commands.md": commands(),
        "settings.md": settings(),
        "http.md": http(),
        "codes.md": codes(),
    }


def commands() -> str:
    """Help of every command, as the program prints it."""
    group = LazyGroup("triage")
    context = click.Context(group, info_name="triage", terminal_width=110, max_content_width=110)
    parts = [f"# Commands\n\n{MADE}", "Exit codes: 0 done; 1 the answer is no; 2 wrong usage; 3 something needed is not "
             "reachable; 4 input refused; 130 interrupted.\n"]  # fmt: skip
    for name in COMMANDS:
        command = group.get_command(context, name)
        if command is not None:
            parts += [f"## {name}\n", *_help(command, context, name)]
    return "\n".join(parts)


def _help(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    context = click.Context(command, parent=parent, info_name=name, terminal_width=110, max_content_width=110)
    yield f"```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None:
                yield from _help(found, context, inner)


def settings() -> str:
    return (
        f"# Settings\n\n{MADE}\nOrder of strength: defaults, the TOML file (`--config`), `TRIAGE_...` in the environment "
        "(tables by two underscores: `TRIAGE_DICOM__PORT`), options. `triage config check` names what is wrong, "
        f"`triage config show` prints each value and where it comes from.\n\n```toml\n{example_toml()}```\n"
    )


def http() -> str:
    rows = [f"# HTTP\n\n{MADE}", "Errors are RFC 9457 `application/problem+json`. The whole contract with every field is "
            "`/api/openapi.json`; `/api/docs` shows it.\n",
            "| path | method | who | what |", "| --- | --- | --- | --- |"]  # fmt: skip
    for route in sorted(ROUTES, key=lambda r: (r.path, r.method)):
        said = (route.view.__doc__ or "").strip().splitlines()
        rows.append(
            f"| `{route.path}` | {route.method} | {_who(route)} | {said[0].replace('|', '/') if said else ''} |"
        )
    rows += ["\n## Roles\n", "| role | scopes |", "| --- | --- |"]
    rows += [
        f"| {role} | {', '.join(f'`{s}`' for s in sorted(scopes))} |" for role, scopes in ROLE_SCOPES.items()
    ]
    return "\n".join(rows) + "\n"


def _who(route: Route) -> str:
    if route.scopes == PUBLIC:
        return "anybody"
    return "signed in" if route.scopes == SIGNED_IN else " or ".join(f"`{s}`" for s in route.scopes)


def codes() -> str:
    rows = [f"# Codes\n\n{MADE}\n## Findings\n", "| name | shown as | code | class when actionable |",
            "| --- | --- | --- | --- |"]  # fmt: skip
    rows += [
        f"| `{c.name}` | {c.display} | {c.code} ({c.scheme}) | {c.priority_class.word} |"
        for c in FINDING_CODES.values()
    ]
    rows += ["\n## Why a study was not analysed\n", "| code | what a reader sees |", "| --- | --- |"]
    rows += [f"| `{code.value}` | {sentence} |" for code, sentence in SENTENCES.items()]
    return "\n".join(rows) + "\n"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in pages().items():
        (FOLDER / name).write_text(content)
        print(f"docs/reference/{name}", file=sys.stderr)


if __name__ == "__main__":
    main()
