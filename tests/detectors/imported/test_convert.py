"""Model files are foreign bytes: what a pickle wants to run is not run, what is broken is refused with a reason (T23)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as from_bytes

from triage.detectors.imported import convert
from triage.domain.errors import Refused


class Harmful:
    """Its pickle asks the reader to make a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.target}",)


def test_a_pickle_that_runs_a_program_runs_nothing_and_its_tensors_are_read(tmp_path: Path) -> None:
    file, target = tmp_path / "weights.pt", tmp_path / "proof"
    torch.save({"note": Harmful(target), "state_dict": {"w": torch.arange(3.0)}}, file)

    (weights,) = convert.converted(file, "torch")

    assert not target.exists()
    assert from_bytes(weights)["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "word"), [(b"", "EOFError"), (b"not a pickle at all", "Error"), (b"PK\x03\x04 cut short", "")]
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(content)

    with pytest.raises(Refused, match=f"weights.pt .*{word}"):
        convert.converted(file, "torch")


def test_a_checkpoint_without_weights_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"epoch": 3}, file)

    with pytest.raises(Refused, match="there are no weights in it"):
        convert.converted(file, "torch")


def test_a_file_that_is_not_the_one_its_publisher_states_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"anything")

    with pytest.raises(Refused, match="get it again"):
        convert.checked(file, "0" * 64)
    assert convert.checked(file, convert.checked(file, None).upper())


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    with file.open("wb") as stream:
        stream.truncate((1 << 30) + 1)

    with pytest.raises(Refused, match="at most 1024 MB"):
        convert.checked(file, None)


def test_a_broken_onnx_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"\x08\x07 nonsense")

    with pytest.raises(Refused, match=r"model\.onnx"):
        convert.converted(file, "onnx")
