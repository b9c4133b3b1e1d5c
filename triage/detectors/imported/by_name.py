"""TorchXRayVision weights by their names, through its package (an optional extra), where the internet is reachable.

The package fetches the file and knows its labels; opening it stays the business of our child without rights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from triage.detectors._runtime import torchvision
from triage.detectors.imported.card import TORCHXRAYVISION_CARD, Card
from triage.domain.errors import Misconfigured, Refused, Unavailable

PREFIX = "torchxrayvision:"
LICENSE = (
    "TorchXRayVision's code is under Apache-2.0. Its weights were trained on public sets (NIH, PadChest, CheXpert, "
    "MIMIC-CXR, RSNA ...) whose terms may restrict use: read https://github.com/mlmed/torchxrayvision before you go on."
)


def fetch(source: str, folder: Path) -> Path:
    """The checkpoint of "torchxrayvision:NAME", from `folder` when it lies there already.

    raises  Refused for an unknown name, Misconfigured without the package, Unavailable without a network
    """
    models = _package()
    name = _known(models, source)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return Path(models.get_weights(name, cache_dir=str(folder)))
    except OSError as error:  # what its HTTP client raises is an OSError too
        raise Unavailable(
            f"{name} cannot be fetched ({type(error).__name__}). On a machine with internet get "
            f"{models.model_urls[name]['weights_url']}, copy it here, and add the file with --kind torchxrayvision"
        ) from error


def card_of(source: str) -> Card | None:
    """The labels of these weights (some have fewer than eighteen); None when `source` is no such name."""
    if not source.startswith(PREFIX):
        return None
    models = _package()
    name = _known(models, source)
    labels = tuple(models.model_urls[name]["labels"])
    return replace(TORCHXRAYVISION_CARD, labels=labels, source=str(models.model_urls[name]["weights_url"]))


def _package() -> Any:
    torchvision()  # beside a CPU torch its operators must be declared first (libraries.md 2)
    try:
        from torchxrayvision import models
    except ImportError as error:
        raise Misconfigured(
            "the package torchxrayvision is not installed: pip install 'triage[torchxrayvision]'"
        ) from error
    return models


def _known(models: Any, source: str) -> str:
    name = source.removeprefix(PREFIX)
    densenets = sorted(n for n in models.model_urls if n.startswith("densenet121"))
    if name not in densenets:
        raise Refused(f"{name!r} is none of the weights that can be imported: {', '.join(densenets)}")
    return name
