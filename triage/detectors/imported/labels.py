"""What other people call our findings. A label that has no finding of ours is declared not covered, never guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from triage.domain.errors import Refused
from triage.domain.finding import FINDING_CODES

_ALIASES = {
    "pleuraleffusion": "effusion",
    "pulmonaryedema": "edema",
    "oedema": "edema",
    "airspaceopacity": "lung_opacity",
    "opacity": "lung_opacity",
    "infiltrate": "infiltration",
    "enlargedheart": "cardiomegaly",
    "lungnodule": "nodule",
    "lungmass": "mass",
    "hiatalhernia": "hernia",
    "pulmonaryfibrosis": "fibrosis",
    "pleuralthickness": "pleural_thickening",
    "bonefracture": "fracture",
}
# Sources of the two families of labels, in the order of their outputs.
TORCHXRAYVISION = (
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema", "Fibrosis", "Effusion",
    "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass", "Hernia", "Lung Lesion", "Fracture",
    "Lung Opacity", "Enlarged Cardiomediastinum",
)  # fmt: skip
CHEXNET = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip
# What readers expect of a film and no finding of ours names.
_ALSO_NOT_SEEN = ("tuberculosis", "pneumoperitoneum", "pneumomediastinum", "calcification",
                  "widened mediastinum", "tubes and lines")  # fmt: skip
_NOT_DECLARED = {"abnormal", "infiltration", "pneumonia"}  # no reader misses these as a name of their own


def finding_of(label: str) -> str | None:
    """Our name of a foreign label, None when we have none."""
    plain = re.sub(r"[^a-z]", "", label.lower())
    known = {name.replace("_", ""): name for name in FINDING_CODES}
    return known.get(plain) or _ALIASES.get(plain)


def mapped(labels: Sequence[str], named: Mapping[str, str]) -> dict[str, int]:
    """Our finding names with the output that each is read from.

    named   a card's own mapping, label to finding name; it goes before ours
    raises  Refused when a mapping names no finding of ours, two labels mean the same one, or none is ours
    """
    outputs: dict[str, int] = {}
    for label, ours in named.items():
        if label not in labels or ours not in FINDING_CODES:
            raise Refused(
                f"the card maps {label!r} to {ours!r}: a label of its own and one of {', '.join(FINDING_CODES)}"
            )
    for index, label in enumerate(labels):
        name = named.get(label) or finding_of(label)
        if not label or name is None:
            continue
        if name in outputs:
            raise Refused(
                f"labels {labels[outputs[name]]!r} and {label!r} both mean {name}; let [findings] of the card say which, "
                "and leave the other label empty"
            )
        outputs[name] = index
    if not outputs:
        raise Refused(f"no label is a finding of ours; known are {', '.join(FINDING_CODES)}")
    return outputs


def not_covered(labels: Sequence[str], outputs: Mapping[str, int]) -> list[str]:
    """What a reader must know that this release does not say: our findings it lacks, labels we do not carry."""
    used = set(outputs.values())
    lacking = [n.replace("_", " ") for n in FINDING_CODES if n not in outputs and n not in _NOT_DECLARED]
    foreign = [label.replace("_", " ").lower() for i, label in enumerate(labels) if label and i not in used]
    return sorted({*lacking, *foreign, *_ALSO_NOT_SEEN})
