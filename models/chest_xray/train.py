"""Train the film networks of chest_xray from scratch: one run, and a network from the end of each of its cycles.

    python -m models.chest_xray.train --work /tmp/cxr --phantoms /tmp/cxr-phantoms.npz --inserted /tmp/cxr-inserted.npz

One fold of train and validation is held out for calibration. A run is resumed from its last checkpoint when the
command is given again. The test part is never opened here; `release.py` joins the networks of the cycles,
calibrates them on the held-out fold and seals the folder.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from models.chest_xray.augment import augmented, plain
from models.chest_xray.boxes import load_boxes, stacked
from models.chest_xray.films import AUXILIARY, FINDINGS, SHARED, Films, balancing_weights, join, load_films
from models.chest_xray.insertion import load_inserted
from models.chest_xray.phantoms import load_phantoms
from models.chest_xray.projection import load_projected
from triage.detectors._film import SIDE
from triage.detectors._nets2d import FilmNet
from triage.domain.statistics import auc


@dataclass(frozen=True)
class Recipe:
    """Everything that the outcome depends on beside the films."""

    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    blocks: int = 2
    side: int = 192
    batch: int = 48
    steps: int = 250  # of one cycle
    cycles: int = 4  # the rate falls to nothing and starts again; what was learned stays
    rate: float = 2e-3
    decay: float = 0.05
    dropout: float = 0.3
    average: float = 0.997  # of the weights, per step
    balance: bool = True  # weight folder and view away
    auxiliary: float = 0.3  # weight of the losses of sex, age, view ...
    boxes: float = 0.0  # weight of the loss of the lung opacity map against radiologists' boxes
    seed: int = 1


# How often a film of each source is drawn, against one NIH film; phantoms end near a tenth of a batch.
SHARE = {"nih": 1.0, "nih64": 0.5, "guangzhou": 0.2, "hannover": 0.3, "phantom": 1.0, "inserted": 0.7,
         "projected": 0.7}  # fmt: skip

_NO_BOXES = torch.zeros((1, 0, SIDE, SIDE), dtype=torch.uint8)


class Learner(nn.Module):
    """The shipped network and, beside it, the heads that only teach."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.film = FilmNet(len(FINDINGS), recipe.widths, recipe.blocks, recipe.dropout)
        self.auxiliary = nn.Linear(recipe.widths[-1], len(AUXILIARY))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.film.trunk(x)
        logits, maps = self.film.pooled(features)
        return torch.cat([logits, self.auxiliary(features.mean((2, 3)))], dim=1), maps


def training_rows(films: Films, fold: int) -> NDArray[np.int64]:
    """Train and validation films whose patients lie outside the fold; never the test part."""
    return np.flatnonzero((films.split != "test") & (films.fold != fold))


def held_out_rows(films: Films, fold: int) -> NDArray[np.int64]:
    return np.flatnonzero((films.split != "test") & (films.fold == fold) & (films.source == "nih"))


def loss_of(logits: Tensor, labels: Tensor, weights: Tensor, auxiliary: float) -> Tensor:
    """Binary cross entropy over what is known; the auxiliary columns count for less."""
    known = ~labels.isnan()
    each = functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(0.5), reduction="none")
    weights = weights * known
    n = len(FINDINGS)
    main = (each * weights)[:, :n].sum() / weights[:, :n].sum().clamp(min=1)
    side = (each * weights)[:, n:].sum() / weights[:, n:].sum().clamp(min=1)
    return main + auxiliary * side


def box_loss(maps: Tensor, boxes: Tensor) -> Tensor:
    """Cross entropy of the cells of lung opacity's map against the share of each that lies in a box, where there is one."""
    boxed = boxes.flatten(1).amax(1) > 0
    if not boxed.any():
        return maps.sum() * 0.0
    share = functional.adaptive_avg_pool2d(boxes[boxed], maps.shape[-2:])[:, 0]
    return functional.binary_cross_entropy_with_logits(maps[boxed, FINDINGS.index("lung_opacity")], share)


