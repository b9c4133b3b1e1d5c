"""Self-supervised pre-training of the finder's body: it restores spoilt blocks of real lung, with no mark and no insertion.

After Models Genesis (Zhou et al. 2019, arXiv 1908.06912): intensities bent, voxels shuffled within small cells, larger
cells hidden under noise; here also another dose, kernel and calibration (`views.as_scanned`). To fill a hidden cell the
network must know how vessels, bronchi and the pleura go on. The head that restores is thrown away.
"""

from __future__ import annotations

import time
from pathlib import Path

import finder
import torch
import views
from finder import PATCH, SAVE_S, Averaged
from producers import BLOCK, Producers
from torch import Tensor, nn

from triage.detectors._nets3d import STRIDE, NoduleFinder

POOL = {"cpu": 6000, "cuda": 24000}  # blocks kept: 1 and 4 GB
FIRST = 64  # blocks before the first step
AIR = 0.1  # scaled HU of lung, -860 HU
BEND = 0.4  # largest change of log exponent of the scaled HU
SHUFFLED, SHUFFLE_SIDE = 0.1, 4  # share of cells, voxels a side: 5 mm
HIDDEN, HIDE_SIDE = (0.1, 0.5), 8  # least and largest share of a block's cells; 10 mm


def restorer() -> NoduleFinder:
    """A finder whose head gives, for each cell of its output, the scaled HU of the STRIDE**3 voxels there."""
    net = NoduleFinder(finder.WIDTHS)
    net.head = nn.Conv3d(finder.WIDTHS[0], STRIDE**3, 1)
    nn.init.zeros_(net.head.weight)
    nn.init.constant_(net.head.bias, AIR)  # begin by saying lung: its first random answers are off by 1000 HU
    return net


def view(by: views.Generator, blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Stored blocks (n, side, side, side) of 8 bits in random poses: spoilt, and as a restorer should answer."""
    matrix, shift, _ = views.poses(by, len(blocks), (BLOCK - PATCH) // 2)
    hu = views.cut(blocks[:, None].float() * 6 - 1100, matrix, shift, PATCH)
    cells = PATCH // STRIDE
    whole = _split(views.scaled(hu), STRIDE).transpose(1, 2).reshape(-1, STRIDE**3, cells, cells, cells)
    return spoilt(by, views.as_scanned(by, hu)), whole


def spoilt(by: views.Generator, values: Tensor) -> Tensor:
    """Scaled HU (n, 1, side, side, side), 0 to 1, bent, shuffled and hidden here and there."""
    count, side = len(values), values.shape[-1]
    values = values ** views.uniform(by, -BEND, BEND, count, 1, 1, 1, 1).exp()
    parts = _split(values, SHUFFLE_SIDE)
    order = torch.rand(parts.shape, generator=by, device=by.device).argsort(-1)
    some = views.uniform(by, 0, 1, *parts.shape[:2], 1) < SHUFFLED
    values = _join(torch.where(some, parts.gather(-1, order), parts), side)
    cells = (side // HIDE_SIDE) ** 3
    gone = views.uniform(by, 0, 1, count, cells, 1) < views.uniform(by, *HIDDEN, count, 1, 1)
    where = _join(gone.expand(-1, -1, HIDE_SIDE**3), side)
    # Cells that always began where the network's coarsest voxels do would be told by that alone.
    moved = torch.randint(HIDE_SIDE, (3,), generator=by, device=by.device).tolist()
    noise = torch.rand(values.shape, generator=by, device=by.device)
    return torch.where(where.roll(moved, (2, 3, 4)), noise, values)


def _split(values: Tensor, size: int) -> Tensor:
    """(n, 1, side, side, side) as (n, cells, size**3)."""
    m = values.shape[-1] // size
    parts = values.reshape(-1, m, size, m, size, m, size).permute(0, 1, 3, 5, 2, 4, 6)
    return parts.reshape(len(values), m**3, size**3)


def _join(parts: Tensor, side: int) -> Tensor:
    """What `_split` took apart."""
    size = round(parts.shape[-1] ** (1 / 3))
    m = side // size
    whole = parts.reshape(-1, m, m, m, size, size, size).permute(0, 1, 4, 2, 5, 3, 6)
    return whole.reshape(-1, 1, side, side, side)


def pretrain(
    producers: Producers, saved: Path, *, minutes: float, device: str, seed: int, batch: int
) -> None:
    """Trains for about `minutes`, writes `saved` every 45 seconds and goes on from it."""
    torch.manual_seed(seed)
    example = torch.rand(batch, 1, PATCH, PATCH, PATCH, device=device)
    net = Averaged(restorer(), example, saved, (2e-3, 1.5e-3), 1e-4)
    by, pool, shown = torch.Generator(device).manual_seed(seed), views.Pool(POOL[device], device), []
    producers.want("lungs")
    while len(pool) < FIRST:
        _fill(pool, producers, 5)
    begin = stored = time.monotonic()
    while (share := (time.monotonic() - begin) / (60 * minutes)) < 1:
        _fill(pool, producers, 0)
        picked = torch.randint(len(pool), (batch,), generator=by, device=by.device)
        values, whole = view(by, pool.kept[0][picked])
        loss = nn.functional.mse_loss(net(values), whole)
        net.learn(loss, share, warm=100)
        shown.append(loss.detach())
        if net.step in (1, 20) or net.step % 100 == 0:
            off = 1400 * torch.stack(shown).mean().sqrt().item()
            print(
                f"pretrain step {net.step} drawn {pool.seen} off by {off:.0f} HU share {share:.2f}",
                flush=True,
            )
            shown = []
        if time.monotonic() - stored > SAVE_S:
            stored = time.monotonic()
            net.save()
    net.save()


def _fill(pool: views.Pool, producers: Producers, timeout_s: float) -> None:
    for kind, arrays in producers.take(timeout_s):
        if kind == "lungs":
            pool.add(*arrays)
