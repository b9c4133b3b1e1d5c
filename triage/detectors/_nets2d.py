"""The film networks as torch modules: loaded by training, by CUDA and for comparison, never by a CPU worker."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from triage.detectors._lite import CHANNELS, LiteTrunk


class _Block(nn.Module):  # type: ignore[misc]
    """Residual block of two convolutions; a stride of 2 halves the side."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm_first = nn.BatchNorm2d(outside)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm_second = nn.BatchNorm2d(outside)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.skip = nn.Sequential(
                nn.AvgPool2d(stride) if stride > 1 else nn.Identity(),
                nn.Conv2d(inside, outside, 1, bias=False),
                nn.BatchNorm2d(outside),
            )
        nn.init.zeros_(self.norm_second.weight)  # every block begins as the identity

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.norm_first(self.first(x)))
        return torch.relu(self.norm_second(self.second(out)) + self.skip(x))


class Trunk(nn.Module):  # type: ignore[misc]
    """Plain 3 x 3 convolutions, which learn more from scratch per second of a CPU than depthwise ones.

    (batch, 1, side, side) greys in [0, 1] to (batch, channels, side / 16, side / 16) features."""

    def __init__(self, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(2, widths[0], 5, 2, 2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        layers: list[nn.Module] = []
        for inside, outside in pairwise(widths):
            layers += [_Block(inside, outside, 2)]
            layers += [_Block(outside, outside, 1) for _ in range(blocks - 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(self.stem(_two_views(x)))
        return out


def _two_views(x: Tensor) -> Tensor:
    """The grey itself and its local contrast, which exposure, window and edge filters of a vendor move little."""
    coarse = functional.avg_pool2d(functional.avg_pool2d(x, 8), 3, 1, 1, count_include_pad=False)
    around = functional.interpolate(coarse, scale_factor=8, mode="bilinear", align_corners=False)
    return torch.cat([(x - 0.5) * 4.0, (x - around) * 10.0], dim=1)


class FilmNet(nn.Module):  # type: ignore[misc]
    """Findings of a frontal film, each with the map that its logit was pooled from.

    trunk    (batch, 1, side, side) -> (batch, channels, cells, cells)
    forward  (batch, 1, side, side) -> logits (batch, findings), maps (batch, findings, cells, cells).
    A learned sharpness per finding pools between the mean (a large heart) and the maximum (a nodule).
    """

    def __init__(self, findings: int, trunk: nn.Module, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.trunk = trunk
        self.drop = nn.Dropout(dropout)
        self.head = nn.Conv2d(channels, findings, 1)
        self.sharpness = nn.Parameter(torch.zeros(findings))

    def pooled(self, features: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.head(self.drop(features))
        flat = maps.flatten(2)
        weights = torch.softmax(flat * self.sharpness[:, None].exp(), dim=2)
        return (weights * flat).sum(2), maps

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.pooled(self.trunk(x))


class GateNet(nn.Module):  # type: ignore[misc]
    """What a picture is: (batch, 1, side, side) -> logits (batch, classes)."""

    def __init__(self, classes: int, widths: tuple[int, ...], blocks: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.trunk = Trunk(widths, blocks)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.drop(self.trunk(x).mean((2, 3))))
        return out


class Ensemble(nn.Module):  # type: ignore[misc]
    """Networks of the same kind over a film and its mirror image; logits and maps are the means of all."""

    def __init__(self, members: list[FilmNet]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        straight = [member(x) for member in self.members]
        mirrored = [member(x.flip(3)) for member in self.members]
        logits = torch.stack([logit for logit, _ in straight + mirrored]).mean(0)
        maps = torch.stack([place for _, place in straight] + [place.flip(3) for _, place in mirrored]).mean(
            0
        )
        return logits, maps


def film_net(description: Mapping[str, Any], dropout: float = 0.0) -> FilmNet:
    """One member: `trunk` names a size of EfficientNet-Lite, else `widths` and `blocks` give an own residual trunk."""
    if "trunk" in description:
        return FilmNet(description["outputs"], LiteTrunk(description["trunk"]), CHANNELS, dropout)
    widths = tuple(description["widths"])
    return FilmNet(description["outputs"], Trunk(widths, description["blocks"]), widths[-1], dropout)


def build(description: Mapping[str, Any]) -> nn.Module:
    """The module that a release.json describes under `network` or `gate`; weights are loaded afterwards."""
    if "members" in description:
        return Ensemble([film_net(description) for _ in range(description["members"])])
    return GateNet(description["outputs"], tuple(description["widths"]), description["blocks"])
