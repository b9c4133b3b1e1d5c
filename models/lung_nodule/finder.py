"""Training of the finder: a heat map of nodule centres over blocks that are drawn while it learns."""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from dataclasses import dataclass
from pathlib import Path
from queue import Full
from typing import Any

import numpy as np
import torch
from data import Sample, Scan, open_sampler, turned
from insertion import Lesion
from scipy import ndimage as ndi
from torch import Tensor, nn

from triage.detectors import _runtime
from triage.detectors._nets3d import STRIDE, NoduleFinder
from triage.detectors.lung_nodule import FINDER_STEP_MM, find_places, scaled

BLOCK, PATCH = 56, 48  # drawn blocks are larger, so that a random part of them is another view
POOL = 6000
DRAWS_A_SCAN = 40  # then one of the scans that take turns goes
DRAWS_A_LOOK = (
    120  # then the finder is asked about one scan as it is: what it names wrongly is shown more often
)
HARD_FLOOR, HARD_MOST = -4.0, 40  # logit and number of such places
AVERAGE = 0.998  # of the weights over the last 500 steps: what is kept
PHANTOMS = range(9000, 9005)  # seeds far from those of tests, demo and constancy check


@dataclass(frozen=True)
class Sources:
    """data: shared/data/ct;  luna16: a folder in that challenge's layout. At least one."""

    data: Path | None
    luna16: Path | None


def to_bytes(hu: Any) -> Any:
    """HU as 8 bits of 6 HU each: a fifth of the lung's noise, an eighth of the memory."""
    return np.clip((hu + 1100) / 6, 0, 255).astype(np.uint8)


def _produce(sources: Sources, weights: Path, seed: int, queue: Any) -> None:
    torch.set_num_threads(1)
    sampler, hosts = open_sampler(sources.data, sources.luna16, PHANTOMS, seed)
    drawn, parent = 0, os.getppid()
    while True:
        sample = sampler.draw(BLOCK, FINDER_STEP_MM)
        block = (to_bytes(sample.hu), sample.lesions, sample.ignored)
        while os.getppid() == parent:  # a trainer that was killed takes its producer along
            try:
                queue.put(block, timeout=5)
                break
            except Full:
                continue
        else:
            return
        drawn += 1
        if drawn % DRAWS_A_SCAN == 0:
            hosts.turn()
        if drawn % DRAWS_A_LOOK == 0 and weights.exists():
            scan = hosts.scans[drawn // DRAWS_A_LOOK % len(hosts.scans)]
            scan.hard = hard_places(weights, scan)


def hard_places(weights: Path, scan: Scan) -> Any:
    """(n, 3) LPS mm where the finder sees nodules on the scan as it is, away from all marks."""
    network = _runtime.TorchNetwork(_runtime.load_safetensors(NoduleFinder(), weights), "cpu", 1)
    marks = scan.known + scan.ignored
    places = [p.center_lps_mm for p in find_places(network, scan.grid, scan.lungs, HARD_FLOOR)]
    away = [p for p in places if all(np.linalg.norm(np.subtract(p, m)) > d / 2 + 5 for m, d in marks)]
    return np.array(away[:HARD_MOST], float).reshape(-1, 3)


def targets(sample: Sample, size: int) -> tuple[Any, Any, Any]:
    """(heat, regression, weight) of one patch at the finder's stride: (n,n,n), (4,n,n,n), (n,n,n).

    heat     1 at the cell of a centre, falling to 0 within the nodule's radius; -1 where nothing is said
    """
    n = size // STRIDE
    cells = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32)] * 3, indexing="ij"))
    heat, weight = np.zeros((n, n, n), np.float32), np.zeros((n, n, n), np.float32)
    regression = np.zeros((4, n, n, n), np.float32)
    for lesion in sample.ignored:
        centre = (np.array(lesion.centre, np.float32) - 0.5) / STRIDE
        radius = lesion.diameter_mm / 2 / FINDER_STEP_MM / STRIDE + 1.0
        away = ((cells - centre[:, None, None, None]) ** 2).sum(0)
        heat[away < radius**2] = -1
    for lesion in sample.lesions:
        centre = (np.array(lesion.centre, np.float32) - 0.5) / STRIDE
        offset = centre[:, None, None, None] - cells
        away = (offset**2).sum(0)
        sigma = max(0.8, lesion.diameter_mm / 6 / FINDER_STEP_MM / STRIDE)
        bump = np.exp(-away / (2 * sigma**2))
        bump[bump < 0.05] = 0
        nearest = away < max(1.0, (0.7 * sigma) ** 2)
        heat = np.where(heat < 0, np.where(bump > 0.3, bump, heat), np.maximum(heat, bump))
        if away.min() <= 1.0:
            heat[np.unravel_index(away.argmin(), away.shape)] = 1.0
        regression[:3, nearest] = offset[:, nearest]
        regression[3, nearest] = np.log(lesion.diameter_mm)
        weight[nearest] = 1.0
    return heat, regression, weight


