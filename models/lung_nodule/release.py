"""Last step of the training: calibration and operating points on the val split, export, seal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import build
from finder import WIDTHS as FINDER_WIDTHS
from judge import WIDTHS as JUDGE_WIDTHS
from luna16 import LUNA16_VAL
from train import PHANTOMS, Sources, judge_paths

from triage.detectors import _runtime
from triage.detectors._grid import canonical
from triage.detectors._nets3d import CandidateJudge, JudgePanel, NoduleFinder
from triage.detectors.lung_nodule import LOOK, find_places, judged
from triage.detectors.lungs import find_lungs
from triage.detectors.releases import seal_release
from triage.domain.image import Volume
from triage.phantom.person import make_thorax, nodule_truth
from triage.phantom.volume import render_volume
from triage.qa.evaluate_scans import ScanCase, read_cases, read_luna16
from triage.qa.metaimage import read_metaimage

Mark = tuple[Any, float, bool]  # LPS mm, diameter mm, excluded

PASSES = 2  # of the finder, the second mirrored and half a cell further: card.md
MIRRORED = 24  # places judged over mirror images, too; 64 would give the same on val
FINDER_FLOOR = -4.0  # logit; below it a peak is nothing
NODULES_A_SCAN = 1.3  # LUNA16: 1,186 nodules in 888 scans; what the calibrated probability assumes
FALSE_HIGH, FALSE_MODERATE = (
    0.5,
    2.0,
)  # candidates per val scan that may lie in or above these bands without a nodule
VAL_PHANTOMS = range(9100, 9104)  # odd seeds with nodules; not among the training's


def trained(work: Path, judges: int) -> dict[str, Any]:
    """Finder and judge with their weights; the judge is the mean of several when more than one is asked for."""
    from safetensors.torch import load_file

    finder = _runtime.load_safetensors(NoduleFinder(FINDER_WIDTHS), work / "finder.safetensors")
    states = [load_file(path) for path in judge_paths(work, judges)]
    judge = CandidateJudge(JUDGE_WIDTHS) if judges == 1 else JudgePanel(JUDGE_WIDTHS, judges)
    for one, state in zip([judge] if judges == 1 else judge.judges, states, strict=True):
        one.load_state_dict(state)
    return {"finder": finder, "judge": judge}


def export(modules: dict[str, Any], target: Path) -> None:
    """OpenVINO IR and safetensors in fp16, and the golden pair."""
    import openvino
    from safetensors.torch import save_file

    golden: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    for part, shape, dynamic in (
        ("finder", (1, 1, 48, 40, 56), [-1, 1, -1, -1, -1]),
        ("judge", (3, 2, LOOK, LOOK, LOOK), [-1, 2, LOOK, LOOK, LOOK]),
    ):
        module = modules[part]
        state = {k: v.half() if v.is_floating_point() else v for k, v in module.state_dict().items()}
        save_file(state, str(target / f"{part}.safetensors"))
        (target / f"{part}.safetensors").chmod(0o644)  # safetensors writes for the owner alone
        _runtime.load_safetensors(module, target / f"{part}.safetensors").eval()
        values = _smooth(rng, shape)
        example = torch.from_numpy(values)
        model = openvino.convert_model(module, example_input=example, input=[(dynamic, openvino.Type.f32)])
        openvino.save_model(model, target / f"{part}.xml", compress_to_fp16=True)
        with torch.inference_mode():
            golden[f"{part}_input"], golden[f"{part}_output"] = values.astype(np.float16), None
            output = module(torch.from_numpy(values.astype(np.float16).astype(np.float32)))
        golden[f"{part}_output"] = output.numpy()
    np.savez_compressed(target / "golden.npz", **golden)


def _smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    from scipy import ndimage as ndi

    noise = ndi.gaussian_filter(rng.standard_normal(shape), [0, 0, 2, 2, 2])
    return np.clip(0.3 + noise / noise.std() * 0.25, 0, 1).astype(np.float32)


def candidates(network: Any, judge: Any, volume: Volume, marks: list[Mark]) -> list[dict[str, float]]:
    """Every candidate of one scan with its logits and whether it lies on a nodule (1), on nothing (0); marks left out."""
    source = canonical(volume.hu, volume.affine)
    lungs = find_lungs(source)
    rows, taken = [], set()
    found = find_places(network, source, lungs, FINDER_FLOOR, PASSES)
    places = judged(judge, source, found, MIRRORED)
    for place in sorted(places, key=lambda p: -p.judge):
        gaps = [np.linalg.norm(np.subtract(place.center_lps_mm, p)) for p, _, _ in marks]
        hits = [i for i, g in enumerate(gaps) if g < max(marks[i][1] / 2, 2.0)]
        real = [i for i in hits if not marks[i][2]]
        if hits and not real:
            continue
        if real and taken.issuperset(real):
            continue
        taken.update(real)
        rows.append({"finder": place.finder, "judge": place.judge, "nodule": float(bool(real))})
    return rows


def val_volumes(sources: Sources, work: Path) -> Iterator[tuple[str, Volume, list[Mark]]]:
    """(kind, volume, marks) of the val cases, more of them in work/val2, LUNA16's subset 8, and phantoms."""
    if sources.data:
        folder = work / "val"
        if not (folder / "real" / "cases.csv").exists():
            build(sources.data, "val", folder)
        more = [work / "val2" / "inserted"]  # cases of one's own in the same form, where there are any
        for part in [folder / "inserted", folder / "real", *(m for m in more if m.exists())]:
            for case in read_cases(part / "cases.csv", part / "nodules.csv"):
                yield part.name, read_metaimage(case.path), _marks(case)
    if sources.luna16:
        for case in read_luna16(sources.luna16):
            if case.path.parent.name == f"subset{LUNA16_VAL}":
                yield "luna16", read_metaimage(case.path), _marks(case)
    for seed in VAL_PHANTOMS:
        assert seed not in PHANTOMS
        thorax = make_thorax(seed, ["nodule"] if seed % 2 else [])
        marks = [(np.array(c), d, False) for c, d, _, _ in nodule_truth(thorax)]
        yield "phantom", render_volume(thorax, slices=120), marks


