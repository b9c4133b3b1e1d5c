"""Films for training and evaluation: prepared once, kept in a cache outside the repository, with masked labels.

Labels are 1, 0 or nan (not known, never negative). What every number below fights is in the README of the film
set: folder, view, resolution and age stand in for findings unless they are weighted or masked away.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triage.detectors._film import SIDE, prepare

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "cxr"
FINDINGS = (
    "pneumothorax", "effusion", "consolidation", "infiltration", "lung_opacity", "pneumonia", "edema",
    "atelectasis", "cardiomegaly", "nodule", "mass", "emphysema", "fibrosis", "pleural_thickening", "hernia",
    "abnormal",
)  # fmt: skip
NIH14 = tuple(f for f in FINDINGS if f not in ("lung_opacity", "abnormal"))
# Learned from, never shown: they teach anatomy, and the child's pneumonia keeps its own head so that the
# hospital of the children cannot stand in for the finding.
AUXILIARY = ("no_finding", "child_pneumonia", "female", "ap_view", "age")


@dataclass(frozen=True, eq=False)
class Films:
    """squares (n, SIDE, SIDE) uint8; labels (n, findings + auxiliary) with nan; the rest are (n,) columns."""

    ids: list[str]
    squares: NDArray[np.uint8]
    labels: NDArray[np.float32]
    source: NDArray[np.str_]  # nih, nih64, guangzhou, hannover, phantom
    stratum: NDArray[np.str_]  # what must not stand in for a finding: folder and view
    split: NDArray[np.str_]
    fold: NDArray[np.int64]  # -1 where the film set gives none
    core: NDArray[np.bool_]
    view: NDArray[np.str_]
    patient: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Films:
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Films(
            [self.ids[i] for i in index], self.squares[index], self.labels[index], self.source[index],
            self.stratum[index], self.split[index], self.fold[index], self.core[index], self.view[index],
            self.patient[index],
        )  # fmt: skip


def join(first: Films, second: Films) -> Films:
    columns = ("squares", "labels", "source", "stratum", "split", "fold", "core", "view", "patient")
    joined = {c: np.concatenate([getattr(first, c), getattr(second, c)]) for c in columns}
    return Films(ids=first.ids + second.ids, **joined)


def load_films(folder: Path, cache: Path) -> Films:
    """Every film of the set at `folder`, prepared; the squares are kept in `cache` for the next run."""
    with (folder / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return Films(
        ids=[r["id"] for r in rows],
        squares=_squares(folder, rows, cache / f"films-{SIDE}.npy"),
        labels=np.array([_labels(r) for r in rows], dtype=np.float32),
        source=np.array([r["source"] for r in rows]),
        stratum=np.array([f"{r['selection']} {r['view']}" for r in rows]),
        split=np.array([r["split"] for r in rows]),
        fold=np.array([int(r["fold"]) if r["fold"] else -1 for r in rows]),
        core=np.array([r["test_core"] == "1" for r in rows]),
        view=np.array([r["view"] for r in rows]),
        patient=np.array([r["patient"] for r in rows]),
    )


def _squares(folder: Path, rows: list[dict[str, str]], cache: Path) -> NDArray[np.uint8]:
    if cache.exists():
        return np.load(cache, mmap_mode="r")
    squares = np.empty((len(rows), SIDE, SIDE), dtype=np.uint8)
    for i, row in enumerate(rows):
        grey = np.asarray(Image.open(folder / row["file"]).convert("L"), dtype=np.float32) / 255
        squares[i] = np.rint(prepare(grey).square * 255)
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.save(cache, squares)
    return squares


def _labels(row: dict[str, str]) -> list[float]:
    known = {f: float(row[f]) if row[f] else np.nan for f in (*FINDINGS, "no_finding")}
    child = row["source"] == "guangzhou"
    if child:
        known = {**dict.fromkeys(known, np.nan), "child_pneumonia": known["pneumonia"]}
    auxiliary = {
        "no_finding": known["no_finding"],
        "child_pneumonia": known.get("child_pneumonia", np.nan),
        "female": {"F": 1.0, "M": 0.0}.get(row["sex"], np.nan),
        "ap_view": np.nan if child else float(row["view"] == "AP"),
        "age": np.clip(float(row["age"]) / 100, 0, 1) if row["age"] else np.nan,
    }
    return [known[f] for f in FINDINGS] + [auxiliary[a] for a in AUXILIARY]


def balancing_weights(films: Films) -> NDArray[np.float32]:
    """(n, labels) weights under which no label depends on folder or view.

    In each stratum positives and negatives are brought to the label's overall odds (inverse propensity,
    clipped): a network then gains nothing from telling the strata apart.
    """
    weights = np.ones_like(films.labels)
    known = ~np.isnan(films.labels)
    for column in range(len(FINDINGS)):
        label = films.labels[:, column]
        overall = label[known[:, column]].mean()
        for stratum in np.unique(films.stratum):
            here = (films.stratum == stratum) & known[:, column]
            if not here.any():
                continue
            rate = np.clip(label[here].mean(), 0.005, 0.995)
            weights[here, column] = np.where(label[here] > 0.5, overall / rate, (1 - overall) / (1 - rate))
    return np.clip(weights, 0.2, 5.0)
