"""Runs `triage` in this process, with the exit code that the shell would see."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import click
from click.testing import CliRunner

from triage.cli.main import cli, exit_code
from triage.domain.errors import TriageError


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def triage(*words: str, typed: str | None = None) -> Ran:
    """`triage WORDS...` with `typed` on standard input; settings come from the environment of the test."""
    result = CliRunner().invoke(cli, words, input=typed, standalone_mode=False)
    error = result.exception
    if error is None:
        code = result.return_value if isinstance(result.return_value, int) else 0
        return Ran(code, result.stdout, result.stderr)
    if isinstance(error, TriageError):
        return Ran(exit_code(error), result.stdout, f"{result.stderr}triage: {error}\n")
    if isinstance(error, click.ClickException):
        return Ran(error.exit_code, result.stdout, f"{result.stderr}{error.format_message()}\n")
    raise error
