"""`triage peer add|list|remove`: whom we speak DICOM with."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from triage.cli.common import actor, command, open_database, result, say
from triage.cli.main import State
from triage.store import peers
from triage.workflow import peering
from triage.workflow.certificates import certificate_fingerprint


@click.group()
def peer() -> None:
    """Whom we speak DICOM with."""


@peer.command()
@click.argument("name")
@click.option("--aet", required=True, help="Its AE title, up to 16 characters.")
@click.option(
    "--host", required=True, help="Address or name; calls from elsewhere under this AE title are refused."
)
@click.option("--port", required=True, type=click.IntRange(1, 65535))
@click.option("--tls", is_flag=True, help="Speak TLS with it.")
@click.option(
    "--certificate",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file: on our TLS port it is known by this certificate alone.",
)
@click.pass_obj
def add(state: State, name: str, aet: str, host: str, port: int, tls: bool, certificate: Path | None) -> None:
    """Let a peer call us, and know where it is."""
    sha256 = certificate_fingerprint(certificate) if certificate else ""
    database = open_database(state.settings())
    with database.write() as tx:
        peering.add(
            tx, name, aet, host, port, tls=tls, certificate_sha256=sha256, by=actor(), now=datetime.now(UTC)
        )
    database.close()
    say(
        f"peer {name}: {aet} at {host}:{port}{' with TLS' if tls else ''}. Test it: {command(f'echo {name}')}"
    )


@peer.command("list")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def list_(state: State, as_json: bool) -> None:
    """Every peer."""
    database = open_database(state.settings())
    with database.read() as tx:
        found = peers.listing(tx)
    database.close()
    if as_json:
        result(found)
        return
    for p in found:
        click.echo(f"{p['name']:<24} {p['ae_title']:<16} {p['host']}:{p['port']}{' TLS' if p['tls'] else ''}")


@peer.command()
@click.argument("name")
@click.pass_obj
def remove(state: State, name: str) -> None:
    """Its calls are refused from now on."""
    database = open_database(state.settings())
    with database.write() as tx:
        peering.remove(tx, name, by=actor(), now=datetime.now(UTC))
    database.close()
    say(f"peer {name} is removed")