def sampling_odds(films: Films) -> NDArray[np.float64]:
    """Films of each source by SHARE; those that carry a rare finding more often, up to three times."""
    odds = np.array([SHARE[s] for s in films.source])
    counts = np.nansum(films.labels[:, : len(FINDINGS)], axis=0)
    rare = np.sqrt(counts.max() / np.maximum(counts, 1))
    carried = np.nanmax(np.nan_to_num(films.labels[:, : len(FINDINGS)]) * rare, axis=1, initial=1.0)
    odds = odds * np.clip(carried, 1.0, 3.0)
    return odds / odds.sum()


def train(
    films: Films, fold: int, recipe: Recipe, work: Path, device: str,
    boxes: dict[str, NDArray[np.uint8]], start: Path | None = None,
) -> Path:  # fmt: skip
    """One network without `fold`; returns the folder that holds cycle1, cycle2 ... with weights and recipe.

    boxes  by film id, from `boxes.load_boxes`; start: the checkpoint.pt of a run to go on from, with a new schedule
    """
    out = work / f"fold{fold}"
    out.mkdir(parents=True, exist_ok=True)
    part, held_out = films.take(training_rows(films, fold)), films.take(held_out_rows(films, fold))
    weights = balancing_weights(part) if recipe.balance else np.ones_like(part.labels)
    torch.manual_seed(recipe.seed * 100 + fold)
    learner = Learner(recipe).to(device).to(memory_format=torch.channels_last)
    averaged = Learner(recipe).to(device).to(memory_format=torch.channels_last).eval()
    averaged.load_state_dict(learner.state_dict())
    optimiser = torch.optim.AdamW(learner.parameters(), recipe.rate, weight_decay=recipe.decay)
    if start:
        _resume(start, learner, averaged, optimiser)
    first = _resume(out / "checkpoint.pt", learner, averaged, optimiser)
    odds, began = sampling_odds(part), time.monotonic()
    for step in range(first, recipe.steps * recipe.cycles):
        _set_rate(optimiser, recipe, step)
        dice = np.random.default_rng(
            [recipe.seed, fold, step]
        )  # a resumed run draws what it would have drawn
        rows = dice.choice(len(part), recipe.batch, p=odds)
        torch_dice = torch.Generator().manual_seed(int(dice.integers(2**62)))
        rows = np.sort(rows)
        drawn = torch.from_numpy(stacked(boxes, [part.ids[i] for i in rows])) if recipe.boxes else _NO_BOXES
        batch, boxed = augmented(
            torch.from_numpy(part.squares[rows]),
            drawn.expand(recipe.batch, -1, -1, -1),
            recipe.side,
            torch_dice,
        )
        labels, weight = torch.from_numpy(part.labels[rows]), torch.from_numpy(weights[rows])
        learner.train()
        with torch.autocast(device, torch.bfloat16):
            logits, maps = learner(batch.to(device, memory_format=torch.channels_last))
        loss = loss_of(logits.float(), labels.to(device), weight.to(device), recipe.auxiliary)
        if recipe.boxes:
            loss = loss + recipe.boxes * box_loss(maps.float(), boxed.to(device))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 2.0)
        optimiser.step()
        _average(averaged, learner, min(recipe.average, (step + 1) / (step + 10)))
        if (step + 1) % 50 == 0:
            _checkpoint(out, learner, averaged, optimiser, step + 1)
        if (step + 1) % recipe.steps == 0:
            _keep_member(out, averaged, recipe, (step + 1) // recipe.steps)
            _report(fold, step + 1, recipe, loss.item(), evaluate(averaged, held_out, recipe, device), began)
    return out


def _keep_member(out: Path, averaged: Learner, recipe: Recipe, cycle: int) -> None:
    member = out / f"cycle{cycle}"
    member.mkdir(exist_ok=True)
    state = averaged.film.state_dict()
    halves = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}
    save_file(halves, member / "weights.safetensors")
    (member / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))


