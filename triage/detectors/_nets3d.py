"""The two CT networks as torch modules: made here, trained by `models/lung_nodule/train.py`, shipped as OpenVINO IR.

`NoduleFinder` runs over whole lungs and says where a nodule's centre may be; `CandidateJudge` looks closer at one
place. Plain convolutions with batch normalisation, which OpenVINO folds away.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDE = 2  # of the finder's output against its input


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )


class _Block(nn.Module):  # type: ignore[misc]
    """Two convolutions with a way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(nn.Conv3d(width, width, 3, 1, 1, bias=False), nn.BatchNorm3d(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


class NoduleFinder(nn.Module):  # type: ignore[misc]
    """(n, 1, z, y, x) scaled HU -> (n, 5, z/2, y/2, x/2): centre logit, offset (z, y, x) in cells, log diameter in mm.

    z, y, x are multiples of 8. widths: channels at half, quarter and eighth resolution.
    """

    def __init__(self, widths: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        a, b, c = widths
        self.stem = nn.Sequential(_conv(1, a, 5, 2), _Block(a))
        self.down1 = nn.Sequential(_conv(a, b, 3, 2), _Block(b), _Block(b))
        self.down2 = nn.Sequential(_conv(b, c, 3, 2), _Block(c), _Block(c))
        self.up2 = nn.ConvTranspose3d(c, b, 2, 2)
        self.mix2 = _Block(b)
        self.up1 = nn.ConvTranspose3d(b, a, 2, 2)
        self.mix1 = _Block(a)
        self.head = nn.Conv3d(a, 5, 1)
        nn.init.constant_(self.head.bias, 0.0)
        with torch.no_grad():
            self.head.bias[0] = -5.0  # centres are rare: begin by saying no
            self.head.bias[4] = 2.0  # log of about 7 mm

    def forward(self, x: Tensor) -> Tensor:
        half = self.stem(x)
        quarter = self.down1(half)
        deep = self.down2(quarter)
        quarter = self.mix2(torch.relu(quarter + self.up2(deep)))
        half = self.mix1(torch.relu(half + self.up1(quarter)))
        return self.head(half)


class CandidateJudge(nn.Module):  # type: ignore[misc]
    """(n, 2, 32, 32, 32) scaled HU, near (fine) and around (coarse) -> (n, 1) logit that this is a nodule."""

    def __init__(self, widths: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        a, b, c = widths
        self.body = nn.Sequential(
            _conv(2, a),
            _conv(a, a, 3, 2),
            _Block(a),
            _conv(a, b, 3, 2),
            _Block(b),
            _conv(b, c, 3, 2),
            _Block(c),
        )
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(2 * c, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        pooled = torch.cat([features.mean((2, 3, 4)), features.amax((2, 3, 4))], 1)
        return self.head(self.drop(pooled))


class JudgePanel(nn.Module):  # type: ignore[misc]
    """The mean logit of several judges with other beginnings: they err in different places. Input as of one judge."""

    def __init__(self, widths: tuple[int, int, int], judges: int) -> None:
        super().__init__()
        self.judges = nn.ModuleList(CandidateJudge(widths) for _ in range(judges))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([judge(x) for judge in self.judges]).mean(0)
