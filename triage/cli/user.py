"""`triage user add|list|disable|password`: local users with Argon2id passwords."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from triage.cli.common import actor, open_database, result, say
from triage.cli.main import State
from triage.store import users
from triage.workflow import accounts

from_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")


@click.group()
def user() -> None:
    """Local users."""


@user.command()
@click.argument("name")
@click.option("--role", type=click.Choice(list(accounts.ROLE_SCOPES)), required=True)
@click.option("--display-name", default="", help="As colleagues read it.")
@from_stdin
@click.pass_obj
def add(state: State, name: str, role: str, display_name: str, password_stdin: bool) -> None:
    """Make a user; asks for the password."""
    database = open_database(state.settings())
    password = ask_password(password_stdin)
    with database.write() as tx:
        accounts.create_user(
            tx, name, role, password, datetime.now(UTC), by=actor(), display_name=display_name
        )
    database.close()
    say(f"user {name} added with role {role}")


@user.command("list")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def list_(state: State, as_json: bool) -> None:
    """Everybody who may sign in, or once might."""
    database = open_database(state.settings())
    with database.read() as tx:
        found = [
            {k: u[k] for k in ("name", "display_name", "role", "disabled", "created_at")}
            for u in users.listing(tx)
        ]
    database.close()
    if as_json:
        result(found)
        return
    for u in found:
        click.echo(f"{u['name']:<24} {u['role']:<8} {'disabled' if u['disabled'] else ''}".rstrip())


@user.command()
@click.argument("name")
@click.pass_obj
def disable(state: State, name: str) -> None:
    """End a user's sessions and let them in no more; their past stays theirs."""
    database = open_database(state.settings())
    with database.write() as tx:
        accounts.disable_user(tx, name, datetime.now(UTC), by=actor())
    database.close()
    say(f"user {name} is disabled")


@user.command("password")
@click.argument("name")
@from_stdin
@click.pass_obj
def password_(state: State, name: str, password_stdin: bool) -> None:
    """Give a user a new password; their sessions end."""
    database = open_database(state.settings())
    password = ask_password(password_stdin)
    with database.write() as tx:
        accounts.change_password(tx, name, password, datetime.now(UTC), by=actor())
    database.close()
    say(f"user {name} has a new password")


def ask_password(from_standard_input: bool) -> str:
    """Typed twice without echo, or one line of standard input; never an argument, which others can list."""
    if from_standard_input:
        return sys.stdin.readline().rstrip("\r\n")
    typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return typed