def loss_of(output: Tensor, heat: Tensor, regression: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(focal loss of the heat map, smooth L1 of offset and log diameter). Focal: Zhou et al. 2019, arXiv 1904.07850."""
    logit = output[:, 0]
    p = torch.sigmoid(logit).clamp(1e-5, 1 - 1e-5)
    centre = (heat == 1).float()
    said = (heat >= 0).float()
    positive = -((1 - p) ** 2) * torch.log(p) * centre
    negative = -((1 - heat.clamp(0, 1)) ** 4) * p**2 * torch.log(1 - p) * said * (1 - centre)
    count = centre.sum().clamp(min=1.0)
    focal = (positive.sum() + negative.sum()) / count
    size = nn.functional.smooth_l1_loss(output[:, 1:], regression, reduction="none").sum(1)
    return focal, (size * weight).sum() / weight.sum().clamp(min=1.0)


def view(rng: np.random.Generator, stored: tuple[Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
    """A random part of a stored block, flipped and turned, with its targets."""
    raw, lesions, ignored = stored
    start = rng.integers(0, BLOCK - PATCH + 1, 3)
    hu = raw[tuple(slice(s, s + PATCH) for s in start)].astype(np.float32) * 6 - 1100
    sample = Sample(hu, _moved(lesions, start), _moved(ignored, start))
    heat, regression, weight = targets(sample, PATCH)
    seed = int(rng.integers(2**31))
    hu, heat, weight, cells = turned(
        np.random.default_rng(seed), hu, heat, weight, np.arange((PATCH // STRIDE) ** 3).reshape(heat.shape)
    )
    flat = regression.reshape(4, -1)[:, cells.ravel()].reshape(regression.shape)
    flat[:3] = _turn_vectors(np.random.default_rng(seed), flat[:3])
    kernel = rng.random()
    if kernel < 0.15:  # a softer reconstruction
        hu = ndi.gaussian_filter(hu, rng.uniform(0.3, 0.7))
    elif kernel < 0.35:  # a sharper one
        hu = hu + rng.uniform(0.2, 0.9) * (hu - ndi.gaussian_filter(hu, 0.8))
    hu = hu * rng.uniform(0.95, 1.05) + rng.normal(0, 15) + rng.normal(0, rng.choice([0, 0, 8, 25]), hu.shape)
    return scaled(hu.astype(np.float32)), heat, flat, weight


def _turn_vectors(rng: np.random.Generator, vectors: Any) -> Any:
    """Offsets under the flips and quarter turns that `turned` draws from the same seed."""
    flips, turns = rng.integers(0, 2, 3), int(rng.integers(4))
    z, y, x = (-v if flips[i] else v for i, v in enumerate(vectors))
    for _ in range(turns):
        y, x = -x, y  # rot90 in (row, column): what pointed along +column now points along -row
    return np.stack([z, y, x])


def _moved(lesions: Any, start: Any) -> Any:
    return tuple(
        Lesion(
            (le.centre[0] - start[0], le.centre[1] - start[1], le.centre[2] - start[2]),
            le.diameter_mm,
            le.texture,
        )
        for le in lesions
    )


def train_finder(
    sources: Sources, work: Path, *, minutes: float, threads: int, seed: int, batch: int = 8
) -> None:
    """Trains for about `minutes` and writes work/finder.safetensors every 100 steps; goes on from it."""
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    saved = work / "finder.safetensors"
    queue: Any = mp.get_context("spawn").Queue(maxsize=64)
    producer = mp.get_context("spawn").Process(
        target=_produce, args=(sources, saved, seed, queue), daemon=True
    )
    producer.start()
    model, peak = NoduleFinder(), 2e-3
    if saved.exists():
        model.load_state_dict(load_file(str(saved)))
        peak = 1.5e-3
    model = model.to(memory_format=torch.channels_last_3d)
    kept = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE), use_buffers=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), peak, weight_decay=1e-4)
    rng, pool = np.random.default_rng(seed), []
    for _ in range(150):
        pool.append(queue.get())
    begin, step, seen, shown = time.monotonic(), 0, 0, []
    while (share := (time.monotonic() - begin) / (60 * minutes)) < 1:
        if not queue.empty():
            pool.append(queue.get())
            seen += 1
        del pool[: max(0, len(pool) - POOL)]
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, step / 100) * max(0.02, 0.5 + 0.5 * np.cos(np.pi * share))
        views = [view(rng, pool[int(i)]) for i in rng.integers(len(pool), size=batch)]
        hu, heat, regression, weight = (torch.from_numpy(np.stack(v)) for v in zip(*views, strict=True))
        model.train()
        values = hu[:, None].contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast where the processor has it
            output = model(values)
        focal, size = loss_of(output.float(), heat, regression, weight)
        optimizer.zero_grad()
        (focal + 0.2 * size).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        kept.update_parameters(model)
        step += 1
        shown.append((focal.item(), size.item()))
        if step % 100 == 0:
            print(
                f"finder step {step} pool {len(pool)} drawn {seen} focal {np.mean([s[0] for s in shown[-100:]]):.3f} "
                f"size {np.mean([s[1] for s in shown[-100:]]):.3f} share {share:.2f}",
                flush=True,
            )
            save_weights(kept.module, saved)
    save_weights(kept.module, saved)
    producer.terminate()
    producer.join()


def save_weights(module: nn.Module, path: Path) -> None:
    """In one step: the producer may be reading it."""
    from safetensors.torch import save_file

    part = path.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, str(part))
    part.rename(path)
