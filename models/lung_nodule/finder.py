"""Training of the finder: a heat map of nodule centres over blocks that are drawn while it learns."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import views
from producers import BLOCK, Producers
from torch import Tensor, nn

from triage.detectors._nets3d import NoduleFinder

WIDTHS = (16, 48, 96)  # 1.4 times the processor time of (16, 32, 64) over whole lungs, twice the weights
PATCH = 48  # voxels that the finder sees of a block
POOL = {"cpu": 6000, "cuda": 24000}  # blocks kept: 1 and 4 GB
FIRST = 150  # blocks before the first step
SETTLED = 300  # steps after which its errors on whole scans mean something
LOOKS_FROM = 0.85  # of its time: then the producers go over to what the judge will need
AVERAGE = 0.998  # of the weights over the last 500 steps, at first over fewer: what is kept
SAVE_S = 45.0


class Averaged:
    """A module in training and the running mean of its weights, which is what gets saved and asked."""

    def __init__(
        self,
        model: nn.Module,
        example: Tensor,
        saved: Path,
        peaks: tuple[float, float],
        decay: float,
    ) -> None:
        """example: an input on the device; peaks: largest learning rate from nothing, and from weights in `saved`."""
        from safetensors.torch import load_file

        self.saved, self.peak, self.device = saved, peaks[0], example.device.type
        self.layout = fastest_layout(model, example)
        if saved.exists():
            model.load_state_dict(load_file(str(saved)))
            self.peak = peaks[1]
        self.model = model.to(example.device, memory_format=self.layout)
        self.kept = torch.optim.swa_utils.AveragedModel(
            self.model, multi_avg_fn=self._average, use_buffers=True
        )
        self.kept.module.eval()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), self.peak, weight_decay=decay)
        self.step = 0

    def __call__(self, values: Tensor) -> Tensor:
        """Output in training, float32; bfloat16 inside, twice as fast where the processor has it."""
        self.model.train()
        with torch.autocast(self.device, torch.bfloat16):
            out: Tensor = self.model(values.contiguous(memory_format=self.layout))
        return out.float()

    def learn(self, loss: Tensor, share: float, warm: int) -> None:
        """One step; share: of the training's time that has gone."""
        rate = self.peak * min(1.0, self.step / warm) * max(0.01, 0.5 + 0.5 * np.cos(np.pi * share))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.kept.update_parameters(self.model)
        self.step += 1

    def _average(self, kept: Any, new: Any, _: Any) -> None:
        """Moves `kept` towards `new`: by a long memory only once there is something worth remembering.

        With AVERAGE from the first step on, a run of 250 steps would keep its random beginning to six tenths.
        """
        decay = min(AVERAGE, (1 + self.step) / (10 + self.step))
        torch.optim.swa_utils.get_ema_multi_avg_fn(decay)(kept, new, None)

    def save(self) -> None:
        """In one step: another process may be reading it."""
        from safetensors.torch import save_file

        part = self.saved.with_suffix(".part")
        state = self.kept.module.state_dict()
        save_file({k: v.cpu().contiguous() for k, v in state.items()}, str(part))
        part.rename(self.saved)


def fastest_layout(model: nn.Module, example: Tensor) -> torch.memory_format:
    """How to lay voxels out; on a GPU it depends on card and library, so both ways are tried."""
    if example.device.type == "cpu":
        return torch.channels_last_3d
    took = {}
    for layout in (torch.channels_last_3d, torch.contiguous_format):
        trial = copy.deepcopy(model).to(example.device, memory_format=layout)
        values = example.contiguous(memory_format=layout)
        for k in range(8):
            if k == 3:
                torch.cuda.synchronize()
                begin = time.monotonic()
            with torch.autocast("cuda", torch.bfloat16):
                trial(values).float().square().mean().backward()
        torch.cuda.synchronize()
        took[layout] = time.monotonic() - begin
    print(f"{type(model).__name__} of {tuple(example.shape)}: {took} for 5 passes", flush=True)
    return min(took, key=lambda layout: took[layout])


