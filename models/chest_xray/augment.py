"""What is done to films on the way into training, all of it on whole batches in torch.

Each step removes a way to cheat or a difference between hospitals: place and size of the thorax, squashing,
exposure, edge filters, markers, and the resolution by which the 64-pixel films would give themselves away.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_TURN, _SCALE, _STRETCH, _SHIFT = math.radians(8), 0.13, 0.10, 0.06
_LOW_RESOLUTION = 0.2  # part of the batch that goes through 64 pixels


def augmented(squares: Tensor, side: int, dice: torch.Generator) -> Tensor:
    """Films as training sees them, on the device of the dice.

    squares  (batch, SIDE, SIDE) uint8
    returns  (batch, 1, side, side) float32 in about [0, 1]
    """
    films = _moved(squares[:, None].float() / 255, side, dice)
    return _covered(_exposed(_through_64_pixels(films, dice), dice), dice)


def disturbed(squares: Tensor, side: int, dice: torch.Generator) -> Tensor:
    """For the gate: the same without mirroring and with more blur, since its pictures come from many sources."""
    films = functional.avg_pool2d(squares[:, None].float() / 255, 2)
    films = _moved(films, side, dice, mirrored=0.0)
    chosen = _uniform(len(films), 0, 1, dice) < 0.5
    if chosen.any():
        coarse = int(_uniform(1, side // 2, side, dice))
        small = functional.adaptive_avg_pool2d(films[chosen], coarse)
        films[chosen] = functional.interpolate(small, size=side, mode="bilinear", align_corners=False)
    return _covered(_exposed(films, dice), dice)


def plain(squares: Tensor, side: int) -> Tensor:
    """The same films as inference sees them: area average, nothing else."""
    films = squares[:, None].float() / 255
    return films if films.shape[-1] == side else functional.adaptive_avg_pool2d(films, side)


def _uniform(n: int, low: float, high: float, dice: torch.Generator) -> Tensor:
    return torch.rand(n, generator=dice, device=dice.device) * (high - low) + low


def _moved(films: Tensor, side: int, dice: torch.Generator, *, mirrored: float = 0.5) -> Tensor:
    n = len(films)
    turn = _uniform(n, -_TURN, _TURN, dice)
    scale = 1 + _uniform(n, -_SCALE, _SCALE, dice)
    stretch = 1 + _uniform(n, -_STRETCH, _STRETCH, dice)
    mirror = 1.0 - 2.0 * (_uniform(n, 0, 1, dice) < mirrored)
    matrix = torch.zeros(n, 2, 3, device=dice.device)
    matrix[:, 0, 0] = mirror * scale * stretch * turn.cos()
    matrix[:, 0, 1] = -scale * turn.sin()
    matrix[:, 1, 0] = mirror * scale * turn.sin()
    matrix[:, 1, 1] = scale / stretch * turn.cos()
    matrix[:, :, 2] = _uniform(n * 2, -2 * _SHIFT, 2 * _SHIFT, dice).view(n, 2)
    grid = functional.affine_grid(matrix, [n, films.shape[1], side, side], align_corners=False)
    return functional.grid_sample(films, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _through_64_pixels(films: Tensor, dice: torch.Generator) -> Tensor:
    chosen = _uniform(len(films), 0, 1, dice) < _LOW_RESOLUTION
    if chosen.any():
        small = functional.adaptive_avg_pool2d(films[chosen], 64)
        films[chosen] = functional.interpolate(
            small, size=films.shape[-2:], mode="bilinear", align_corners=False
        )
    return films


def _exposed(films: Tensor, dice: torch.Generator) -> Tensor:
    n = len(films)
    gamma = _uniform(n, -0.35, 0.35, dice).exp().view(n, 1, 1, 1)
    contrast = _uniform(n, 0.75, 1.25, dice).view(n, 1, 1, 1)
    light = _uniform(n, -0.1, 0.1, dice).view(n, 1, 1, 1)
    films = (films.clamp(1e-4, 1) ** gamma - 0.5) * contrast + 0.5 + light
    edges = _uniform(n, -0.6, 0.8, dice).view(n, 1, 1, 1)  # unsharp masking, or its opposite
    films = films + edges * (films - functional.avg_pool2d(films, 3, 1, 1, count_include_pad=False))
    grain = _uniform(n, 0, 0.03, dice).view(n, 1, 1, 1)
    return films + grain * torch.randn(films.shape, generator=dice, device=dice.device)


def _covered(films: Tensor, dice: torch.Generator) -> Tensor:
    """A black, grey or white rectangle over a part of half the films: markers, tags, cut fields of view."""
    n, side = len(films), films.shape[-1]
    size = _uniform(2 * n, 1 / 12, 1 / 4, dice).view(n, 2, 1)
    corner = _uniform(2 * n, 0, 1, dice).view(n, 2, 1) * (1 - size)
    line = (torch.arange(side, device=dice.device) + 0.5) / side
    within = (line >= corner) & (line < corner + size)
    chosen = (_uniform(n, 0, 1, dice) < 0.5).view(n, 1, 1)
    covered = within[:, 0, :, None] & within[:, 1, None, :] & chosen
    return torch.where(covered[:, None], _uniform(n, 0, 1, dice).view(n, 1, 1, 1), films)
