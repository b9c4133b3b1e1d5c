"""A runtime that a site cannot have is said to be so, with what to set instead."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from triage.detectors._runtime import TorchNetwork, open_network
from triage.domain.errors import Misconfigured


def test_a_runtime_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="abacus"):
        open_network("abacus", tmp_path / "model.xml", tmp_path, lambda: None)
    with pytest.raises(Misconfigured, match="no weights for torch"):
        open_network("torch", tmp_path / "model.xml", tmp_path / "weights.safetensors", lambda: None)
    if not torch.cuda.is_available():
        with pytest.raises(Misconfigured, match="no CUDA device"):
            TorchNetwork(torch.nn.Identity(), "cuda", 1)
