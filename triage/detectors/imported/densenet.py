"""DenseNet-121 as torchvision, CheXNet's descendants and TorchXRayVision have it, and the names in their checkpoints.

Written from torch layers: torchvision beside a CPU torch needs its operators declared (libraries.md 2), and a worker
shall not depend on that. A test holds it to both packages. source: Huang et al., CVPR 2017
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from triage.domain.errors import Refused

_LAYERS = (6, 12, 24, 16)  # of the four dense blocks
_GROWTH, _BOTTLENECK, _FIRST = 32, 4, 64
_WRAPPERS = ("module.", "model.", "net.", "densenet121.", "backbone.")
_NUMBERED = re.compile(r"\b(norm|relu|conv)\.(\d)\.")  # torchvision before 0.3: "norm.1.weight"
_NOT_WEIGHTS = re.compile(r"(^|\.)(op_threshs|num_batches_tracked)$")


class _Layer(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, _BOTTLENECK * _GROWTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(_BOTTLENECK * _GROWTH)
        self.conv2 = nn.Conv2d(_BOTTLENECK * _GROWTH, _GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(new)))], 1)


class _Transition(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(self.conv(torch.relu(self.norm(x))), 2)


class DenseNet121(nn.Module):  # type: ignore[misc]
    """forward  (batch, channels, side, side) -> logits (batch, outputs), maps (batch, outputs, side/32, side/32).

    A map is the classifier applied before the mean over places (CAM, Zhou 2016): its mean and the bias are the logit.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(channels, _FIRST, 7, 2, 3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(_FIRST))
        self.features.add_module("relu0", nn.ReLU())
        self.features.add_module("pool0", nn.MaxPool2d(3, 2, 1))
        width = _FIRST
        for block, layers in enumerate(_LAYERS, start=1):
            dense = nn.Sequential()
            for layer in range(layers):
                dense.add_module(f"denselayer{layer + 1}", _Layer(width + layer * _GROWTH))
            self.features.add_module(f"denseblock{block}", dense)
            width += layers * _GROWTH
            if block < len(_LAYERS):
                self.features.add_module(f"transition{block}", _Transition(width))
                width //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(width))
        self.classifier = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.relu(self.features(x))
        maps = functional.conv2d(features, self.classifier.weight[:, :, None, None])
        return self.classifier(features.mean((2, 3))), maps


def built(state: Mapping[str, Any], channels: int, outputs: int) -> DenseNet121:
    """The network with the weights of a checkpoint, whatever it calls them.

    raises  Refused naming what is missing or has another shape
    """
    network = DenseNet121(channels, outputs)
    wanted = {k: v.shape for k, v in network.state_dict().items() if not _NOT_WEIGHTS.search(k)}
    given = {plain_name(k): v for k, v in state.items() if not _NOT_WEIGHTS.search(k)}
    missing = [k for k in wanted if k not in given]
    if missing:
        raise Refused(
            f"it is no DenseNet-121: {len(missing)} of {len(wanted)} weights are missing, first {missing[0]}"
        )
    for name, shape in wanted.items():
        if tuple(given[name].shape) != tuple(shape):
            raise Refused(
                f"{name} has the shape {tuple(given[name].shape)}, expected {tuple(shape)} for {channels} channels "
                f"and {outputs} labels"
            )
    extra = sorted(k for k in given if k not in wanted)
    if extra:
        raise Refused(f"it has {len(extra)} weights that a DenseNet-121 has not, first {extra[0]}")
    network.load_state_dict({k: v.float() for k, v in given.items()}, strict=False)
    network.eval()
    return network


def plain_name(name: str) -> str:
    """A weight's name as torchvision has it today: without wrappers, "norm.1" as "norm1", one linear classifier."""
    while prefix := next((p for p in _WRAPPERS if name.startswith(p)), ""):
        name = name.removeprefix(prefix)
    name = _NUMBERED.sub(r"\1\2.", name)
    return re.sub(r"^classifier\.0\.", "classifier.", name)
