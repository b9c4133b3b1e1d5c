"""Stored blocks and looks as the networks see them while learning: another pose, another scanner. Runs on the device.

A pose is a matrix from output to stored voxels about their middles, axes (z, y, x), and a shift. Half of the poses
are exact (flips, quarter turns, whole voxels), so that the networks also see grain that nothing has smoothed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from triage.detectors._nets3d import STRIDE
from triage.detectors.lung_nodule import FINDER_STEP_MM

EXACT_SHARE = 0.5
TURN, STRETCH = 0.35, 0.13  # largest turn in radians and change of log size in the other poses
Generator = torch.Generator


def uniform(by: Generator, low: float, high: float, *shape: int) -> Tensor:
    return torch.rand(shape, generator=by, device=by.device) * (high - low) + low


def poses(by: Generator, count: int, reach: int) -> tuple[Tensor, Tensor, Tensor]:
    """(matrices (n, 3, 3), shifts (n, 3) of up to `reach` voxels, scales (n,): stored voxels per output voxel)."""
    device = by.device
    flips = torch.randint(0, 2, (count, 3), generator=by, device=device) * 2.0 - 1
    matrix = torch.diag_embed(flips)
    swap = torch.rand(count, generator=by, device=device) < 0.5
    matrix[swap] = matrix[swap][:, :, [0, 2, 1]]
    exact = torch.rand(count, generator=by, device=device) < EXACT_SHARE
    spin = nn.functional.normalize(torch.randn(count, 3, generator=by, device=device), dim=1)
    spin = spin * uniform(by, 0, TURN, count, 1) * ~exact[:, None]
    scale = torch.where(exact, 1.0, torch.exp(uniform(by, -STRETCH, STRETCH, count)))
    shift = uniform(by, -reach, reach, count, 3)
    shift = torch.where(exact[:, None], shift.round(), shift)
    return _rotations(spin) @ matrix * scale[:, None, None], shift, scale


def _rotations(spin: Tensor) -> Tensor:
    """Rotation matrices of axis times angle (n, 3), by Rodrigues' formula."""
    angle = spin.norm(dim=1).clamp(min=1e-9)[:, None, None]
    z, y, x = (spin / angle[:, :, 0]).unbind(1)
    none = torch.zeros_like(z)
    cross = torch.stack([none, -x, y, x, none, -z, -y, z, none], 1).reshape(-1, 3, 3)
    eye = torch.eye(3, device=spin.device)
    return eye + torch.sin(angle) * cross + (1 - torch.cos(angle)) * cross @ cross


def cut(stored: Tensor, matrix: Tensor, shift: Tensor, size: int) -> Tensor:
    """(n, c, side, side, side) in these poses as (n, c, size, size, size), border repeated."""
    side = stored.shape[-1]
    axis = torch.arange(size, device=stored.device, dtype=torch.float32) - (size - 1) / 2
    out = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    source = out @ matrix.transpose(1, 2) + shift[:, None]
    where = (source * 2 / (side - 1)).flip(-1).reshape(-1, size, size, size, 3)
    return nn.functional.grid_sample(stored, where, padding_mode="border", align_corners=True)


def moved(marks: Tensor, matrix: Tensor, shift: Tensor, scale: Tensor, side: int, size: int) -> Tensor:
    """Marks (n, m, 5: z, y, x in voxels, diameter in mm, kind) of a stored block as they lie in its view."""
    away = marks[:, :, :3] - (side - 1) / 2 - shift[:, None]
    back = away @ matrix / scale[:, None, None] ** 2  # the inverse of scale times a rotation
    return torch.cat([back + (size - 1) / 2, marks[:, :, 3:4] / scale[:, None, None], marks[:, :, 4:]], 2)


def as_scanned(by: Generator, hu: Tensor) -> Tensor:
    """HU (n, c, z, y, x) of another dose, kernel and calibration, as the networks read it."""
    count = hu.shape[0]
    kind = torch.rand(count, generator=by, device=by.device)
    soft, sharp = uniform(by, -0.9, -0.3, count), uniform(by, 0.2, 0.9, count)
    edge = torch.where(kind < 0.15, soft, torch.where(kind < 0.35, sharp, 0.0))
    gain, level = uniform(by, 0.95, 1.05, count), uniform(by, -25, 25, count)
    steps = torch.tensor([0.0, 0.0, 8.0, 25.0], device=by.device)
    noise = steps[torch.randint(0, 4, (count,), generator=by, device=by.device)]
    edge, gain, level, noise = (v.reshape(-1, 1, 1, 1, 1) for v in (edge, gain, level, noise))
    hu = (hu + edge * (hu - _smooth(hu))) * gain + level
    hu = hu + noise * torch.randn(hu.shape, generator=by, device=by.device)
    return scaled(hu)


