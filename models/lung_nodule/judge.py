"""Training of judges on what the finder brings: nodules put into whole train scans, real crops, and its errors.

Several judges with other beginnings learn side by side from the same looks; the release takes one or their mean.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import views
from data import Crop
from finder import SAVE_S, Averaged, Whole, memory_gb
from looks import ROOM, crop_look
from producers import Producers
from torch import Tensor, nn

from triage.detectors._nets3d import CandidateJudge
from triage.detectors.lung_nodule import AROUND_MM, LOOK, NEAR_MM

WIDTHS = (16, 48, 96)  # 1.1 times the processor time of (16, 32, 64), twice the weights
POOL = {"cpu": (3000, 9000), "cuda": (14000, 36000)}  # looks kept with and without a nodule, 128 kB each
FIRST = 12  # copies of scans before the first step
CROP_VIEWS = 6  # of each real crop: they are few, and the only real nodules
HARD_SHARE = 0.35  # of the looks without a nodule that are drawn by how wrong the judges were


def view(by: Any, looks: Tensor) -> Tensor:
    """Stored looks (n, 2, side, side, side) of 8 bits as the judge sees them, in random poses."""
    matrix, shift, _ = views.poses(by, len(looks), ROOM - 1)
    hu = looks.float() * (1400 / 255) - 1000
    # The wider view moves by the same millimetres, rounded to its coarser voxels where the nearer one is exact.
    wide = shift * (NEAR_MM / AROUND_MM)
    exact = (shift == shift.round()).all(1, keepdim=True)
    wide = torch.where(exact, wide.round(), wide)
    both = [views.cut(hu[:, k : k + 1], matrix, s, LOOK) for k, s in ((0, shift), (1, wide))]
    return views.as_scanned(by, torch.cat(both, 1))


class _Looks:
    """Looks with and without a nodule; of the latter how likely a judge last called each one."""

    def __init__(self, device: str, most: tuple[int, int]) -> None:
        self.yes, self.no = views.Pool(most[0], device), views.Pool(most[1], device)

    def add(self, looks: Any, labels: Any) -> None:
        self.yes.add(looks[labels == 1])
        without = looks[labels == 0]
        self.no.add(without, np.ones(len(without), np.float32))

    def draw(self, by: Any, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """(looks, labels, places in the pool of those without a nodule)."""
        count = batch // 3
        hard = round(HARD_SHARE * (batch - count))
        yes = torch.randint(len(self.yes), (count,), generator=by, device=by.device)
        some = torch.randint(len(self.no), (batch - count - hard,), generator=by, device=by.device)
        likely = self.no.kept[1][: len(self.no)] + 0.02
        no = torch.cat([some, torch.multinomial(likely, hard, True, generator=by)])
        labels = torch.zeros(batch, device=by.device)
        labels[:count] = 1
        return torch.cat([self.yes.kept[0][yes], self.no.kept[0][no]]), labels, no


def train_judges(
    producers: Producers,
    finder: Whole,
    crops: list[Crop],
    saved: list[Path],
    *,
    minutes: float,
    device: str,
    seed: int,
    batch: int,
    early: list[Any],
) -> None:
    """Trains one judge for each path of `saved` for about `minutes`, looks still coming; writes every 45 seconds.

    early  looks that the producers already sent
    """
    producers.want("looks")
    pool, rng, copies = _Looks(device, POOL[device]), np.random.default_rng(seed), 0
    real = [crop_look(c, rng) for c in crops for _ in range(CROP_VIEWS)]
    if real:
        pool.add(np.stack(real), np.ones(len(real), np.uint8))
    torch.manual_seed(seed)
    example = torch.rand(batch, 2, LOOK, LOOK, LOOK, device=device)
    nets = [Averaged(CandidateJudge(WIDTHS), example, path, (1.5e-3, 7e-4), 1e-3) for path in saved]
    by = torch.Generator(device).manual_seed(seed)
    begin, waiting, shown = time.monotonic(), list(early), []
    stored = begin
    while (share := (time.monotonic() - begin) / (60 * minutes)) < 1:
        producers.serve(finder)
        short = copies < FIRST or not len(pool.yes) or not len(pool.no)
        waiting += [arrays for kind, arrays in producers.take(0.05 if short else 0) if kind == "looks"]
        for arrays in waiting:
            pool.add(*arrays)
            copies += 1
        waiting = []
        if short:
            continue
        for net in nets:
            looks, labels, places = pool.draw(by, batch)
            logit = net(view(by, looks))[:, 0]
            loss = nn.functional.binary_cross_entropy_with_logits(logit, labels * 0.96 + 0.02)
            net.learn(loss, share, warm=50)
            pool.no.kept[1][places] = torch.sigmoid(logit.detach()[len(labels) - len(places) :])
            shown.append(loss.detach())
        if nets[0].step in (1, 20) or nets[0].step % 100 == 0:
            print(
                f"judge step {nets[0].step} loss {torch.stack(shown).mean().item():.3f} share {share:.2f} "
                f"copies {copies} looks {len(pool.yes)} and {len(pool.no)} memory {memory_gb(device):.1f} GB",
                flush=True,
            )
            shown = []
        if time.monotonic() - stored > SAVE_S:
            stored = time.monotonic()
            for net in nets:
                net.save()
    for net in nets:
        net.save()
