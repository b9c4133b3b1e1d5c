"""`triage assess`: what the detectors say about files, no server needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from triage.cli.common import result, say
from triage.cli.main import State
from triage.domain.suitability import SENTENCES, ReasonCode
from triage.workflow.offline import assess_files
from triage.workflow.overlay import OverlayWriter
from triage.workflow.releases import chosen_detector

NOTHING_READABLE = 4


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--detector", type=str, help="Only this detector.")
@click.option(
    "--release", "version", help="This release of --detector instead of the shipped one (models list)."
)
@click.option(
    "--overlay", type=click.Path(file_okay=False, path_type=Path), help="Write pictures with outlines here."
)
@click.pass_obj
def assess(
    state: State,
    paths: tuple[Path, ...],
    as_json: bool,
    detector: str | None,
    version: str | None,
    overlay: Path | None,
) -> int:
    """Run suitability and detectors on files or folders; a tool of QA: places and measurements are given."""
    settings = state.settings()
    if detector is not None and detector not in settings.detectors:
        raise click.BadParameter(f"there are {', '.join(settings.detectors)}", param_hint="--detector")
    if version is not None and detector is None:
        raise click.UsageError("--release needs --detector: which detector's release is it?")
    console = Console(stderr=True)
    writer = OverlayWriter(overlay, paths) if overlay else None
    with console.status("assessing") as status:
        document = assess_files(
            paths,
            (detector,) if detector else settings.detectors,
            progress=lambda uid: status.update(f"series {uid}") if console.is_terminal else None,
            keep=writer.keep if writer else lambda _, __: None,
            load=lambda name: chosen_detector(settings, name, version),
        )
    if writer:
        say(f"{writer.written} pictures in {overlay}")
    if as_json:
        result(document)
    else:
        _show(console, document)
    return NOTHING_READABLE if not document["studies"] else 0


def _show(console: Console, document: dict[str, Any]) -> None:
    table = Table("study", "detector", "status", "what", show_lines=False)
    for study in document["studies"]:
        for run in study["runs"]:
            table.add_row(
                f"...{study['study_uid'][-12:]}", run["detector"] or "-", run["status"], _words(run)
            )
    console.print(table)
    for refusal in document["refused"]:
        say(f"refused {refusal['path']}: {refusal['reason']}")


def _words(run: dict[str, Any]) -> str:
    if run["reason"]:
        detail = f" ({run['detail']})" if run["detail"] else ""
        return f"{SENTENCES[ReasonCode(run['reason'])]}{detail}"
    flags = [f"{f['display']} suspected ({f['band']})" for f in run["findings"] if f["actionable"]]
    return ", ".join(flags) or "no flag raised"
