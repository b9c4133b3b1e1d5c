"""Foreign weights become a Release of `chest_xray`: converted once, sealed by digests, never changed afterwards.

A new release is not calibrated: it says no finding loudly enough to be pushed and may run in shadow alone, until
`triage models calibrate` has fitted it on the site's own cases.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from triage.detectors._runtime import Network, OpenVinoNetwork, TorchNetwork, inference_threads
from triage.detectors.calibration import Calibration, OperatingPoint, Platt
from triage.detectors.imported import labels as names
from triage.detectors.imported.card import CHEXNET_CARD, TORCHXRAYVISION_CARD, Card
from triage.detectors.imported.convert import checked, converted
from triage.detectors.imported.film import opened
from triage.detectors.imported.picture import Array, PictureInput
from triage.detectors.releases import Release, load_release, new_folder, seal_release
from triage.domain.errors import Refused

KINDS = ("torchxrayvision", "chexnet", "onnx")
_MODERATE, _HIGH = 0.2, 0.5  # bands of a release that nobody calibrated
_ALIKE = 1e-6  # logits: two pictures that differ less in their answers are the same to the network
_APART = 1e-3  # parts of the logits' spread that conversion may change


def add_film(
    models: Path, version: str, kind: str, file: Path, gate_of: Path,
    *, card: Card | None = None, sha256: str | None = None,
) -> Release:  # fmt: skip
    """Import `file` as models/chest_xray/<version>.

    kind     one of KINDS; a card replaces what the kind implies, and onnx has nothing that it implies
    gate_of  release whose gate network judges films before this one sees them
    sha256   of the file, as its publisher states it
    raises   Refused when the file, its card or its answers are not usable
    """
    stated = card or {"torchxrayvision": TORCHXRAYVISION_CARD, "chexnet": CHEXNET_CARD}.get(kind)
    if stated is None:
        raise Refused(
            f"a file of kind {kind} needs a card that states labels, result and [input]: --card FILE"
        )
    digest = checked(file, sha256)
    outputs = names.mapped(stated.labels, stated.findings)
    write = _onnx if kind == "onnx" else _densenet
    with new_folder(models, "chest_xray", version) as folder:
        content = _content(version, kind, file.name, digest, stated, outputs) | _gate(gate_of, folder)
        content["network"] = write(file, stated, folder)
        _golden(Release("chest_xray", version, folder, "", content))
        (folder / "card.md").write_text(_card_text(content), encoding="utf-8")
        seal_release(folder, content)
    return load_release(models / "chest_xray" / version)


def _content(
    version: str, kind: str, file: str, digest: str, card: Card, outputs: dict[str, int]
) -> dict[str, Any]:
    point = OperatingPoint(low=0.0, moderate=_MODERATE, high=_HIGH, actionable=None)
    lines = Calibration(dict.fromkeys(outputs, Platt()), dict.fromkeys(outputs, point))
    return {
        "detector": "chest_xray",
        "version": version,
        "loader": "imported_film",
        "findings": list(outputs),
        "outputs": outputs,
        "labels": list(card.labels),
        "not_covered": names.not_covered(card.labels, outputs),
        "input": card.input.as_card(),
        "calibrated": False,
        "origin": {
            "kind": kind,
            "file": file,
            "sha256": digest,
            "license": card.license,
            "source": card.source,
        },
    } | lines.as_release()


def _gate(gate_of: Path, folder: Path) -> dict[str, Any]:
    release = load_release(gate_of)
    for name in ("gate.xml", "gate.bin"):
        shutil.copyfile(gate_of / name, folder / name)
    return {"gate": release.content["gate"], "gate_of": release.title}


def _densenet(file: Path, card: Card, folder: Path) -> dict[str, Any]:
    """model.xml and weights.safetensors of a checkpoint, both in float32 and held to each other."""
    import openvino  # heavy, and torch with it: an import is made once
    import torch
    from safetensors.torch import load as from_bytes
    from safetensors.torch import save_file

    from triage.detectors.imported.densenet import built

    (weights,) = converted(file, "torch")
    to = card.input
    module = built(from_bytes(weights), to.channels, len(card.labels))
    save_file(module.state_dict(), folder / "weights.safetensors")
    model = openvino.convert_model(module, example_input=torch.zeros(1, to.channels, to.side, to.side))
    model.reshape([-1, to.channels, to.side, to.side])
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    _hold_together(TorchNetwork(module, "cpu", inference_threads()), folder, card)
    return {"kind": "densenet121", "layout": "NCHW", "output": 0, "result": card.result}


def _hold_together(torch_network: Network, folder: Path, card: Card) -> None:
    batch = card.input.batch(_greys(card.input.side)[0])[0]
    theirs, ours = (
        torch_network(batch)[0],
        OpenVinoNetwork(folder / "model.xml", inference_threads())(batch)[0],
    )
    if not np.isfinite(ours).all():
        raise Refused("its answers are not numbers: the weights are damaged")
    difference, spread = float(np.abs(ours - theirs).max()), max(float(np.ptp(theirs)), 1.0)
    if difference > _APART * spread:
        raise Refused(f"converted, it answers differently by {difference:.2g} logits: it cannot be used here")


def _onnx(file: Path, card: Card, folder: Path) -> dict[str, Any]:
    import openvino

    model = openvino.Core().read_model(*converted(file, "onnx"))
    layout = _layout(model.input(0), card.input)
    side, channels = card.input.side, card.input.channels
    try:
        model.reshape([1, channels, side, side] if layout == "NCHW" else [1, side, side, channels])
    except RuntimeError as error:
        raise Refused(
            f"it does not take pictures of {side} x {side}: state the side that it was made for"
        ) from error
    shapes = [list(o.get_partial_shape()) for o in model.outputs]
    fitting = [i for i, shape in enumerate(shapes) if len(shape) == 2 and shape[1] == len(card.labels)]
    if not fitting:
        told = ", ".join(str(o.get_partial_shape()) for o in model.outputs)
        raise Refused(f"the card states {len(card.labels)} labels, and the outputs have the shapes {told}")
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return {"kind": "onnx", "layout": layout, "output": fitting[0], "result": card.result}


def _layout(node: Any, to: PictureInput) -> str:
    shape = node.get_partial_shape()
    if node.get_element_type().get_type_name() != "f32":
        raise Refused(
            f"its input is {node.get_element_type().get_type_name()}; a picture of float32 is expected"
        )
    if shape.rank.is_dynamic or len(shape) != 4:
        raise Refused(f"its input has the shape {shape}; (batch, channels, rows, columns) is expected")
    for layout, channels in (("NCHW", shape[1]), ("NHWC", shape[3])):
        if channels.is_static and channels.get_length() == to.channels:
            return layout
    raise Refused(f"its input has the shape {shape}, and the card states {to.channels} channels")


def _greys(side: int) -> Array:
    """(2, side, side) pictures from a formula (no film leaves the house): waves and grain."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    grain = np.random.default_rng(20).normal(size=(2, side, side))
    waves = [np.cos(2 * np.pi * (k + 1) * columns) * np.sin(np.pi * rows) for k in range(2)]
    return np.clip(0.5 + 0.4 * np.stack(waves) + 0.05 * grain, 0, 1).astype(np.float32)


