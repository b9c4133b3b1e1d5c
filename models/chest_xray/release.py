"""Join trained networks into a release: calibrate on films that they did not learn from, convert, seal.

    python -m models.chest_xray.release --members /tmp/cxr/fold-1 --unseen /tmp/cxr/fold{0,1,2,3,4} \\
        --gate /tmp/cxr-gate --phantoms /tmp/cxr-pairs.npz --version 1.1.0

A member may have learned from every film of train and validation: then networks of the same recipe, one a fold,
answer for the films that they held out. The member has seen a quarter more than each of them, so its probabilities
are, if anything, too close to the middle.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from models.chest_xray.films import FINDINGS, SHARED, Films, load_films
from models.chest_xray.phantoms import load_phantoms
from models.chest_xray.train import read_recipe
from triage.detectors._film import resized
from triage.detectors._nets2d import build
from triage.detectors._runtime import OpenVinoNetwork, load_safetensors
from triage.detectors.calibration import (
    LIMITS,
    Calibration,
    Platt,
    fit_platt,
    operating_point,
    pushed,
    threshold_within_budget,
)
from triage.detectors.releases import seal_release
from triage.domain.finding import FINDING_CODES

# The constancy check lives from it and a missed one costs most: pushed although it is below its floor.
KEPT_BELOW_FLOOR = ("pneumothorax",)
# What the films of the set cannot teach or test; the number is of labelled positives.
NOT_COVERED = {"fracture": 2, "tuberculosis": 0, "pneumoperitoneum": 0, "pneumomediastinum": 0,
               "calcification": 0, "widened mediastinum": 0, "tubes and lines": 0}  # fmt: skip


def joined(members: list[Path]) -> tuple[nn.Module, dict[str, Any]]:
    """The ensemble of the member folders and its description for release.json."""
    description = read_recipe(members[0]).network() | {"members": len(members)}
    ensemble = build(description)
    for member, folder in zip(ensemble.members, members, strict=True):  # type: ignore[arg-type]
        load_safetensors(member, folder / "weights.safetensors")
    return ensemble.eval(), description


def unseen_answers(films: Films, folders: list[Path]) -> tuple[Films, NDArray[np.float32]]:
    """The films that the networks of these folders held out; the mean of the logits of those that held out the same."""
    answers: dict[str, list[NDArray[np.float32]]] = {}
    for folder in folders:
        with np.load(folder / "held_out.npz") as stored:
            for name, logits in zip(stored["ids"], stored["logits"], strict=True):
                answers.setdefault(str(name), []).append(logits)
    rows = [i for i, name in enumerate(films.ids) if name in answers]
    return films.take(np.array(rows)), np.array([np.mean(answers[films.ids[i]], axis=0) for i in rows])


@torch.inference_mode()
def answered(ensemble: nn.Module, films: Films, side: int) -> NDArray[np.float32]:
    """Logits (films, findings), the films prepared as inference does it."""
    logits = []
    for begin in range(0, len(films), 64):
        squares = films.squares[begin : begin + 64].astype(np.float32) / 255
        batch = np.stack([resized(square, side) for square in squares])[:, None]
        logits.append(ensemble(torch.from_numpy(batch))[0].numpy())
    return np.concatenate(logits)


def calibrated(
    films: Films, logits: NDArray[np.float32], phantoms: Films, of_phantoms: NDArray[np.float32]
) -> tuple[Calibration, dict[str, dict[str, float]]]:
    """Lines and operating points, with what each point gave on these same films.

    of_phantoms  (phantoms, findings) logits of phantoms with and without pneumothorax
    """
    lines: dict[str, Platt] = {}
    probabilities: dict[str, NDArray[np.float64]] = {}
    measured: dict[str, dict[str, float]] = {}
    for column, name in enumerate(FINDINGS):
        truth, values = _known(films, logits, column)
        lines[name] = fit_platt(truth, values)
        probabilities[name] = np.array([lines[name].probability(float(v)) for v in values])
        of_them = np.array([lines[name].probability(float(v)) for v in of_phantoms[:, column]])
        least = _between_phantoms(phantoms.labels[:, column], of_them)
        measured[name] = _at_budget(name, truth, probabilities[name], least)
    flagging = pushed(measured, KEPT_BELOW_FLOOR)
    points = {}
    for column, name in enumerate(FINDINGS):
        truth, _ = _known(films, logits, column)
        points[name] = operating_point(
            probabilities[name][truth], measured[name]["cut"] if name in flagging else None
        )
    return Calibration(lines, points), measured


def _between_phantoms(label: NDArray[np.float32], probability: NDArray[np.float64]) -> float:
    """No phantom without the finding may be flagged; where some have it, three quarters of the way from those to these.

    Below the floors of its class a flag on a real film is more often wrong than right, so a finding that is kept
    for the constancy check is cut as high as the check allows.
    """
    highest = float(probability[label != 1].max())
    if not (label == 1).any():
        return highest
    return highest + 0.75 * (float(probability[label == 1].min()) - highest)


def _known(
    films: Films, logits: NDArray[np.float32], column: int
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    known = ~np.isnan(films.labels[:, column])
    return films.labels[known, column] > 0.5, logits[known, column]


def _at_budget(
    name: str, truth: NDArray[np.bool_], probability: NDArray[np.float64], least: float
) -> dict[str, float]:
    """What the finding would give if its class's whole budget were its own; counts alone for those never pushed."""
    counts = {"positives": float(truth.sum()), "films": float(len(truth))}
    limits = LIMITS.get(FINDING_CODES[name].priority_class)
    if limits is None:
        return counts
    cut = max(threshold_within_budget(probability, limits.budget), float(np.nextafter(least, 2.0)))
    flagged = probability >= cut
    hits = float((flagged & truth).sum())
    return counts | {
        "budget": limits.budget, "cut": cut, "flagged": float(flagged.mean()),
        "sensitivity": hits / float(truth.sum()), "sensitivity_floor": limits.sensitivity,
        "ppv": hits / max(float(flagged.sum()), 1.0), "ppv_floor": limits.ppv,
    }  # fmt: skip


