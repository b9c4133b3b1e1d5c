"""`triage echo PEER`: each step of speaking with a peer, and what to do where it fails."""

from __future__ import annotations

import click

from triage.cli.common import open_database, result, say
from triage.cli.main import State
from triage.workflow.check_steps import Step
from triage.workflow.peer_check import check_peer
from triage.workflow.remotes import find_peer


@click.command()
@click.argument("peer")
@click.option("--no-store", is_flag=True, help="Store no phantom there.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def echo(state: State, peer: str, no_store: bool, as_json: bool) -> None:
    """Name, connection, TLS, C-ECHO, a real store of a phantom (patient id TRIAGE-CONSTANCY...), DICOMweb."""
    settings = state.settings()
    database = open_database(settings)
    with database.read() as tx:
        row = find_peer(tx, peer)
    database.close()
    check = check_peer(settings, row, store=not no_store, said=_say)
    if as_json:
        result(check.as_json(peer))
    if check.error is not None:
        raise check.error


def _say(step: Step) -> None:
    word = {True: "ok", False: "FAILED", None: "-"}[step.ok]
    took = f", {1000 * step.seconds:.0f} ms" if step.seconds is not None else ""
    say(f"{step.name}: {word}{took}. {step.detail}")
