"""`triage evaluate`: figures with intervals on labelled cases."""

from __future__ import annotations

from pathlib import Path

import click

from triage.cli.common import result, say
from triage.cli.main import State
from triage.dicom.pixels import Decoder
from triage.qa import evaluate_films, evaluate_scans
from triage.workflow.offline import film_reader, scan_reader
from triage.workflow.releases import chosen_detector


@click.command()
@click.argument("detector")
@click.option(
    "--cases", required=True, type=click.Path(exists=True, path_type=Path), help="CSV, or a LUNA16 folder."
)
@click.option(
    "--nodules", type=click.Path(exists=True, path_type=Path), help="CSV of reference nodules (scans)."
)
@click.option(
    "--comparator", type=click.Path(exists=True, path_type=Path), help="CSV of another model's scores."
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write CSV and a page here.")
@click.option("--release", "version", help="Evaluate this release instead of the shipped one (models list).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option(
    "--robust",
    is_flag=True,
    help="Films: score each once more with noise, blur, borders ... (11 times slower).",
)
@click.option("--at-least", type=float, help="Exit 1 when the mean AUC (films) or CPM (scans) is below this.")
@click.pass_obj
def evaluate(
    state: State,
    detector: str,
    cases: Path,
    nodules: Path | None,
    comparator: Path | None,
    out: Path | None,
    version: str | None,
    as_json: bool,
    robust: bool,
    at_least: float | None,
) -> int:
    """Evaluate the shipped release of DETECTOR, or another one on disk."""
    settings = state.settings()
    if detector not in settings.detectors:
        raise click.BadParameter(f"there are {', '.join(settings.detectors)}", param_hint="DETECTOR")
    loaded = chosen_detector(settings, detector, version)
    with Decoder() as decoder:
        if detector == "chest_xray":
            document = evaluate_films.evaluate(
                cases, loaded, film_reader(decoder), comparator, out, robust=robust
            )
            figure = document["mean_auc"]
        else:
            document = evaluate_scans.evaluate(cases, nodules, loaded, scan_reader(decoder), out)
            figure = document["cpm"]
    if as_json:
        result(document)
    say(f"{document['release']}: {'mean AUC' if detector == 'chest_xray' else 'CPM'} {figure}")
    return 1 if at_least is not None and (figure is None or figure < at_least) else 0
