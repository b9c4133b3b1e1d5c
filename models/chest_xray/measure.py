"""The tables of the card: a release on films that it never saw, each figure with n and interval.

    python -m models.chest_xray.measure [--release FOLDER] [--out FILE.json]

test_core first, then the whole test part, by view, beside the comparator (paired on the same films) and the floor
of trivial features; the gate by class and source; pointing game against the radiologists' boxes; phantoms;
robustness. Every film goes the product's way (`detect`), from 512 pixels.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.chest_xray.films import NIH14, SHARED
from models.chest_xray.gate import gate_images
from triage.detectors.chest_xray import ChestXray, load
from triage.detectors.releases import active_release
from triage.domain.image import Radiograph
from triage.domain.suitability import NotSuitableError
from triage.phantom import make_thorax, render_radiograph
from triage.qa.evaluate_films import Scored, figures, read_cases, read_comparator, score
from triage.qa.robustness import disturbed_scores, robustness

Grey = NDArray[np.float32]
# Highest mean AUC of models on view, sex, age, folder, trivial numbers or thumbnails (README of the film set).
FLOOR = {"test": 0.641, "core": 0.590}


def read_picture(path: Path) -> Radiograph:
    return Radiograph(np.asarray(Image.open(path).convert("L"), dtype=np.float32) / 255)


def write_cases(folder: Path, rows: list[dict[str, str]], out: Path) -> Path:
    """A cases file of architecture 8 over rows of the film set's index."""
    labels = [c for c in rows[0] if c in (*NIH14, "lung_opacity", "abnormal")]
    with out.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "patient_id", "view", "sex", "age", "source", *labels])
        for r in rows:
            film = [folder / r["file"], r["patient"], r["view"], r["sex"], r["age"], r["selection"]]
            writer.writerow([*film, *(r[c] for c in labels)])
    return out


def findings_on_test(folder: Path, detector: ChestXray, work: Path) -> dict[str, Any]:
    """Figures on test_core, the whole test part, and test_core by view; every film is scored once."""
    with (folder / "index.csv").open(newline="") as stream:
        test = [r for r in csv.DictReader(stream) if r["split"] == "test" and r["source"] == "nih"]
    core = {r["id"] for r in test if r["test_core"] == "1"}
    scored = score(read_cases(write_cases(folder, test, work / "cases.csv")), detector, read_picture)
    comparator = read_comparator(folder / "comparator_predictions.csv")
    of_core = [i for i, case in enumerate(scored.cases) if case.path.stem in core]
    from_behind = [i for i in of_core if scored.cases[i].groups["view"] == "PA"]
    return {
        "core": figures(_kept(scored, of_core), comparator),
        "test": figures(scored, comparator),
        "core_PA": figures(_kept(scored, from_behind), comparator),
    }


def _kept(scored: Scored, rows: list[int]) -> Scored:
    return Scored([scored.cases[i] for i in rows], [scored.findings[i] for i in rows], scored.refused)


def gate_on_test(folder: Path, detector: ChestXray) -> dict[str, Any]:
    """Refusals by class, and by class and source, on the test split of the gate set; films of the film set too."""
    table: dict[str, Counter[str]] = {}
    for kind, source, grey in gate_images(folder.parent / "gate", "test"):
        # The set's pictures are at most 240 pixels long; the product refuses those by size alone, so they are enlarged.
        factor = 480 / min(grey.shape)
        picture = Image.fromarray(grey).resize((round(grey.shape[1] * factor), round(grey.shape[0] * factor)))
        answer = _answer(detector, np.asarray(picture, np.float32))
        table.setdefault(kind, Counter())[answer] += 1
        table.setdefault(f"{kind} / {source}", Counter())[answer] += 1
    return {kind: dict(answers) for kind, answers in sorted(table.items())}


def _answer(detector: ChestXray, grey: Grey) -> str:
    try:
        notes = detector.detect(Radiograph(grey)).notes
    except NotSuitableError as refusal:
        return refusal.answer.code.value
    return "accepted" + "".join(f", {n}" for n in notes)


