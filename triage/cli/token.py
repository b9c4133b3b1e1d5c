"""`triage token add|list|revoke`: access tokens for programs."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from triage.cli.common import actor, open_database, result, say
from triage.cli.main import State
from triage.store import users
from triage.workflow import accounts


@click.group()
def token() -> None:
    """API tokens."""


@token.command()
@click.option("--name", required=True, help="Who will use it; stands in the audit.")
@click.option(
    "--scope", "scopes", multiple=True, required=True, help=f"One or more of {', '.join(accounts.SCOPES)}."
)
@click.argument("more_scopes", nargs=-1)
@click.pass_obj
def add(state: State, name: str, scopes: tuple[str, ...], more_scopes: tuple[str, ...]) -> None:
    """Make a token and print it alone on stdout, once; only its digest is kept."""
    database = open_database(state.settings())
    wanted = [s for given in (*scopes, *more_scopes) for s in given.split(",") if s]
    with database.write() as tx:
        secret = accounts.issue_token(tx, name, wanted, datetime.now(UTC), by=actor())
    database.close()
    say(f"token {name} with {', '.join(sorted(set(wanted)))}; it is shown this once:")
    click.echo(secret)


@token.command("list")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def list_(state: State, as_json: bool) -> None:
    """Names and scopes; the tokens themselves are not kept."""
    database = open_database(state.settings())
    with database.read() as tx:
        found = [{k: t[k] for k in ("name", "scopes", "created_at", "revoked_at")} for t in users.tokens(tx)]
    database.close()
    if as_json:
        result(found)
        return
    for t in found:
        click.echo(f"{t['name']:<24} {'revoked' if t['revoked_at'] else 'live':<8} {' '.join(t['scopes'])}")


@token.command()
@click.argument("name")
@click.pass_obj
def revoke(state: State, name: str) -> None:
    """From now on the token opens nothing."""
    database = open_database(state.settings())
    with database.write() as tx:
        accounts.revoke_token(tx, name, datetime.now(UTC), by=actor())
    database.close()
    say(f"token {name} is revoked")
