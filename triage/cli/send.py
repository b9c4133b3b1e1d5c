"""`triage send`: C-STORE SCU with a progress bar."""

from __future__ import annotations

from pathlib import Path

import click
from rich.progress import Progress

from triage.cli.common import say
from triage.dicom.send import send as send_files
from triage.domain.errors import Refused, Unavailable
from triage.workflow.offline import files_under


def host_and_port(text: str) -> tuple[str, int]:
    """HOST:PORT. raises BadParameter."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.BadParameter("give HOST:PORT, as in 127.0.0.1:11112", param_hint="--to")
    return host.strip("[]"), int(port)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--to", required=True, help="HOST:PORT of the receiver.")
@click.option("--aet", default="TRIAGE", show_default=True, help="AE title of the receiver.")
@click.option("--calling", default="TRIAGE-SCU", show_default=True, help="Our own AE title.")
def send(paths: tuple[Path, ...], to: str, aet: str, calling: str) -> None:
    """Send DICOM files, each in its own transfer syntax."""
    host, port = host_and_port(to)
    files = list(files_under(paths))
    with Progress(transient=True) as bar:
        task = bar.add_task("sending", total=len(files))
        results = send_files(
            files, host=host, port=port, calling=calling, called=aet, progress=lambda _: bar.advance(task)
        )
    for r in results:
        if not r.ok:
            say(
                f"{r.path}: {'no answer' if r.status is None else f'status {r.status:04X}'} {r.detail}".rstrip()
            )
    stored = sum(r.ok for r in results)
    say(f"{stored} of {len(results)} stored at {aet} {host}:{port}")
    if stored == len(results):
        return
    if all(r.status is None for r in results):
        raise Refused("nothing could be sent; see the lines above")
    raise Unavailable(f"{len(results) - stored} objects were not stored; send them again")