class Whole:
    """A finder over whole lungs between the steps of its training: (1, 1, z, y, x) of 16 bits in and out."""

    def __init__(self, module: nn.Module, device: str) -> None:
        self.module, self.device = module, device

    def __call__(self, batch: Any) -> Any:
        values = torch.from_numpy(batch).to(self.device).float()
        # Every chest has another size: trying all algorithms for each would take longer than using one.
        tried, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
        with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16):
            out = self.module(values).half().cpu().numpy()
        torch.backends.cudnn.benchmark = tried
        return out


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


def view(by: Any, blocks: Tensor, marks: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Stored blocks (n, side, side, side) of 8 bits in random poses, scaled, with their targets."""
    matrix, shift, scale = views.poses(by, len(blocks), (BLOCK - PATCH) // 2)
    hu = views.cut(blocks[:, None].float() * 6 - 1100, matrix, shift, PATCH)
    there = views.moved(marks, matrix, shift, scale, BLOCK, PATCH)
    return views.as_scanned(by, hu), *views.targets(there, PATCH)


def new_finder(pretrained: Path) -> NoduleFinder:
    """A finder that knows no nodule; its body, never its head, from a restorer's weights if the file is there."""
    from safetensors.torch import load_file

    net = NoduleFinder(WIDTHS)
    if pretrained.exists():
        head = {f"head.{k}": v for k, v in net.head.state_dict().items()}
        net.load_state_dict(load_file(str(pretrained)) | head)
    return net


def train_finder(
    producers: Producers,
    saved: Path,
    pretrained: Path,
    *,
    minutes: float,
    device: str,
    seed: int,
    batch: int,
) -> tuple[Whole, list[Any]]:
    """Trains for about `minutes`, writes `saved` every 45 seconds and goes on from it.

    pretrained  a restorer's weights (`pretrain`), which a new finder's body begins with if the file is there
    returns  the finder, and the looks that came before its end
    """
    torch.manual_seed(seed)
    begun = saved.exists()
    example = torch.rand(batch, 1, PATCH, PATCH, PATCH, device=device)
    net = Averaged(new_finder(pretrained), example, saved, (2e-3, 1.5e-3), 1e-4)
    finder = Whole(net.kept.module, device)
    by = torch.Generator(device).manual_seed(seed)
    blocks, early, shown = views.Pool(POOL[device], device), [], []
    producers.want("blocks")
    while len(blocks) < FIRST:
        for kind, arrays in producers.take(5):
            if kind == "blocks":
                blocks.add(*arrays)
    begin = stored = time.monotonic()
    while (share := (time.monotonic() - begin) / (60 * minutes)) < 1:
        for kind, arrays in producers.take():
            if kind == "blocks":
                blocks.add(*arrays)
            elif kind == "looks":
                early.append(arrays)
        if begun or net.step == SETTLED:
            producers.ready.value = 1
        if share > LOOKS_FROM:
            producers.want("looks")
        producers.serve(finder)
        picked = torch.randint(len(blocks), (batch,), generator=by, device=by.device)
        values, *wanted = view(by, *(k[picked] for k in blocks.kept))
        focal, size = loss_of(net(values), *wanted)
        net.learn(focal + 0.2 * size, share, warm=100)
        shown.append(torch.stack([focal.detach(), size.detach()]))
        if net.step in (1, 20) or net.step % 100 == 0:
            losses = torch.stack(shown[-100:]).mean(0).tolist()
            shown = []
            print(
                f"finder step {net.step} drawn {blocks.seen} focal {losses[0]:.3f} size {losses[1]:.3f} "
                f"share {share:.2f} producers {producers.alive()} memory {memory_gb(device):.1f} GB",
                flush=True,
            )
        if time.monotonic() - stored > SAVE_S:
            stored = time.monotonic()
            net.save()
    net.save()
    return finder, early


def memory_gb(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
