"""What the film training promises: unknown is not negative, the test part stays shut, a resumed run is the same run."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.chest_xray import train as training
from models.chest_xray.films import AUXILIARY, FINDINGS, Films
from models.chest_xray.learner import Recipe, loss_of
from triage.detectors._lite import LiteTrunk, from_imagenet

LABELS = len(FINDINGS) + len(AUXILIARY)
SMALL = Recipe(trunk="", widths=(4, 8), blocks=1, side=32, batch=4, steps=4)


def some_films(n: int = 40) -> Films:
    dice = np.random.default_rng(3)
    labels = dice.integers(0, 2, (n, LABELS)).astype(np.float32)
    labels[dice.random(labels.shape) < 0.3] = np.nan
    words = {name: np.full(n, word) for name, word in
             {"source": "nih", "stratum": "a PA", "view": "PA", "patient": "p"}.items()}  # fmt: skip
    split = np.array(["train", "train", "val", "test"] * (n // 4))
    return Films(
        ids=[f"f{i}" for i in range(n)], squares=dice.integers(0, 255, (n, 32, 32), dtype=np.uint8), labels=labels,
        split=split, fold=np.arange(n) % 5, core=np.zeros(n, bool), **words,
    )  # fmt: skip


def test_what_is_not_known_moves_nothing() -> None:
    logits = torch.zeros(2, LABELS, requires_grad=True)
    labels = torch.full((2, LABELS), torch.nan)
    labels[0, 1] = 1.0

    loss_of(logits, labels, torch.ones_like(labels), 0.3).backward()

    moved = torch.nonzero(logits.grad)
    assert moved.tolist() == [[0, 1]] and logits.grad[0, 1] < 0


def test_no_film_of_the_test_part_and_none_of_the_fold_is_trained_on() -> None:
    films = some_films()

    rows = training.training_rows(films, 2)

    assert set(films.split[rows]) == {"train", "val"} and 2 not in films.fold[rows]
    assert set(films.fold[training.training_rows(films, -1)]) == set(range(5))
    assert set(films.split[training.held_out_rows(films, 2)]) <= {"train", "val"}


def test_a_run_that_was_cut_off_ends_as_if_it_had_not(tmp_path, monkeypatch) -> None:
    films, whole, cut = some_films(), tmp_path / "whole", tmp_path / "cut"
    training.train(films, 0, SMALL, whole, "cpu", None, [])
    draws, augmented = [], training.augmented

    def cut_off(*arguments):
        draws.append(1)
        if len(draws) == 4:
            raise KeyboardInterrupt
        return augmented(*arguments)

    monkeypatch.setattr(training, "augmented", cut_off)
    with pytest.raises(KeyboardInterrupt):
        training.train(films, 0, SMALL, cut, "cpu", None, [])
    training.train(films, 0, SMALL, cut, "cpu", None, [])

    one, other = (load_file(folder / "weights.safetensors") for folder in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(draws) == 5  # three before the cut, the cut, and one after it: nothing was learned twice


def test_a_student_learns_what_its_teacher_says(tmp_path) -> None:
    films = some_films()
    training.train(films, 0, SMALL, tmp_path / "teacher", "cpu", None, [])
    pupil = Recipe(**{**SMALL.__dict__, "taught": 1.0, "steps": 2})

    answers = training.train(films, 0, pupil, tmp_path / "pupil", "cpu", None, [tmp_path / "teacher"])

    assert answers.shape == (len(training.held_out_rows(films, 0)), LABELS) and np.isfinite(answers).all()
    assert training.read_recipe(tmp_path / "pupil") == pupil


def published(trunk: LiteTrunk) -> dict[str, torch.Tensor]:
    """A state of the same layout as the published one: three colours first, a classifier last."""
    state = {f"_layer.{i}": torch.rand_like(v) if v.is_floating_point() else v
             for i, v in enumerate(trunk.state_dict().values())}  # fmt: skip
    return {**state, "_layer.0": torch.rand(32, 3, 3, 3), "_fc.weight": torch.rand(3, 3)}


def test_weights_of_photographs_fit_and_their_colours_are_summed() -> None:
    trunk = LiteTrunk("lite0").eval()
    state = published(trunk)

    from_imagenet(trunk, state)

    assert torch.equal(trunk.layers[0].conv.weight, state["_layer.0"].sum(1, keepdim=True))
    with torch.inference_mode():
        assert trunk(torch.rand(1, 1, 96, 96)).shape == (1, 1280, 3, 3)


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="another size"):
        from_imagenet(LiteTrunk("lite0"), published(LiteTrunk("lite2")))
    with pytest.raises(ValueError, match="here and"):
        from_imagenet(LiteTrunk("lite1"), published(LiteTrunk("lite2")))
