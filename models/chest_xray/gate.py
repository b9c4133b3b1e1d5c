"""Train the suitability gate: what picture is this, how is it turned, are its greys inverted?

    python -m models.chest_xray.gate --work /tmp/cxr

Frontal adult films come from the film set (train part), everything else from the gate set (train part); turned,
inverted, cut and joined pictures are made from them on the way. All pass one preparation and many disturbances,
since size, sharpness, rims and contrast alone would betray the classes here (README of the gate set, trap 2).
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional

from models.chest_xray.augment import disturbed
from models.chest_xray.films import SHARED, load_films
from triage.detectors._film import SIDE, prepare, resized
from triage.detectors._nets2d import GateNet
from triage.detectors.suitability import KINDS, TURNS

NETWORK = {"outputs": len(KINDS) + len(TURNS) + 2, "widths": [16, 32, 64, 128], "blocks": 1, "side": 96}
KIND_OF = {
    "frontal_adult_chest": "frontal", "lateral_chest": "lateral", "paediatric_chest": "child",
    "other_radiograph": "other_radiograph", "mammogram": "other_radiograph", "ct": "other_modality",
    "mri": "other_modality", "ultrasound": "other_modality", "photograph": "not_medical",
    "document_or_screen": "not_medical", "test_pattern": "not_medical", "collage": "collage",
    "blank_or_saturated": "blank",
}  # fmt: skip
# Parts of a batch; half of it frontal films, since wrongly refusing one is what costs most.
PART = {"frontal": 0.42, "lateral": 0.08, "child": 0.1, "cropped": 0.08, "other_radiograph": 0.1,
        "other_modality": 0.08, "not_medical": 0.08, "collage": 0.04, "blank": 0.02}  # fmt: skip
_TURNED, _INVERTED = 0.3, 0.25  # parts of the frontal films


def gate_images(folder: Path, split: str) -> list[tuple[str, str, NDArray[np.float32]]]:
    """(class, source, grey picture in [0, 1]) of one split of the gate set."""
    with (folder / "index.csv").open(newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r["split"] == split]
    return [
        (r["class"], r["source"], np.asarray(Image.open(folder / r["file"]).convert("L"), np.float32) / 255)
        for r in rows
    ]


def _pools(
    films_folder: Path, gate_folder: Path, cache: Path, phantoms: Path | None
) -> dict[str, NDArray[np.uint8]]:
    """Prepared pictures by kind, (n, SIDE, SIDE) uint8."""
    films = load_films(films_folder, cache)
    pools: dict[str, list[NDArray[np.uint8]]] = {kind: [] for kind in KINDS}
    for kind, _, grey in gate_images(gate_folder, "train"):
        if kind in KIND_OF:
            pools[KIND_OF[kind]].append(np.rint(prepare(grey).square * 255).astype(np.uint8))
    adult = np.isin(films.source, ["nih", "nih64", "hannover"]) & (films.split == "train")
    pools["frontal"] += list(films.squares[adult])
    if phantoms is not None:
        pools["frontal"] += list(np.load(phantoms)["squares"])
    pools["child"] += list(films.squares[(films.source == "guangzhou") & (films.split == "train")])
    return {kind: np.stack(pool) for kind, pool in pools.items() if pool}


def _picture(
    kind: str, pools: dict[str, NDArray[np.uint8]], dice: np.random.Generator
) -> tuple[NDArray[np.uint8], int, int]:
    """One picture of a kind with the quarter turns that put it right and its polarity."""
    if kind == "cropped":
        return _cropped(_one(pools["frontal"], dice), dice), 0, 0
    if kind == "collage" and dice.random() < 0.7:
        return _collage(pools["frontal"], dice), 0, 0
    if kind == "blank" and dice.random() < 0.7:
        return _blank(pools["frontal"], dice), 0, 0
    picture, turns, inverted = _one(pools[kind], dice), 0, 0
    if kind == "frontal":
        if dice.random() < _TURNED:
            turns = int(dice.integers(1, 4))
            picture = np.rot90(picture, -turns)
        if dice.random() < _INVERTED:
            picture, inverted = 255 - picture, 1
    return picture, turns, inverted


def _one(pool: NDArray[np.uint8], dice: np.random.Generator) -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = pool[dice.integers(len(pool))]
    return picture


def _again(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Through the preparation once more, as a received picture would go."""
    return np.rint(prepare(picture.astype(np.float32) / 255).square * 255).astype(np.uint8)


def _cropped(film: NDArray[np.uint8], dice: np.random.Generator) -> NDArray[np.uint8]:
    height, width = (int(SIDE * dice.uniform(0.3, 0.55)) for _ in range(2))
    top, left = int(dice.integers(0, SIDE - height)), int(dice.integers(0, SIDE - width))
    return _again(film[top : top + height, left : left + width])


