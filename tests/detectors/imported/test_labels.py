"""Foreign labels: ours by name, the rest declared, nothing guessed."""

from __future__ import annotations

import pytest

from triage.detectors.imported.card import Card
from triage.detectors.imported.labels import CHEXNET, TORCHXRAYVISION, finding_of, mapped, not_covered
from triage.domain.errors import Refused


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Effusion", "effusion"),
        ("Pleural Effusion", "effusion"),
        ("Pleural_Thickening", "pleural_thickening"),
        ("Lung Opacity", "lung_opacity"),
        ("Enlarged Cardiomediastinum", None),
        ("No Finding", None),
    ],
)
def test_a_label_is_ours_or_nobodys(label: str, name: str | None) -> None:
    assert finding_of(label) == name


def test_the_eighteen_and_the_fourteen_labels_keep_their_outputs() -> None:
    outputs = mapped(TORCHXRAYVISION, {})

    assert (len(outputs), outputs["pneumothorax"], outputs["lung_opacity"]) == (16, 3, 16)
    assert {"enlarged cardiomediastinum", "lung lesion", "tuberculosis"} <= set(
        not_covered(TORCHXRAYVISION, outputs)
    )
    assert mapped(CHEXNET, {})["pneumothorax"] == 7
    assert "fracture" in not_covered(CHEXNET, mapped(CHEXNET, {}))


def test_a_card_may_say_what_a_label_means_and_two_labels_may_not_mean_one_finding() -> None:
    assert mapped(["Lung Lesion"], {"Lung Lesion": "nodule"}) == {"nodule": 0}
    with pytest.raises(Refused, match="both mean effusion"):
        mapped(["Effusion", "Pleural Effusion"], {})
    with pytest.raises(Refused, match="no label is a finding of ours"):
        mapped(["Cat", "Dog"], {})
    with pytest.raises(Refused, match="a label of its own"):
        mapped(["Effusion"], {"Effusion": "water"})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"labels": None}, "labels"),
        ({"result": "magic"}, "result"),
        ({"input": None}, r"\[input\]"),
        ({"input": {"side": 224, "channels": 1, "fit": "crop"}}, "'range'"),
        ({"input": {"side": 9, "channels": 1, "fit": "crop", "range": [0, 1]}}, "side"),
        ({"input": {"side": 224, "channels": 2, "fit": "crop", "range": [0, 1]}}, "channels"),
        ({"input": {"side": 224, "channels": 1, "fit": "tile", "range": [0, 1]}}, "fit"),
        ({"input": {"side": 224, "channels": 3, "fit": "crop", "range": [0, 1], "std": [1, 0, 1]}}, "std"),
    ],
)
def test_a_card_that_leaves_something_open_is_refused(change: dict[str, object], word: str) -> None:
    whole = {
        "labels": ["Effusion"],
        "result": "logits",
        "input": {"side": 224, "channels": 1, "range": [0, 1], "fit": "crop"},
    }
    Card.from_content(whole, "card.toml")
    with pytest.raises(Refused, match=word):
        Card.from_content({**whole, **change}, "card.toml")