@torch.inference_mode()
def predicted(learner: nn.Module, films: Films, recipe: Recipe, device: str) -> NDArray[np.float32]:
    """(films, labels) logits, each the mean of the film and its mirror image."""
    learner.eval()
    logits = []
    for begin in range(0, len(films), 64):
        batch = plain(torch.from_numpy(films.squares[begin : begin + 64]), recipe.side).to(device)
        logits.append((learner(batch)[0] + learner(batch.flip(3))[0]).float().cpu().numpy() / 2)
    return np.concatenate(logits)


def evaluate(learner: nn.Module, films: Films, recipe: Recipe, device: str) -> dict[str, float]:
    """AUC of each finding with at least three positives among the held-out films."""
    logits = predicted(learner, films, recipe, device)
    areas = {}
    for column, name in enumerate(FINDINGS):
        known = ~np.isnan(films.labels[:, column])
        truth = films.labels[known, column] > 0.5
        if 3 <= truth.sum() < len(truth):
            areas[name] = auc(truth, logits[known, column]).value
    return areas


def _set_rate(optimiser: torch.optim.Optimizer, recipe: Recipe, step: int) -> None:
    warm = min(1.0, (step + 1) / 100)
    rate = recipe.rate * warm * (0.5 + 0.5 * math.cos(math.pi * (step % recipe.steps) / recipe.steps))
    for group in optimiser.param_groups:
        group["lr"] = rate


@torch.no_grad()
def _average(averaged: nn.Module, learner: nn.Module, keep: float) -> None:
    for slow, fast in zip(averaged.state_dict().values(), learner.state_dict().values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, 1 - keep)
        else:
            slow.copy_(fast)


def _checkpoint(out: Path, learner: nn.Module, averaged: nn.Module, optimiser: Any, step: int) -> None:
    state = {"learner": learner.state_dict(), "averaged": averaged.state_dict(),
             "optimiser": optimiser.state_dict(), "step": step}  # fmt: skip
    torch.save(state, out / "checkpoint.tmp")
    (out / "checkpoint.tmp").replace(out / "checkpoint.pt")


def _resume(checkpoint: Path, learner: nn.Module, averaged: nn.Module, optimiser: Any) -> int:
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=True)  # our own file; never unpickles code
    learner.load_state_dict(state["learner"])
    averaged.load_state_dict(state["averaged"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _report(fold: int, step: int, recipe: Recipe, loss: float, areas: dict[str, float], began: float) -> None:
    fourteen = np.mean([v for k, v in areas.items() if k not in ("lung_opacity", "abnormal")])
    print(
        f"fold {fold} step {step}/{recipe.steps * recipe.cycles} loss {loss:.3f} held-out mean AUC {fourteen:.3f} "
        f"({' '.join(f'{k[:6]} {v:.2f}' for k, v in areas.items())}) {time.monotonic() - began:.0f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument(
        "--work", type=Path, required=True, help="cache and checkpoints, outside the repository"
    )
    parser.add_argument("--phantoms", type=Path, help="films of models.chest_xray.phantoms for the mix")
    parser.add_argument("--inserted", type=Path, help="films of models.chest_xray.insertion for the mix")
    parser.add_argument("--projected", type=Path, help="films of models.chest_xray.projection for the mix")
    parser.add_argument("--start", type=Path, help="checkpoint.pt of a finished run to go on from")
    parser.add_argument("--fold", type=int, default=0, help="held out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="change the recipe")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    changes = dict(item.split("=", 1) for item in arguments.set)
    recipe = Recipe(**{k: json.loads(v) for k, v in changes.items()})
    recipe = Recipe(**{**asdict(recipe), "widths": tuple(recipe.widths)})
    films = load_films(arguments.data, arguments.work.parent / "cxr-cache")
    if arguments.inserted:
        films = join(films, load_inserted(films, arguments.inserted))
    if arguments.projected:
        films = join(films, load_projected(arguments.projected))
    if arguments.phantoms:
        films = join(films, load_phantoms(arguments.phantoms))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    boxes = load_boxes(arguments.data) if recipe.boxes else {}
    train(films, arguments.fold, recipe, arguments.work, device, boxes, arguments.start)


if __name__ == "__main__":
    main()
