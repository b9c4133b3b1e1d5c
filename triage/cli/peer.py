"""`triage peer add|list|remove`: whom we speak DICOM with."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from triage.cli.common import actor, open_database, result, say
from triage.cli.main import State
from triage.domain.errors import Conflict, Refused
from triage.store import audit, peers


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
@click.pass_obj
def add(state: State, name: str, aet: str, host: str, port: int, tls: bool) -> None:
    """Let a peer call us, and know where it is."""
    aet = check_ae_title(aet)
    if not name or len(name) > 40 or not name.isprintable():
        raise Refused("a peer's name has 1 to 40 printable characters")
    if not host or len(host) > 255 or not host.isprintable() or " " in host:
        raise Refused(f"{host!r} is no address")
    database = open_database(state.settings())
    with database.write() as tx:
        if not peers.add(tx, name, aet, host, port, tls=tls):
            raise Conflict(f"a peer called {name} exists; remove it first: triage peer remove {name}")
        detail = {"ae_title": aet, "host": host, "port": port, "tls": tls}
        audit.append(tx, datetime.now(UTC), actor(), "peer.added", "peer", name, detail)
    database.close()
    say(f"peer {name}: {aet} at {host}:{port}{' with TLS' if tls else ''}. Test it: triage echo {name}")


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
        if not peers.remove(tx, name):
            raise Refused(f"no peer is called {name}: triage peer list")
        audit.append(tx, datetime.now(UTC), actor(), "peer.removed", "peer", name)
    database.close()
    say(f"peer {name} is removed")


def check_ae_title(aet: str) -> str:
    """An AE title as DICOM allows it: 1 to 16 characters of ASCII, no backslash or control; source PS3.5 6.2."""
    title = aet.strip()
    if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise Refused(f"{aet!r} is no AE title: 1 to 16 characters of ASCII without backslash")
    return title
