"""Radiologists' boxes of opacities as masks on the prepared squares: where to look, for films of train and validation."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triage.detectors._film import SIDE, prepare

# Names under which an opacity of the lung was boxed; boxes of the other findings are too few to teach anything.
OPACITIES = ("lung_opacity", "pneumonia", "infiltration", "consolidation")


def load_boxes(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """By film id a (SIDE, SIDE) mask, 255 inside any box of an opacity; films of the test part are left out."""
    with (folder / "index.csv").open(newline="") as stream:
        files = {r["id"]: r["file"] for r in csv.DictReader(stream) if r["split"] != "test"}
    found: dict[str, list[tuple[float, ...]]] = {}
    with (folder / "boxes.csv").open(newline="") as stream:
        for r in csv.DictReader(stream):
            if r["id"] in files and r["finding"] in OPACITIES:
                found.setdefault(r["id"], []).append(tuple(float(r[k]) for k in "xywh"))
    return {name: _mask(folder / files[name], boxes) for name, boxes in found.items()}


def _mask(file: Path, boxes: list[tuple[float, ...]]) -> NDArray[np.uint8]:
    """Boxes are parts of the received picture; the square shows it without its rims."""
    grey = np.asarray(Image.open(file).convert("L"), dtype=np.float32) / 255
    rows, columns = grey.shape
    top, bottom, left, right = prepare(grey).box
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for x, y, w, h in boxes:
        down = [np.clip((v * rows - top) / (bottom - top), 0, 1) for v in (y, y + h)]
        across = [np.clip((v * columns - left) / (right - left), 0, 1) for v in (x, x + w)]
        (a, b), (c, d) = ((round(v * SIDE) for v in ends) for ends in (down, across))
        mask[a:b, c:d] = 255
    return mask


def stacked(boxes: dict[str, NDArray[np.uint8]], ids: list[str]) -> NDArray[np.uint8]:
    """(films, 1, SIDE, SIDE) masks of these films, empty where none is known."""
    empty = np.zeros((SIDE, SIDE), np.uint8)
    return np.stack([boxes.get(name, empty) for name in ids])[:, None]
