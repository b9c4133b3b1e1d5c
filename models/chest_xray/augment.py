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


def augmented(squares: Tensor, boxes: Tensor, side: int, dice: torch.Generator) -> tuple[Tensor, Tensor]:
    """Films and their boxes as training sees them.

    squares, boxes  (batch, SIDE, SIDE) and (batch, layers, SIDE, SIDE) uint8; no layer where no boxes are taught
    returns         (batch, 1, side, side) float32 in about [0, 1], and the boxes moved with them, in [0, 1]
    """
    films = torch.cat([squares[:, None], boxes], dim=1).float() / 255
    films, boxes = _moved(films, side, dice).split([1, boxes.shape[1]], dim=1)
    films = _through_64_pixels(films.contiguous(), dice)
    films = _exposed(films, dice)
    return _covered(films, dice), boxes


def disturbed(squares: Tensor, side: int, dice: torch.Generator) -> Tensor:
    """For the gate: the same without mirroring and with more blur, since its pictures come from many sources."""
    films = functional.avg_pool2d(squares[:, None].float() / 255, 2)
    films = _moved(films, side, dice, mirrored=0.0)
    chosen = torch.rand(len(films), generator=dice) < 0.5
    if chosen.any():
        coarse = int(torch.randint(side // 2, side, (), generator=dice))
        small = functional.adaptive_avg_pool2d(films[chosen], coarse)
        films[chosen] = functional.interpolate(small, size=side, mode="bilinear", align_corners=False)
    return _covered(_exposed(films, dice), dice)


def plain(squares: Tensor, side: int) -> Tensor:
    """The same films as inference sees them: area average, nothing else."""
    films = squares[:, None].float() / 255
    return films if films.shape[-1] == side else functional.adaptive_avg_pool2d(films, side)


def _uniform(n: int, low: float, high: float, dice: torch.Generator) -> Tensor:
    return torch.rand(n, generator=dice) * (high - low) + low


def _moved(films: Tensor, side: int, dice: torch.Generator, *, mirrored: float = 0.5) -> Tensor:
    n = len(films)
    turn = _uniform(n, -_TURN, _TURN, dice)
    scale = 1 + _uniform(n, -_SCALE, _SCALE, dice)
    stretch = 1 + _uniform(n, -_STRETCH, _STRETCH, dice)
    mirror = torch.where(torch.rand(n, generator=dice) < mirrored, -1.0, 1.0)
    matrix = torch.zeros(n, 2, 3)
    matrix[:, 0, 0] = mirror * scale * stretch * turn.cos()
    matrix[:, 0, 1] = -scale * turn.sin()
    matrix[:, 1, 0] = mirror * scale * turn.sin()
    matrix[:, 1, 1] = scale / stretch * turn.cos()
    matrix[:, :, 2] = (torch.rand(n, 2, generator=dice) * 2 - 1) * _SHIFT * 2
    grid = functional.affine_grid(matrix, [n, films.shape[1], side, side], align_corners=False)
    return functional.grid_sample(films, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _through_64_pixels(films: Tensor, dice: torch.Generator) -> Tensor:
    chosen = torch.rand(len(films), generator=dice) < _LOW_RESOLUTION
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
    return films + grain * torch.randn(films.shape, generator=dice)


def _covered(films: Tensor, dice: torch.Generator) -> Tensor:
    """A black, grey or white rectangle over a part of half the films: markers, tags, cut fields of view."""
    side = films.shape[-1]
    for film in films:
        if torch.rand((), generator=dice) < 0.5:
            height, width = (int(v) for v in torch.randint(side // 12, side // 4, (2,), generator=dice))
            top = int(torch.randint(0, side - height, (), generator=dice))
            left = int(torch.randint(0, side - width, (), generator=dice))
            film[:, top : top + height, left : left + width] = torch.rand((), generator=dice)
    return films
