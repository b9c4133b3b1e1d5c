"""`triage phantom cxr|ct OUT`: DICOM of a person who never lived, with known findings."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from triage.phantom.identity import identity_for
from triage.phantom.masks import film_masks
from triage.phantom.person import make_thorax, nodule_truth
from triage.phantom.thorax import FINDINGS, SIDE_WORD, Thorax
from triage.phantom.write import write_ct, write_radiograph


@click.command()
@click.argument("kind", type=click.Choice(["cxr", "ct"]))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--finding", "findings", multiple=True, type=click.Choice(FINDINGS), help="May be given several times."
)
@click.option(
    "--seed",
    default=1,
    show_default=True,
    type=click.IntRange(min=0),
    help="The same seed gives the same person.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one object with the files and the truth.")
def phantom(kind: str, out: Path, findings: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Write a phantom chest film (cxr) or CT series (ct) as DICOM into the folder OUT and print the paths."""
    thorax = make_thorax(seed, findings)
    now = datetime.now().astimezone()
    modality = "DX" if kind == "cxr" else "CT"
    identity = identity_for(seed, modality, now, sex=thorax.body.sex)
    click.echo(f"writing {modality} of person {seed}: {', '.join(thorax.findings) or 'no finding'}", err=True)
    if kind == "cxr":
        files = [write_radiograph(out, thorax, identity=identity)]
    else:
        files = write_ct(out, thorax, identity=identity)
    if as_json:
        click.echo(json.dumps({"files": [str(f) for f in files], "truth": truth_of(thorax)}, indent=2))
        return
    for file in files:
        click.echo(file)


def truth_of(thorax: Thorax) -> dict[str, Any]:
    """What is known of this person, in LPS millimetres; areas as parts of the film."""
    nodules = [
        {
            "center_lps_mm": list(centre),
            "diameter_mm": diameter,
            "volume_mm3": round(volume, 1),
            "texture": texture,
        }
        for centre, diameter, volume, texture in nodule_truth(thorax)
    ]
    sides = {
        name: SIDE_WORD[found.side]
        for name, found in (
            ("pneumothorax", thorax.pneumothorax),
            ("effusion", thorax.effusion),
            ("consolidation", thorax.consolidation),
        )
        if found is not None
    }
    covered = {name: round(float(mask.mean()), 4) for name, mask in film_masks(thorax, 256).items()}
    return {
        "seed": thorax.seed,
        "findings": list(thorax.findings),
        "sides": sides,
        "nodules": nodules,
        "film_area": covered,
        "body": asdict(thorax.body),
    }
