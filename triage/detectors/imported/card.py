"""The card of imported weights: what must be stated so that a network's numbers mean something. TOML or JSON.

labels = ["Pneumothorax", "Pleural Effusion", ""]   # the outputs in order; "" is an output that is not used
result = "logits"                                   # or "probabilities"
license = "CC BY 4.0"
source = "https://..."
[input]                                             # see `picture.PictureInput`
side = 320
channels = 3
range = [0, 1]                                      # what black and white become
fit = "squash"                                      # or "crop", or "short_side" with short_side = 256
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
[findings]                                          # optional: label = "our finding name"
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triage.detectors.imported.labels import CHEXNET, TORCHXRAYVISION
from triage.detectors.imported.picture import PictureInput
from triage.domain.errors import Refused

_LARGEST = 1 << 20
_MOST_LABELS = 1000
RESULTS = ("logits", "probabilities")


@dataclass(frozen=True)
class Card:
    labels: tuple[str, ...]
    input: PictureInput
    result: str = "logits"
    license: str = "not stated"
    source: str = "not stated"
    findings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_content(cls, content: dict[str, Any], name: str) -> Card:
        """raises Refused naming what the card does not state."""
        labels = content.get("labels")
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise Refused(f"{name} does not state labels, the list of the network's outputs in their order")
        if not 1 <= len(labels) <= _MOST_LABELS:
            raise Refused(f"{name} states {len(labels)} labels; 1 to {_MOST_LABELS} are expected")
        if not isinstance(content.get("input"), dict):
            raise Refused(f"{name} has no [input] with side, channels, range and fit")
        if content.get("result") not in RESULTS:
            raise Refused(f"{name} does not state result: one of {', '.join(RESULTS)}")
        named = content.get("findings", {})
        if not isinstance(named, dict):
            raise Refused(f"{name}: [findings] maps labels to finding names")
        return cls(
            labels=tuple(labels),
            input=PictureInput.from_card(content["input"]),
            result=content["result"],
            license=str(content.get("license", "not stated"))[:200],
            source=str(content.get("source", "not stated"))[:400],
            findings={str(k): str(v) for k, v in named.items()},
        )


def read_card(path: Path) -> Card:
    """The card in a TOML or JSON file. raises Refused."""
    try:
        if path.stat().st_size > _LARGEST:
            raise Refused(f"{path} is no card: it has over {_LARGEST >> 20} MB")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError, ValueError) as error:  # both parsers' errors are ValueErrors
        raise Refused(f"card {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise Refused(f"card {path} is no table of names and values")
    return Card.from_content(content, path.name)


# Middle square, 224 pixels, -1024 to 1024: torchxrayvision.datasets and its README.
TORCHXRAYVISION_CARD = Card(
    labels=TORCHXRAYVISION,
    input=PictureInput(side=224, channels=1, low=-1024.0, high=1024.0, fit="crop"),
    license="code Apache-2.0; of the weights and their training sets see the torchxrayvision README",
    source="torchxrayvision",
)
# Short side 256, middle 224, ImageNet's mean and spread: CheXNet (Rajpurkar 2017) and its public re-implementations.
CHEXNET_CARD = Card(
    labels=CHEXNET,
    input=PictureInput(
        side=224, channels=3, low=0.0, high=1.0, fit="short_side", short_side=256,
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
    ),
    source="CheXNet-style DenseNet-121, NIH ChestX-ray14 labels",
)  # fmt: skip
