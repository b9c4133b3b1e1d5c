"""The released chest film detector: known answers, one answer on every runtime, phantoms found, strangers refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from triage.detectors._runtime import BOUND, RUNTIMES
from triage.detectors.chest_xray import ChestXray, load
from triage.detectors.releases import active_release, load_release
from triage.domain.errors import Misconfigured
from triage.domain.finding import FINDING_CODES
from triage.domain.image import Radiograph
from triage.domain.suitability import NotSuitableError, ReasonCode
from triage.phantom import make_thorax, render_radiograph

RELEASE = active_release("chest_xray")
_SAME = 1e-3  # logits: OpenVINO folds normalisation and sums in another order than torch


@pytest.fixture(scope="module")
def detector() -> ChestXray:
    return load(RELEASE)


@pytest.fixture(scope="module")
def phantom() -> Callable[..., Radiograph]:
    films: dict[tuple[int, tuple[str, ...]], Radiograph] = {}

    def film(seed: int, *findings: str) -> Radiograph:
        if (seed, findings) not in films:
            films[seed, findings] = render_radiograph(make_thorax(seed, findings), size_px=640)
        return films[seed, findings]

    return film


def actionable(detector: ChestXray, film: Radiograph) -> set[str]:
    return {f.name for f in detector.detect(film).findings if f.actionable}


def test_the_released_weights_give_the_answers_they_were_released_with(detector: ChestXray) -> None:
    with np.load(RELEASE / "golden.npz") as golden:
        for square, logits in zip(golden["inputs"], golden["logits"], strict=True):
            assert np.abs(detector.scores(square[0])[0] - logits).max() < _SAME


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_answers_within_its_bound(
    detector: ChestXray, phantom: Callable[..., Radiograph], runtime: str
) -> None:
    if runtime == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")

    assert apart(detector, load(RELEASE, runtime), phantom) < BOUND[load(RELEASE, runtime).runtime]


def test_the_arithmetic_of_the_cuda_runtime_keeps_its_bound(
    detector: ChestXray, phantom: Callable[..., Radiograph]
) -> None:
    halved = load(RELEASE, "torch")
    scores = halved.scores

    def in_bfloat16(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.autocast("cpu", torch.bfloat16):
            return scores(square)

    halved.scores = in_bfloat16  # type: ignore[method-assign]

    assert 0 < apart(detector, halved, phantom) < BOUND["torch-cuda"]


def apart(one: ChestXray, other: ChestXray, phantom: Callable[..., Radiograph]) -> float:
    """The largest difference of their raw probabilities on two phantoms."""
    largest = 0.0
    for seed, findings in ((1, ()), (2, ("pneumothorax",))):
        ours = {f.name: f.probability_raw for f in one.detect(phantom(seed, *findings)).findings}
        theirs = {f.name: f.probability_raw for f in other.detect(phantom(seed, *findings)).findings}
        largest = max(largest, *(abs(ours[name] - theirs[name]) for name in ours))
    return largest


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_phantom_pneumothorax_is_pushed_and_a_healthy_phantom_is_not(
    detector: ChestXray, phantom: Callable[..., Radiograph], seed: int
) -> None:
    assert "pneumothorax" in actionable(detector, phantom(seed, "pneumothorax"))
    assert actionable(detector, phantom(seed)) == set()


def test_every_finding_is_a_known_name_with_a_calibrated_probability(
    detector: ChestXray, phantom: Callable[..., Radiograph]
) -> None:
    detection = detector.detect(phantom(1))

    assert tuple(f.name for f in detection.findings) == detector.findings
    assert all(f.name in FINDING_CODES and 0 <= f.probability <= 1 for f in detection.findings)
    assert "fracture" in detection.not_covered


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_phantom_is_put_upright_and_gives_the_same_flag(
    detector: ChestXray, phantom: Callable[..., Radiograph], turns: int
) -> None:
    turned = Radiograph(np.ascontiguousarray(np.rot90(phantom(3, "pneumothorax").pixels, turns)))

    detection = detector.detect(turned)

    assert any(note.startswith("rotated") for note in detection.notes)
    assert "pneumothorax" in {f.name for f in detection.findings if f.actionable}


def test_an_inverted_phantom_is_put_right_and_gives_the_same_flag(
    detector: ChestXray, phantom: Callable[..., Radiograph]
) -> None:
    detection = detector.detect(Radiograph(1 - phantom(3, "pneumothorax").pixels))

    assert "inverted greys put right" in detection.notes
    assert "pneumothorax" in {f.name for f in detection.findings if f.actionable}


def test_what_is_pushed_has_an_outline_inside_the_received_image(
    detector: ChestXray, phantom: Callable[..., Radiograph]
) -> None:
    film = phantom(2, "pneumothorax")

    (found,) = [f for f in detector.detect(film).findings if f.name == "pneumothorax"]

    assert found.location is not None and len(found.location.outline) >= 8
    columns, rows = np.array(found.location.outline).T
    assert columns.min() >= -0.5 and columns.max() <= film.pixels.shape[1] - 0.5
    assert rows.min() >= -0.5 and rows.max() <= film.pixels.shape[0] - 0.5
    assert found.location.side == ""  # orientation is not known here: never guessed


@pytest.mark.parametrize(
    ("pixels", "code"),
    [
        (np.zeros((150, 900), np.float32), ReasonCode.TOO_SMALL),
        (np.full((900, 900), 0.5, np.float32), ReasonCode.LOW_QUALITY),
        (np.tile(np.linspace(0, 1, 300, dtype=np.float32), (900, 1)), ReasonCode.GEOMETRY),
    ],
)
def test_what_is_no_film_is_refused(detector: ChestXray, pixels: np.ndarray, code: ReasonCode) -> None:
    with pytest.raises(NotSuitableError) as refusal:
        detector.detect(Radiograph(pixels))

    assert refusal.value.answer.code is code


def test_noise_is_not_analysed(detector: ChestXray) -> None:
    with pytest.raises(NotSuitableError):
        detector.detect(Radiograph(np.random.default_rng(0).random((900, 900), dtype=np.float32)))


def test_a_large_film_takes_far_less_than_a_second(detector: ChestXray) -> None:
    film = Radiograph(np.random.default_rng(0).random((2500, 2000), dtype=np.float32))
    film.pixels[:] = np.linspace(0, 1, 2000, dtype=np.float32)
    began = time.process_time()

    with pytest.raises(NotSuitableError):
        detector.detect(film)

    assert time.process_time() - began < 1.0  # processor time: this machine may be busy


def test_a_changed_weight_makes_the_release_unusable(tmp_path: Path) -> None:
    for part in RELEASE.iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    with (tmp_path / "model.bin").open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"\x01")

    with pytest.raises(Misconfigured, match=r"model\.bin"):
        load(tmp_path)


def test_an_unknown_runtime_is_named() -> None:
    with pytest.raises(Misconfigured, match="abacus"):
        load(RELEASE, "abacus")


def test_no_file_of_the_release_is_over_twenty_megabytes() -> None:
    sizes = {name: (RELEASE / name).stat().st_size for name in load_release(RELEASE).content["files"]}

    assert max(sizes.values()) < 20e6, sizes