def _marks(case: ScanCase) -> list[Mark]:
    return [(np.array(r.center_lps_mm), r.diameter_mm, r.excluded) for r in case.references]


def val_rows(sources: Sources, work: Path, finder: Any, judge: Any) -> tuple[list[dict[str, Any]], int]:
    """(candidates of all val volumes, number of volumes)."""
    rows: list[dict[str, Any]] = []
    count = 0
    for kind, volume, marks in val_volumes(sources, work):
        rows += [{**f, "scan": count, "kind": kind} for f in candidates(finder, judge, volume, marks)]
        count += 1
    return rows, count


def calibrate(rows: list[dict[str, Any]], scans: int) -> dict[str, Any]:
    """Logistic weights of the two logits, and band cuts, from candidates of the val volumes."""
    x = np.array([[r["finder"], r["judge"], 1.0] for r in rows])
    y = np.array([r["nodule"] for r in rows])
    # Inserted cases hold seven nodules each; weights bring the share back to that of a real population.
    weight = np.where(y == 1, NODULES_A_SCAN * scans / max(1.0, y.sum()), 1.0)
    beta = np.array([0.3, 0.7, -1.0])
    for _ in range(60):  # Newton with a small ridge towards the start
        p = 1 / (1 + np.exp(-x @ beta))
        gradient = x.T @ (weight * (p - y)) + 0.5 * (beta - [0.3, 0.7, -1.0])
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + 0.5 * np.eye(3)
        beta -= np.linalg.solve(hessian, gradient)
    p = 1 / (1 + np.exp(-x @ beta))
    false = np.sort(p[y == 0])[::-1]

    def cut(rate: float) -> float:
        return round(float(false[min(len(false) - 1, round(rate * scans))]) + 1e-4, 4)

    high, moderate = cut(FALSE_HIGH), cut(FALSE_MODERATE)
    found = {
        "high": float((p[y == 1] >= high).sum() / y.sum()),
        "moderate": float((p[y == 1] >= moderate).sum() / y.sum()),
    }
    return {
        "calibration": {"finder": float(beta[0]), "judge": float(beta[1]), "bias": float(beta[2])},
        "bands": {"high": high, "moderate": moderate},
        "val": {
            "volumes": scans,
            "candidates": len(rows),
            "nodules_among_candidates": int(y.sum()),
            "share_in_band": found,
        },
    }


def release(sources: Sources, work: Path, target: Path, judges: int, *, threads: int) -> None:
    """Writes and seals `target`."""
    target.mkdir(parents=True, exist_ok=True)
    export(trained(work, judges), target)
    networks = [_runtime.OpenVinoNetwork(target / f"{part}.xml", threads) for part in ("finder", "judge")]
    rows, scans = val_rows(sources, work, networks[0], networks[1])
    (work / "val_rows.json").write_text(json.dumps(rows))
    content = {
        "detector": "lung_nodule",
        "version": target.name,
        "not_covered": [],
        "finder_floor": FINDER_FLOOR,
        "passes": PASSES,
        "mirrored": MIRRORED,
        "floor": 0.004,
        "most_findings": 24,
        "widths": {"finder": list(FINDER_WIDTHS), "judge": list(JUDGE_WIDTHS)},
        "judges": judges,
        **calibrate(rows, scans),
    }
    seal_release(target, content)
    print(json.dumps({k: content[k] for k in ("calibration", "bands", "val")}, indent=1))
