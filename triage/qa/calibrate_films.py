"""Calibration and operating points of a film release on the site's own cases: a new release, with what it rests on.

The same cases file as `evaluate`. Each finding with enough films of both kinds gets a Platt line and cuts; the others
keep what they had. At most one finding of a priority class is pushed, since each is measured with its class's budget.
source  standards 11.4, 11.5, 11.10, 13.3
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.detectors.calibration import (
    ENOUGH,
    LIMITS,
    Calibration,
    Platt,
    fit_platt,
    operating_point,
    pushed,
    threshold_within_budget,
)
from triage.detectors.protocol import FilmDetector
from triage.detectors.releases import Release, new_folder, seal_release
from triage.domain import statistics
from triage.domain.errors import Refused
from triage.domain.finding import FINDING_CODES
from triage.domain.image import Radiograph
from triage.qa.evaluate_films import Scored, read_cases, score

_RESAMPLES = 200
_CERTAIN = 1e-7


def calibrate(
    release: Release,
    detector: FilmDetector,
    cases_csv: Path,
    read: Callable[[Path], Radiograph],
    models: Path,
    version: str,
    now: datetime,
) -> dict[str, Any]:
    """Write models/chest_xray/<version>: the same weights, calibrated; returns what was measured.

    raises  Refused when no finding has ENOUGH positives and negatives among the films that were not refused
    """
    scored = score(read_cases(cases_csv), detector, read)
    calibration, measured = fitted(scored, Calibration.from_release(release.content))
    if not any(row["calibrated"] for row in measured.values()):
        counts = ", ".join(f"{name} {row['positives']} of {row['n']}" for name, row in measured.items())
        raise Refused(
            f"no finding has {ENOUGH} positive and {ENOUGH} negative films in {cases_csv.name} (positives: "
            f"{counts or 'none'}; {len(scored.refused)} films refused): add cases, then calibrate"
        )
    site = {
        "of": release.title, "of_digest": release.digest, "at": now.isoformat(timespec="seconds"),
        "cases": len(scored.cases), "patients": len({c.patient_id for c in scored.cases}),
        "refused": len(scored.refused),
        "cases_sha256": hashlib.sha256(cases_csv.read_bytes()).hexdigest(),
    }  # fmt: skip
    content = {
        **{k: v for k, v in release.content.items() if k != "files"},
        **calibration.as_release(),
        "version": version, "calibrated": True, "operating_points": measured, "site_calibration": site,
    }  # fmt: skip
    with new_folder(models, release.detector, version) as folder:
        for name in release.content["files"]:
            shutil.copyfile(release.folder / name, folder / name)
        (folder / "card.md").write_text(_card(release, content), encoding="utf-8")
        made = seal_release(folder, content)
    return {"release": made.title, "digest": made.digest, "findings": measured, "site_calibration": site}


def fitted(scored: Scored, before: Calibration) -> tuple[Calibration, dict[str, dict[str, Any]]]:
    """Lines and points of every finding, and what each rests on and gives on these films."""
    lines, points = dict(before.lines), dict(before.points)
    measured: dict[str, dict[str, Any]] = {}
    fits: dict[str, tuple[NDArray[np.bool_], NDArray[np.float64]]] = {}
    for name in before.lines:
        truth, logits, patients = _known(scored, name)
        row: dict[str, Any] = {"n": len(truth), "positives": int(truth.sum()), "calibrated": False}
        measured[name] = row
        if min(truth.sum(), (~truth).sum()) < ENOUGH:
            continue
        lines[name] = fit_platt(truth, logits)
        probability = np.array([lines[name].probability(float(v)) for v in logits])
        fits[name] = truth, probability
        row |= {"calibrated": True} | _intervals(truth, logits, patients, lines[name])
        row |= _at_budget(name, truth, probability)
    flagging = pushed(measured)
    for name, (truth, probability) in fits.items():
        cut = measured[name]["cut"] if name in flagging else None
        points[name] = operating_point(probability[truth], cut)
        measured[name]["pushed"] = name in flagging
    return Calibration(lines, points), measured


def _known(scored: Scored, name: str) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.str_]]:
    rows = [
        (c, f[name])
        for c, f in zip(scored.cases, scored.findings, strict=True)
        if name in c.labels and name in f
    ]
    truth = np.array([c.labels[name] for c, _ in rows], dtype=bool)
    raw = np.clip([f.probability_raw for _, f in rows], _CERTAIN, 1 - _CERTAIN)
    return truth, np.log(raw / (1 - raw)), np.array([c.patient_id for c, _ in rows])


def _intervals(
    truth: NDArray[np.bool_], logits: NDArray[np.float64], patients: NDArray[np.str_], line: Platt
) -> dict[str, Any]:
    """AUC (DeLong) and 95 % intervals of the line, by bootstrap over patients."""
    area = statistics.auc(truth, logits)
    _, group = np.unique(patients, return_inverse=True)
    rows_of = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    dice = np.random.default_rng(11)
    drawn: list[Platt] = []
    for _ in range(_RESAMPLES):
        rows = np.concatenate([rows_of[g] for g in dice.integers(0, len(rows_of), len(rows_of))])
        if 0 < truth[rows].sum() < len(rows):
            drawn.append(fit_platt(truth[rows], logits[rows]))
    ends = {
        word: [round(float(v), 4) for v in np.quantile([asdict(p)[word] for p in drawn], (0.025, 0.975))]
        for word in ("slope", "intercept")
    }
    return {
        "auc": round(area.value, 4), "auc_low": round(area.low, 4), "auc_high": round(area.high, 4),
        "slope": round(line.slope, 4), "slope_interval": ends["slope"],
        "intercept": round(line.intercept, 4), "intercept_interval": ends["intercept"],
    }  # fmt: skip


def _at_budget(name: str, truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> dict[str, Any]:
    """What the finding would give if its class's whole budget were its own; nothing for those never pushed."""
    limits = LIMITS.get(FINDING_CODES[name].priority_class)
    if limits is None:
        return {}
    cut = threshold_within_budget(probability, limits.budget)
    flagged = probability >= cut
    hits = int((flagged & truth).sum())
    row: dict[str, Any] = {
        "budget": limits.budget,
        "cut": cut,
        "sensitivity_floor": limits.sensitivity,
        "ppv_floor": limits.ppv,
    }
    for word, part, whole in (
        ("flagged", int(flagged.sum()), len(truth)),
        ("sensitivity", hits, int(truth.sum())),
        ("ppv", hits, int(flagged.sum())),
    ):
        share = statistics.wilson(part, whole)
        row |= {
            word: _rounded(share.value),
            f"{word}_low": _rounded(share.low),
            f"{word}_high": _rounded(share.high),
        }
    return row


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _card(release: Release, content: dict[str, Any]) -> str:
    before = release.folder / "card.md"
    site = content["site_calibration"]
    return (
        (before.read_text(encoding="utf-8") if before.exists() else f"# {release.title}\n")
        + f"\n## {content['version']}: calibrated on the site's own cases\n\n"
        + f"{site['cases']} films of {site['patients']} patients, {site['refused']} refused; fitted and measured on the "
        + "same films, so the figures are a little too good.\n\n"
        + "| finding | films | positives | AUC | sensitivity | PPV | pushed |\n| --- | --- | --- | --- | --- | --- | --- |\n"
        + "".join(_line(name, row) for name, row in content["operating_points"].items())
    )


def _line(name: str, row: dict[str, Any]) -> str:
    def told(word: str) -> str:
        if row.get(word) is None:
            return "-"
        return f"{row[word]:.2f} ({row[f'{word}_low']:.2f} to {row[f'{word}_high']:.2f})"

    pushed = "not calibrated" if not row["calibrated"] else "yes" if row["pushed"] else "no"
    cells = (name, row["n"], row["positives"], told("auc"), told("sensitivity"), told("ppv"), pushed)
    return f"| {' | '.join(str(c) for c in cells)} |\n"