def scaled(hu: Tensor) -> Tensor:
    """As `lung_nodule.scaled`."""
    return ((hu + 1000) / 1400).clamp(0, 1)


def _smooth(hu: Tensor) -> Tensor:
    """By a Gaussian of 0.8 voxels."""
    tap = torch.exp(-((torch.arange(5, device=hu.device) - 2.0) ** 2) / (2 * 0.8**2))
    tap = tap / tap.sum()
    for axis, ends in ((2, (0, 0, 0, 0, 2, 2)), (3, (0, 0, 2, 2, 0, 0)), (4, (2, 2, 0, 0, 0, 0))):
        padded = nn.functional.pad(hu, ends, mode="replicate")
        hu = sum(tap[k] * padded.narrow(axis, k, hu.shape[axis]) for k in range(5))
    return hu


def targets(marks: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """(heat (b, n, n, n), regression (b, 4, n, n, n), weight (b, n, n, n)) at the finder's stride.

    marks    (b, m, 5): z, y, x in voxels of the view, diameter in mm, kind 1 (lesion), -1 (ignored), 0 (none)
    heat     1 at the cell of a centre, falling to 0 within the nodule's radius; -1 where nothing is said
    """
    n, per_cell = size // STRIDE, FINDER_STEP_MM * STRIDE
    axis = torch.arange(n, device=marks.device, dtype=torch.float32)
    cells = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    centre = (marks[:, :, :3] - 0.5) / STRIDE
    offset = centre[:, :, :, None, None, None] - cells  # b, m, 3, n, n, n
    away = (offset**2).sum(2)
    diameter, kind = (marks[:, :, k, None, None, None] for k in (3, 4))
    sigma = (diameter / 6 / per_cell).clamp(min=0.8)
    bump = torch.exp(-away / (2 * sigma**2)) * (kind > 0)
    heat = torch.where(bump < 0.05, 0.0, bump).amax(1)
    unsaid = ((away < (diameter / 2 / per_cell + 1) ** 2) & (kind < 0)).any(1)
    heat = torch.where(unsaid & (heat <= 0.3), -1.0, heat)
    least, cell = torch.where(kind > 0, away, torch.inf).flatten(2).min(2)
    sure = torch.where(least <= 1.0, 1.0, -1.0)
    heat = heat.flatten(1).scatter_reduce(1, cell, sure, "amax").reshape(heat.shape)
    near = torch.where((away < (0.7 * sigma).clamp(min=1.0) ** 2) & (kind > 0), away, torch.inf)
    closest, which = near.min(1)
    weight = torch.isfinite(closest).float()
    pick = which[:, None, None].expand(-1, 1, 3, -1, -1, -1)
    to_centre = offset.gather(1, pick)[:, 0]
    size_mm = marks[:, :, 3].clamp(min=1.0).log()[:, :, None, None, None].expand_as(away)
    log_mm = size_mm.gather(1, which[:, None])
    return heat, torch.cat([to_centre, log_mm], 1) * weight[:, None], weight


class Pool:
    """The newest `most` samples on the device, each a tuple of arrays; older ones are overwritten."""

    def __init__(self, most: int, device: Any) -> None:
        self.most, self.device = most, device
        self.kept: list[Tensor] = []
        self.seen = 0

    def __len__(self) -> int:
        return min(self.seen, self.most)

    def add(self, *arrays: Any) -> None:
        """Each (n, ...), of the same n, dtype and shape as those before."""
        new = [torch.from_numpy(a) for a in arrays]
        if not self.kept:
            self.kept = [
                torch.zeros((self.most, *a.shape[1:]), dtype=a.dtype, device=self.device) for a in new
            ]
        where = (torch.arange(len(new[0])) + self.seen) % self.most
        for kept, a in zip(self.kept, new, strict=True):
            kept[where.to(self.device)] = a.to(self.device)
        self.seen += len(new[0])