def gate_on_films(folder: Path, detector: ChestXray) -> dict[str, Any]:
    """Acceptance of real films of the test part, as they are and disturbed in ways that the gate must see."""
    with (folder / "index.csv").open(newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r["split"] == "test"]
    changes: dict[str, Callable[[Grey], Grey]] = {
        "adult frontal": lambda g: g, "inverted": lambda g: 1 - g, "rotated 90": lambda g: np.rot90(g, 1),
        "rotated 180": lambda g: np.rot90(g, 2), "rotated 270": lambda g: np.rot90(g, 3),
        "inverted and rotated 90": lambda g: np.rot90(1 - g, 1), "left half only": lambda g: g[:, : g.shape[1] // 2],
        "upper third": lambda g: g[: int(g.shape[0] * 0.45)],
    }  # fmt: skip
    table = {}
    for name, change in changes.items():
        chosen = [r for r in rows if r["source"] == "nih"][:: 1 if name == "adult frontal" else 4]
        answers = Counter(
            _answer(detector, np.ascontiguousarray(change(read_picture(folder / r["file"]).pixels)))
            for r in chosen
        )
        table[name] = dict(answers)
    children = [r for r in rows if r["source"] == "guangzhou"]
    table["child (one hospital)"] = dict(
        Counter(_answer(detector, read_picture(folder / r["file"]).pixels) for r in children)
    )
    return table


def pointing(folder: Path, detector: ChestXray) -> dict[str, Any]:
    """Does the peak of a finding's map lie in a radiologist's box; and the overlap of outline and boxes (IoU)."""
    with (folder / "index.csv").open(newline="") as stream:
        films = {r["id"]: r for r in csv.DictReader(stream) if r["split"] == "test"}
    boxes: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    with (folder / "boxes.csv").open(newline="") as stream:
        for r in csv.DictReader(stream):
            if r["id"] in films and r["finding"] in detector.findings:
                box = (float(r["x"]), float(r["y"]), float(r["w"]), float(r["h"]))
                boxes.setdefault((r["id"], r["finding"]), []).append(box)
    hits, overlaps, chance = Counter[str](), {}, Counter[str]()
    for (film, finding), where in boxes.items():
        pixels = read_picture(folder / films[film]["file"]).pixels
        truth = np.zeros(pixels.shape, bool)
        for x, y, w, h in where:
            rows, columns = pixels.shape
            truth[int(y * rows) : int((y + h) * rows), int(x * columns) : int((x + w) * columns)] = True
        try:
            outline = detector.place(Radiograph(pixels), finding).outline
        except NotSuitableError:
            continue
        drawn = Image.new("1", pixels.shape[::-1])
        ImageDraw.Draw(drawn).polygon(list(outline), fill=1)
        inside = np.asarray(drawn)
        column, row = (
            int(np.clip(np.mean(v), 0, 511)) for v in zip(*outline, strict=True)
        )  # middle of the outline
        hits[f"{finding} hit"] += int(truth[row, column])
        hits[f"{finding} n"] += 1
        chance[finding] += truth.mean()  # type: ignore[assignment]
        overlaps.setdefault(finding, []).append((truth & inside).sum() / (truth | inside).sum())
    return {
        f: {
            "n": hits[f"{f} n"],
            "hits": hits[f"{f} hit"],
            "by_chance": round(float(chance[f]), 1),
            "mean_iou": round(float(np.mean(v)), 3),
        }
        for f, v in overlaps.items()
    }


def phantoms(detector: ChestXray, seeds: range) -> dict[str, Any]:
    """Flags on phantoms of seeds that were not trained on, at the size that the product sends."""
    result: dict[str, Any] = {}
    for shown in ((), ("pneumothorax",), ("effusion",), ("cardiomegaly",), ("nodule",), ("consolidation",)):
        raised: Counter[str] = Counter()
        probabilities, refused = [], 0
        for seed in seeds:
            try:
                found = detector.detect(render_radiograph(make_thorax(seed, shown), size_px=2000)).findings
            except NotSuitableError:
                refused += 1
                continue
            raised.update(f.name for f in found if f.actionable)
            probabilities.append(
                {f.name: f.probability for f in found}[shown[0] if shown else "pneumothorax"]
            )
        result[" ".join(shown) or "none"] = {
            "n": len(seeds), "refused": refused, "actionable": dict(raised),
            "probability_min_median_max": [round(float(v), 3) for v in np.quantile(probabilities or [np.nan], [0, 0.5, 1])],
        }  # fmt: skip
    return result


def robust(folder: Path, detector: ChestXray) -> dict[str, Any]:
    """Mean AUC over the 14 findings on test_core films with one thing changed."""
    with (folder / "index.csv").open(newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r["test_core"] == "1"]
    dice = np.random.default_rng(4)
    scores = [disturbed_scores(read_picture(folder / r["file"]), detector, dice) for r in rows]
    return robustness([{f: r[f] == "1" for f in NIH14} for r in rows], scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--release", type=Path, default=active_release("chest_xray"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/cxr-measure"))
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument(
        "--only", nargs="*", default=["findings", "gate", "films", "pointing", "phantoms", "robustness"]
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    detector = load(arguments.release)
    steps: dict[str, Callable[[], Any]] = {
        "findings": lambda: findings_on_test(arguments.data, detector, arguments.work),
        "gate": lambda: gate_on_test(arguments.data, detector),
        "films": lambda: gate_on_films(arguments.data, detector),
        "pointing": lambda: pointing(arguments.data, detector),
        "phantoms": lambda: phantoms(detector, range(500, 500 + arguments.seeds)),
        "robustness": lambda: robust(arguments.data, detector),
    }
    for name in arguments.only:
        began = time.monotonic()
        result = steps[name]()
        (arguments.work / f"{name}.json").write_text(json.dumps(result, indent=1))
        print(f"== {name} ({time.monotonic() - began:.0f} s)")
        print(summary(result) if name == "findings" else json.dumps(result, indent=1), flush=True)


def summary(parts: dict[str, Any]) -> str:
    """The card's table in Markdown."""
    lines = [
        "| finding | n+ core | AUC core | comparator | p | n+ test | AUC test | comparator | AUC core PA only |",
        "| --- |" + " --- |" * 8,
    ]
    core, whole, frontal = (parts[p]["findings"] for p in ("core", "test", "core_PA"))
    for name in core:
        a, b = core[name], whole[name]
        ca, cb = a.get("comparator") or {}, b.get("comparator") or {}
        cells = [name, a["positives"], _auc(a), _auc(ca), ca.get("p", ""), b["positives"], _auc(b), _auc(cb)]
        lines.append("| " + " | ".join(str(c) for c in [*cells, _auc(frontal[name])]) + " |")
    means = []
    for part in ("core", "test", "core_PA"):
        found = parts[part]["findings"]
        ours = np.mean([found[f]["auc"] for f in NIH14])
        theirs = np.mean([found[f]["comparator"]["auc"] for f in NIH14])
        means.append(
            f"mean of the 14 on {part}: {ours:.3f}, comparator {theirs:.3f}, floor {FLOOR.get(part, float('nan'))}"
        )
    return "\n".join(lines + means)


def _auc(row: dict[str, Any]) -> str:
    return "–" if row.get("auc") is None else f"{row['auc']:.3f} ({row['auc_low']:.2f}–{row['auc_high']:.2f})"


if __name__ == "__main__":
    main()
