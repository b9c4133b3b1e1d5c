"""`triage`: one module per command, loaded when asked for, so that `--help` answers at once.

Human text goes to stderr, results to stdout. Exit codes: 0 done; 1 the answer is no; 2 wrong usage; 3 something needed
is not reachable; 4 input refused; 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from triage.domain.errors import Conflict, Misconfigured, Refused, TriageError, Unavailable

if TYPE_CHECKING:
    from triage.settings import Settings

# command: (module under triage.cli, attribute, one line)
COMMANDS = {
    "up": ("up", "up", "Run the product (or parts of it) until SIGTERM."),
    "demo": ("demo", "demo", "Start everything, send sample studies, print the list."),
    "assess": ("assess", "assess", "Run suitability and detectors on files or folders; no server needed."),
    "evaluate": ("evaluate", "evaluate", "Figures with intervals on labelled cases."),
    "models": ("models", "models", "Releases of the detectors."),
    "phantom": ("phantom", "phantom", "Write DICOM phantoms with known findings."),
    "send": ("send", "send", "Send DICOM files by C-STORE."),
    "peer": ("peer", "peer", "Whom we speak DICOM with."),
    "echo": ("echo", "echo", "Test a peer: C-ECHO, then a real store of a phantom."),
    "migrate": ("migrate", "migrate", "Bring the database to this version, or one back."),
    "backup": ("backup", "backup", "Save the database while it runs."),
    "restore": ("backup", "restore", "Put a saved database in place."),
    "retention": ("retention", "retention", "Remove what has aged out."),
    "doctor": ("doctor", "doctor", "What is wrong and how to mend it."),
    "config": ("config", "config", "Check, show or make a settings file."),
    "report": ("report", "report", "QA reports."),
    "simulate": ("simulate", "simulate", "Replay the queue: what a policy does to the waits."),
    "audit": ("audit", "audit", "Verify or export the audit trail."),
    "user": ("user", "user", "Local users."),
    "token": ("token", "token", "API tokens."),
}


@dataclass
class State:
    """What the options before the command said."""

    config: Path | None
    log_format: str

    def settings(self) -> Settings:
        from triage.settings import load  # pydantic costs more than `--help` may take

        return load(self.config)


class LazyGroup(click.Group):
    """Names and help of all commands without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [name for name, (module, _, _) in COMMANDS.items() if _exists(module)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        del ctx
        if name not in COMMANDS or not _exists(COMMANDS[name][0]):
            return None
        module, attribute, _ = COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(f"triage.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in self.list_commands(ctx)])


def _exists(module: str) -> bool:
    return (Path(__file__).parent / f"{module}.py").exists()


@click.group(cls=LazyGroup)
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file (TOML).")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="Form of log lines.")
@click.version_option(package_name="triage")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, log_format: str) -> None:
    """PACS-integrated radiology triage. Research and demonstration software, not a medical device."""
    from triage import log  # so does structlog

    log.configure(log_format)
    ctx.obj = State(config, log_format)


def exit_code(error: TriageError) -> int:
    """1 configuration, 3 not reachable, 4 input refused."""
    if isinstance(error, Refused):
        return 4
    if isinstance(error, Unavailable):
        return 3
    assert isinstance(error, Misconfigured | Conflict) or type(error) is TriageError
    return 1


def main() -> None:
    """The program: errors of ours become one line that says the fix, and an exit code."""
    os.umask(0o077)  # what we write holds patients: nobody else on this machine reads it
    try:
        result = cli.main(standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TriageError as error:
        click.echo(f"triage: {error}", err=True)
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()