def _collage(pool: NDArray[np.uint8], dice: np.random.Generator) -> NDArray[np.uint8]:
    rows, columns = ((1, 2), (2, 1), (2, 2), (1, 3))[dice.integers(4)]
    gap = np.full((SIDE, 6), dice.integers(256), np.uint8)
    lines = [
        np.concatenate([np.concatenate([_one(pool, dice), gap], 1) for _ in range(columns)], 1)
        for _ in range(rows)
    ]
    return _again(np.concatenate(lines))


def _blank(pool: NDArray[np.uint8], dice: np.random.Generator) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    way = dice.integers(4)
    if way == 0:
        page = dice.normal(size=(SIDE, SIDE)) * 40 + 128
    elif way == 1:
        page = 255 * (
            rows * dice.uniform(-1, 1) + columns * dice.uniform(-1, 1) + dice.normal(size=rows.shape) * 0.02
        )
    elif way == 2:  # an open field between collimator blades
        page = 20.0 + 200 * (
            (abs(rows - 0.5) < dice.uniform(0.2, 0.45)) & (abs(columns - 0.5) < dice.uniform(0.2, 0.45))
        )
        page += dice.normal(size=page.shape) * 4
    else:  # driven to black or white: nothing but the strongest contours is left
        film = _one(pool, dice).astype(float)
        page = np.clip((film - dice.choice([225, 30])) * 12 + 128, 0, 255)
    return _again(np.clip(page, 0, 255).astype(np.float32))


def train(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(7)
    pools = _pools(
        arguments.data,
        arguments.data.parent / "gate",
        arguments.work.parent / "cxr-cache",
        arguments.phantoms,
    )
    print({kind: len(pool) for kind, pool in pools.items()}, flush=True)
    net = GateNet(NETWORK["outputs"], tuple(NETWORK["widths"]), NETWORK["blocks"], dropout=0.2)
    slow = GateNet(NETWORK["outputs"], tuple(NETWORK["widths"]), NETWORK["blocks"]).eval()
    slow.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, arguments.steps)
    kinds, odds, began = list(PART), np.array(list(PART.values())), time.monotonic()
    for step in range(arguments.steps):
        dice = np.random.default_rng([7, step])
        drawn = dice.choice(len(kinds), 64, p=odds / odds.sum())
        pictures, turns, polarity = zip(*(_picture(kinds[k], pools, dice) for k in drawn), strict=True)
        torch_dice = torch.Generator().manual_seed(step)
        batch = disturbed(torch.from_numpy(np.stack(pictures)), NETWORK["side"], torch_dice)
        logits = net.train()(batch)
        loss = gate_loss(
            logits,
            torch.tensor([KINDS.index(kinds[k]) for k in drawn]),
            torch.tensor(turns),
            torch.tensor(polarity),
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for a, b in zip(slow.state_dict().values(), net.state_dict().values(), strict=True):
                a.lerp_(b, 1 - min(0.995, (step + 1) / (step + 10))) if a.is_floating_point() else a.copy_(b)
        if (step + 1) % 200 == 0:
            print(
                f"gate step {step + 1}/{arguments.steps} loss {loss.item():.3f} {time.monotonic() - began:.0f} s",
                flush=True,
            )
    arguments.work.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: v.half() if v.is_floating_point() else v for k, v in slow.state_dict().items()},
        arguments.work / "gate.safetensors",
    )
    (arguments.work / "gate.json").write_text(json.dumps(NETWORK))
    found = cuts(slow, arguments.data, arguments.work.parent / "cxr-cache")
    (arguments.work / "cuts.json").write_text(json.dumps(found))
    print("gate cuts", found, flush=True)


def gate_loss(
    logits: torch.Tensor, kind: torch.Tensor, turns: torch.Tensor, polarity: torch.Tensor
) -> torch.Tensor:
    """Turn and polarity are asked of frontal films alone."""
    of_kind, of_turn, of_polarity = logits.split([len(KINDS), len(TURNS), 2], dim=1)
    frontal = kind == 0
    loss = functional.cross_entropy(of_kind, kind, label_smoothing=0.02)
    if frontal.any():
        loss = loss + functional.cross_entropy(of_turn[frontal], turns[frontal])
        loss = loss + functional.cross_entropy(of_polarity[frontal], polarity[frontal])
    return loss


@torch.inference_mode()
def cuts(net: torch.nn.Module, films_folder: Path, cache: Path) -> dict[str, float]:
    """`accept`: the probability of "frontal" that 99.5 % of the validation films reach; `sure`: to turn or invert."""
    films = load_films(films_folder, cache)
    squares = films.squares[(films.source == "nih") & (films.split == "val")]
    side = NETWORK["side"]
    batch = np.stack([resized(s.astype(np.float32) / 255, side) for s in squares])[:, None]
    frontal = torch.softmax(net(torch.from_numpy(batch))[:, : len(KINDS)], 1)[:, 0].numpy()
    return {"accept": float(np.clip(np.quantile(frontal, 0.005), 0.1, 0.6)), "sure": 0.6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--phantoms", type=Path, help="films of models.chest_xray.phantoms")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
