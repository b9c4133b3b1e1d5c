"""Imported DenseNets answer as their own packages do, whatever form their checkpoint has (1e-4)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load as from_bytes

from tests.networks import shaken
from triage.detectors._runtime import torchvision
from triage.detectors.imported.card import CHEXNET_CARD, TORCHXRAYVISION_CARD
from triage.detectors.imported.convert import converted
from triage.detectors.imported.densenet import built
from triage.domain.errors import Refused

SAME = 1e-4


@pytest.fixture(scope="module")
def xrv() -> Any:
    torchvision()
    return pytest.importorskip("torchxrayvision", reason="the reference package is not installed")


@pytest.fixture(scope="module")
def reference(xrv: Any) -> torch.nn.Module:
    return shaken(xrv.models.DenseNet(num_classes=18))


@pytest.mark.parametrize("form", ["state dict", "module", "module before torch 1.6"])
def test_a_torchxrayvision_checkpoint_answers_as_its_package(
    reference: torch.nn.Module, tmp_path: Path, form: str
) -> None:
    file = tmp_path / "weights.pt"
    content = reference.state_dict() if form == "state dict" else reference
    torch.save(content, file, _use_new_zipfile_serialization="before" not in form)

    (weights,) = converted(file, "torch")
    ours = built(from_bytes(weights), 1, 18)

    picture = torch.rand(1, 1, 224, 224) * 2048 - 1024
    with torch.inference_mode():
        logits, maps = ours(picture)
        assert (logits - reference(picture)).abs().max() < SAME * logits.abs().max().clamp(min=1)
        from_places = maps.mean((2, 3)) + ours.classifier.bias
    assert (from_places - logits).abs().max() < SAME * logits.abs().max().clamp(min=1)


def test_a_chexnet_checkpoint_with_old_names_answers_as_torchvision(tmp_path: Path) -> None:
    theirs = shaken(torchvision().models.densenet121(weights=None, num_classes=14))
    old = {
        "module.densenet121." + re.sub(r"(norm|conv)(\d)\.(?=\w+$)", r"\1.\2.", k)
        if "denselayer" in k
        else "module.densenet121." + k.replace("classifier.", "classifier.0."): v
        for k, v in theirs.state_dict().items()
    }
    assert "module.densenet121.features.denseblock1.denselayer1.norm.1.weight" in old
    file = tmp_path / "model.pth.tar"
    torch.save({"epoch": 3, "state_dict": old, "best_loss": 0.1, "optimizer": {"state": {}}}, file)

    (weights,) = converted(file, "torch")
    ours = built(from_bytes(weights), 3, 14)

    picture = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert (ours(picture)[0] - theirs(picture)).abs().max() < SAME


def test_pictures_are_prepared_as_torchxrayvision_does(xrv: Any) -> None:
    pixels = np.random.default_rng(1).random((500, 700), dtype=np.float32)

    ours, box = TORCHXRAYVISION_CARD.input.batch(pixels)

    loaded = xrv.utils.normalize(pixels, 1.0)[None]
    theirs = xrv.datasets.XRayResizer(224)(xrv.datasets.XRayCenterCrop()(loaded))
    assert np.abs(ours[0] - theirs).max() < 1e-2  # of a range of 2048
    assert box == (0, 500, 100, 600)


def test_pictures_are_prepared_as_chexnet_does() -> None:
    torchvision()
    from torchvision import transforms

    stored = np.random.default_rng(2).integers(0, 256, (400, 523), dtype=np.uint8)

    ours, _ = CHEXNET_CARD.input.batch(stored.astype(np.float32) / 255)

    theirs = transforms.Compose([
        transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])(Image.fromarray(stored).convert("RGB"))  # fmt: skip
    assert np.abs(ours[0] - theirs.numpy()).max() < SAME


def test_wrong_shapes_and_foreign_networks_are_named(reference: torch.nn.Module) -> None:
    with pytest.raises(
        Refused, match=r"classifier\.weight has the shape \(18, 1024\), expected \(14, 1024\)"
    ):
        built(reference.state_dict(), 1, 14)
    with pytest.raises(Refused, match="no DenseNet-121"):
        built({"layer1.weight": torch.zeros(3)}, 1, 18)
