"""`triage echo PEER`: each step of speaking with a peer, until one fails, and what to do then."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from triage.cli.common import open_database, say
from triage.cli.main import State
from triage.dicom.send import echo as c_echo
from triage.dicom.send import send
from triage.domain.errors import Refused, TriageError, Unavailable
from triage.domain.study import CONSTANCY_PATIENT_PREFIX
from triage.phantom.identity import identity_for
from triage.phantom.person import make_thorax
from triage.phantom.write import write_radiograph
from triage.store import peers

SEED, SIZE_PX = 7, 512


@click.command()
@click.argument("peer")
@click.option("--no-store", is_flag=True, help="C-ECHO alone; store no phantom there.")
@click.pass_obj
def echo(state: State, peer: str, no_store: bool) -> None:
    """Name, connection, C-ECHO, then a real store of a phantom (patient id TRIAGE-CONSTANCY...)."""
    settings = state.settings()
    with open_database(settings).read() as tx:
        row = peers.find(tx, peer)
    if row is None:
        raise Refused(f"no peer is called {peer!r}: triage peer list")
    host, port, called, calling = row["host"], row["port"], row["ae_title"], settings.dicom.ae_title
    _step("name", lambda: _resolves(host))
    _step("connect", lambda: socket.create_connection((host, port), timeout=5).close())
    _step("C-ECHO", lambda: c_echo(host, port, calling=calling, called=called))
    if not no_store:
        _step("C-STORE of a phantom", lambda: _store_phantom(host, port, calling, called))


def _step(name: str, act: Callable[[], None]) -> None:
    started = time.monotonic()
    try:
        act()
    except TriageError:
        raise
    except OSError as error:
        raise Unavailable(
            f"{name} failed: {error.strerror or error}. Check address, port and firewall."
        ) from error
    say(f"{name}: ok, {(time.monotonic() - started) * 1000:.0f} ms")


def _resolves(host: str) -> None:
    socket.getaddrinfo(host, None)


def _store_phantom(host: str, port: int, calling: str, called: str) -> None:
    thorax = make_thorax(SEED)
    identity = identity_for(
        SEED, "DX", datetime.now(UTC), sex=thorax.body.sex, patient_id=f"{CONSTANCY_PATIENT_PREFIX}-ECHO"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = write_radiograph(Path(folder), thorax, identity=identity, size_px=SIZE_PX)
        stored = send([path], host=host, port=port, calling=calling, called=called)[0]
    if not stored.ok:
        status = "no answer" if stored.status is None else f"status {stored.status:04X}"
        raise Unavailable(f"C-STORE failed: {status} {stored.detail}")