def _golden(release: Release) -> None:
    """What the release answers to fixed pictures. raises Refused when it answers the same to different ones."""
    detector = opened(release, "openvino")
    greys = _greys(detector.input.side)
    logits = np.stack([detector.answered(grey) for grey in greys])
    if not np.isfinite(logits).all():
        raise Refused("its answers are not numbers: the weights are damaged")
    if np.abs(logits[0] - logits[1]).max() < _ALIKE:
        raise Refused(
            "it answers the same to different pictures: is the card's range the one it was trained with?"
        )
    np.savez_compressed(release.folder / "golden.npz", greys=greys, logits=logits)


def _card_text(content: dict[str, Any]) -> str:
    origin = content["origin"]
    unseen = [
        label for i, label in enumerate(content["labels"]) if label and i not in content["outputs"].values()
    ]
    return f"""# {content["detector"]} {content["version"]}: imported weights

* Kind {origin["kind"]}, file {origin["file"]}, sha256 {origin["sha256"]}
* Source: {origin["source"]}
* Licence: {origin["license"]}
* Input: {content["input"]}
* Findings: {", ".join(content["findings"])}
* Labels that triage does not carry: {", ".join(unseen) or "none"}
* Not covered: {", ".join(content["not_covered"])}
* Films are judged first by the gate of {content["gate_of"]}.

Nothing was measured here. Until `triage models calibrate` has fitted it on the site's own cases its probabilities mean
nothing by themselves, no finding is pushed, and it may run in shadow alone.
"""
