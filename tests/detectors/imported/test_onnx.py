"""An ONNX classifier with a card becomes a release that answers as the network it was exported from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from triage.detectors.imported.card import Card
from triage.detectors.imported.film import load
from triage.detectors.imported.importing import add_film
from triage.detectors.imported.picture import PictureInput
from triage.detectors.releases import active_release
from triage.domain.errors import Refused
from triage.domain.image import Radiograph
from triage.phantom import make_thorax, render_radiograph

CARD = Card(
    labels=("Pneumothorax", "Pleural Effusion", "Cat"),
    input=PictureInput(side=64, channels=3, low=0.0, high=1.0, fit="squash", mean=(0.5,) * 3, std=(0.2,) * 3),
    result="probabilities",
)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, 4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 15 * 15, 3), torch.nn.Sigmoid()
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def file(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="torch needs the onnx package to export")
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    torch.onnx.export(network, torch.zeros(1, 3, 64, 64), path, dynamo=False, input_names=["x"])
    return path


def test_it_answers_as_its_source_and_passes_our_gate(
    file: Path, network: torch.nn.Module, tmp_path: Path
) -> None:
    release = add_film(tmp_path, "onnx-1", "onnx", file, active_release("chest_xray"), card=CARD)

    detector = load(release.folder)
    film: Radiograph = render_radiograph(make_thorax(1, ()), size_px=400)
    found = {f.name: f.probability_raw for f in detector.detect(film).findings}

    with torch.inference_mode():
        theirs = network(torch.from_numpy(CARD.input.batch(film.pixels)[0]))[0].numpy()
    assert np.abs(np.array([found["pneumothorax"], found["effusion"]]) - theirs[:2]).max() < 1e-4
    assert "cat" in release.not_covered and "edema" in release.not_covered
    assert not release.calibrated and detector.verify() == 0
    assert not any(f.actionable or f.location for f in detector.detect(film).findings)
    assert not release.folder.stat().st_mode & 0o222


@pytest.mark.parametrize(
    ("card", "word"),
    [
        (replace(CARD, labels=("Effusion", "Edema")), "2 labels"),
        (replace(CARD, input=replace(CARD.input, channels=1, mean=(), std=())), "1 channels"),
        (replace(CARD, input=replace(CARD.input, side=96)), "96 x 96"),
    ],
)
def test_a_card_that_does_not_fit_the_network_is_refused(
    file: Path, tmp_path: Path, card: Card, word: str
) -> None:
    with pytest.raises(Refused, match=word):
        add_film(tmp_path, "onnx-1", "onnx", file, active_release("chest_xray"), card=card)
    assert not list(tmp_path.glob("chest_xray/*"))
