"""Training of the judge on what the finder brings: nodules put into whole train scans, real crops, and its errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import Crop, Sampler, Scan, load_crops, open_sampler, turned
from finder import AVERAGE, PHANTOMS, Sources, save_weights
from torch import nn

from triage.detectors import _runtime
from triage.detectors._grid import Grid
from triage.detectors._nets3d import CandidateJudge, NoduleFinder
from triage.detectors.lung_nodule import LOOK, Place, find_places, look_at

ROOM = 4  # voxels a stored look is larger on each side, for shifts
SIDE = LOOK + 2 * ROOM
PER_SCAN = 24  # things drawn into one copy of a scan


def finder_network(work: Path, threads: int) -> _runtime.OpenVinoNetwork:
    """The trained finder as the product will run it."""
    import openvino

    module = _runtime.load_safetensors(NoduleFinder(), work / "finder.safetensors").eval()
    model = openvino.convert_model(
        module, example_input=torch.zeros(1, 1, 48, 48, 48), input=[([-1, 1, -1, -1, -1], openvino.Type.f32)]
    )
    openvino.save_model(model, work / "finder.xml")
    return _runtime.OpenVinoNetwork(work / "finder.xml", threads)


def crowded(sampler: Sampler, scan: Scan) -> tuple[Grid, list[tuple[Any, float]]]:
    """A copy of the scan with many things drawn into it, and the nodules (LPS mm, diameter) among them."""
    hu = np.ascontiguousarray(scan.grid.hu, dtype=np.float32)
    native = Grid(hu, scan.grid.affine)
    lung = scan.lungs.on(native).astype(np.float32)
    nodules, taken = list(scan.known), [p for p, _ in scan.known + scan.ignored]
    for _ in range(PER_SCAN):
        spot = scan.places[int(sampler.rng.integers(len(scan.places)))]
        if any(np.linalg.norm(spot - t) < 22 for t in taken):
            continue
        taken.append(spot)
        lesion = sampler._one(native, lung, spot, sampler.rng.random())
        if lesion is not None:
            nodules.append((native.to_lps(np.array([lesion.centre]))[0], lesion.diameter_mm))
    return native, nodules


def examples(native: Grid, nodules: list[Any], scan: Scan, places: list[Place]) -> Iterator[tuple[Any, int]]:
    """(look, label) of each place the finder named, and of each nodule it missed."""
    found: set[int] = set()
    for place in places:
        gaps = [np.linalg.norm(np.subtract(place.center_lps_mm, p)) for p, _ in nodules]
        hit = [i for i, g in enumerate(gaps) if g < max(nodules[i][1] / 2, 2.5)]
        near = any(g < nodules[i][1] / 2 + 6 for i, g in enumerate(gaps))
        unsure = any(np.linalg.norm(np.subtract(place.center_lps_mm, p)) < d / 2 + 3 for p, d in scan.ignored)
        if hit:
            found.update(hit)
            yield look_at(native, place.center_lps_mm, SIDE), 1
        elif not near and not unsure:
            yield look_at(native, place.center_lps_mm, SIDE), 0
    for i, (place_mm, _) in enumerate(nodules):
        if i not in found:
            yield look_at(native, tuple(place_mm), SIDE), 1


def crop_look(crop: Crop, rng: np.random.Generator) -> Any:
    """A real crop as the judge would see it in its scan."""
    affine = np.eye(4)
    affine[:3, 3] = -25.0
    shift = rng.uniform(-1.5, 1.5, 3)
    return look_at(Grid(crop.hu, affine), (shift[0], shift[1], shift[2]), SIDE)


def collect(sources: Sources, work: Path, *, minutes: float, threads: int, seed: int) -> None:
    """Writes work/looks.npz: looks as bytes, labels, and the scan of each (for a look at the unmarked ones)."""
    finder = finder_network(work, threads)
    sampler, hosts = open_sampler(sources.data, sources.luna16, PHANTOMS, seed + 100)
    scans = hosts.scans
    looks, labels, origins = [], [], []
    begin, turn = time.monotonic(), 0
    while time.monotonic() - begin < 60 * minutes:
        scan = scans[turn % len(scans)]
        native, nodules = crowded(sampler, scan)
        places = find_places(finder, native, scan.lungs, floor=-4.0)
        for look, label in examples(native, nodules, scan, places):
            looks.append((look * 255).astype(np.uint8))
            labels.append(label)
            origins.append(turn % len(scans))
        turn += 1
        hosts.turn()
        print(
            f"looks: round {turn} {scan.name} places {len(places)} nodules {len(nodules)} "
            f"positive {sum(labels)} of {len(labels)}",
            flush=True,
        )
    np.savez(work / "looks.npz", looks=np.stack(looks), labels=np.array(labels), origins=np.array(origins))


def train_judge(
    sources: Sources, work: Path, *, minutes: float, threads: int, seed: int, batch: int = 24
) -> None:
    """Trains the judge on work/looks.npz and the real crops for about `minutes`."""
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    stored = np.load(work / "looks.npz")
    looks, labels = stored["looks"], stored["labels"]
    crops = load_crops(sources.data, "train") if sources.data else []
    real = [(crop_look(c, rng) * 255).astype(np.uint8) for c in crops for _ in range(2)]
    if real:
        looks = np.concatenate([looks, np.stack(real)])
        labels = np.concatenate([labels, np.ones(len(real), labels.dtype)])
    yes, no = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    model, saved, peak = CandidateJudge(), work / "judge.safetensors", 1.5e-3
    if saved.exists():
        model.load_state_dict(load_file(str(saved)))
        peak = 7e-4
    model = model.to(memory_format=torch.channels_last_3d)
    kept = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE), use_buffers=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), peak, weight_decay=1e-3)
    begin, step, shown = time.monotonic(), 0, []
    while (share := (time.monotonic() - begin) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, step / 50) * max(0.01, 0.5 + 0.5 * np.cos(np.pi * share))
        picked = np.concatenate([rng.choice(yes, batch // 3), rng.choice(no, batch - batch // 3)])
        hu = torch.from_numpy(np.stack([_view(rng, looks[i]) for i in picked]))
        target = torch.from_numpy(labels[picked].astype(np.float32))
        model.train()
        values = hu.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16):
            logit = model(values)[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logit.float(), target * 0.96 + 0.02)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        kept.update_parameters(model)
        step += 1
        shown.append(loss.item())
        if step % 50 == 0:
            print(f"judge step {step} loss {np.mean(shown[-50:]):.3f} share {share:.2f}", flush=True)
            save_weights(kept.module, saved)
    save_weights(kept.module, saved)


def _view(rng: np.random.Generator, stored: Any) -> Any:
    """One stored look shifted by up to 3 mm, flipped, turned, with another gain and noise."""
    start = np.clip(np.rint(rng.normal(ROOM, 1.3, 3)), 1, 2 * ROOM - 1).astype(int)
    # The wider view moves by the same millimetres, rounded to its coarser voxels.
    wide = np.rint(ROOM + (start - ROOM) / 1.5).astype(int)
    near, around = (
        stored[k][tuple(slice(s, s + LOOK) for s in begin)] for k, begin in ((0, start), (1, wide))
    )
    near, around = turned(rng, near, around)
    both = np.stack([near, around]).astype(np.float32) / 255
    noise = rng.choice([0.0, 0.006, 0.015])
    return (both * rng.uniform(0.94, 1.06) + rng.normal(0, 0.01) + rng.normal(0, noise, both.shape)).astype(
        np.float32
    )