def converted(module: nn.Module, side: int, out: Path) -> None:
    """OpenVINO IR with fp16 weights for any batch of this side."""
    model = openvino.convert_model(module, example_input=torch.zeros(1, 1, side, side))
    model.reshape([-1, 1, side, side])
    openvino.save_model(model, out, compress_to_fp16=True)


def halved(module: nn.Module, out: Path) -> None:
    save_file({k: v.half() if v.is_floating_point() else v for k, v in module.state_dict().items()}, out)


def golden(folder: Path, side: int) -> None:
    """Fixed inputs made from a formula (no film leaves the house) and what this release answers to them."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    dice = np.random.default_rng(20)
    inputs = [
        np.clip(
            0.5
            + 0.4 * np.cos(2 * np.pi * (k + 1) * columns) * np.sin(np.pi * rows)
            + 0.05 * dice.normal(size=rows.shape),
            0,
            1,
        )
        for k in range(2)
    ]
    batch = np.stack(inputs).astype(np.float32)[:, None]
    np.savez_compressed(
        folder / "golden.npz", inputs=batch, logits=OpenVinoNetwork(folder / "model.xml", 2)(batch)[0]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/cxr-cache"), help="prepared films")
    parser.add_argument(
        "--members", type=Path, nargs="+", required=True, help="folders of `train`: what is joined"
    )
    parser.add_argument(
        "--unseen", type=Path, nargs="+", required=True, help="folders of networks with their held_out.npz"
    )
    parser.add_argument(
        "--phantoms", type=Path, required=True, help="pairs of seeds that were not trained on"
    )
    parser.add_argument(
        "--gate", type=Path, required=True, help="folder of gate.safetensors, gate.json, cuts.json"
    )
    parser.add_argument("--version", required=True)
    arguments = parser.parse_args()
    films = load_films(arguments.data, arguments.cache)
    ensemble, description = joined(arguments.members)
    part, logits = unseen_answers(films, arguments.unseen)
    phantoms = load_phantoms(arguments.phantoms)
    of_phantoms = answered(ensemble, phantoms, description["side"])
    calibration, measured = calibrated(part, logits, phantoms, of_phantoms)
    folder = Path(__file__).parent / arguments.version
    folder.mkdir(exist_ok=True)
    converted(ensemble, description["side"], folder / "model.xml")
    halved(ensemble, folder / "weights.safetensors")
    gate_description = json.loads((arguments.gate / "gate.json").read_text())
    gate = load_safetensors(build(gate_description), arguments.gate / "gate.safetensors").eval()
    converted(gate, gate_description["side"], folder / "gate.xml")
    shutil.copy(arguments.gate / "gate.safetensors", folder / "gate.safetensors")
    golden(folder, description["side"])
    for part_file in folder.iterdir():
        part_file.chmod(0o644)  # safetensors writes for its owner alone
    seal_release(folder, {
        "detector": "chest_xray", "version": arguments.version, "findings": list(FINDINGS),
        "network": description, "gate": gate_description | json.loads((arguments.gate / "cuts.json").read_text()),
        **calibration.as_release(), "operating_points": measured,
        "not_covered": sorted(NOT_COVERED), "labelled_positives_of_not_covered": NOT_COVERED,
    })  # fmt: skip
    (folder.parent / "ACTIVE").write_text(arguments.version + "\n")
    for name, row in measured.items():
        print(
            name,
            {k: round(v, 3) for k, v in row.items()},
            calibration.lines[name],
            calibration.points[name].actionable,
        )


if __name__ == "__main__":
    main()
