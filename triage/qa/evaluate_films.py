"""Figures of a film detector on labelled cases, with intervals; what `triage evaluate chest_xray` prints.

Cases are a CSV (architecture 8): path, patient_id, one column per finding (1, 0, empty is not known), and if at
hand view, sex, age, source. Refused films count as unscored and are listed. View, folder and age may stand in
for a finding, so the figures are given by each of them too.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.detectors.protocol import FilmDetector
from triage.domain import statistics
from triage.domain.errors import Refused
from triage.domain.finding import FINDING_CODES, Finding
from triage.domain.image import Radiograph
from triage.domain.suitability import NotSuitableError
from triage.qa.film_report import write_report
from triage.qa.robustness import disturbed_scores, robustness

_MOST_CASES = 1_000_000
_TOO_FEW = 20  # positives under which a subgroup shows its count and no figure; standards 11.10
_AGES = ((0, 18), (18, 40), (40, 65), (65, 130))


@dataclass(frozen=True)
class Case:
    """One line of the cases file; labels hold what is known."""

    path: Path
    name: str  # as written in the file
    patient_id: str
    labels: Mapping[str, bool]
    groups: Mapping[str, str]  # view, sex, age, source


@dataclass
class Scored:
    """Cases with what the detector said, and the refused ones with why."""

    cases: list[Case] = field(default_factory=list)
    findings: list[dict[str, Finding]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)


def evaluate(
    cases_csv: Path,
    detector: FilmDetector,
    read: Callable[[Path], Radiograph],
    comparator: Path | None = None,
    out: Path | None = None,
    *,
    robust: bool = False,
) -> dict[str, Any]:
    """The whole evaluation as one JSON document; with `out` also the files of write_report there.

    read    one film of a path; may raise NotSuitableError or Refused, which lists the case as refused
    robust  every scored film once more under each disturbance: eleven times the time
    raises  Refused when the cases or the comparator cannot be read or name nothing that the detector finds
    """
    cases = read_cases(cases_csv)
    scored = score(cases, detector, read)
    other = read_comparator(comparator) if comparator else None
    document: dict[str, Any] = {"release": detector.release, "digest": detector.digest, "cases": len(cases)}
    document |= figures(scored, other)
    if robust:
        dice = np.random.default_rng(4)
        scores = [disturbed_scores(read(case.path), detector, dice) for case in scored.cases]
        document["robustness"] = robustness([case.labels for case in scored.cases], scores)
    if out is not None:
        write_report(out, document, _score_rows(scored), _curves(scored))
    return document


def read_cases(cases_csv: Path) -> list[Case]:
    """The labelled films of a cases file. raises Refused with the line that is wrong."""
    try:
        with cases_csv.open(newline="", encoding="utf-8-sig") as stream:
            return list(_cases(csv.DictReader(stream), cases_csv.parent))
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cases file {cases_csv} cannot be read: {error}") from error


def _cases(lines: csv.DictReader[str], folder: Path) -> Iterator[Case]:
    columns = set(lines.fieldnames or ())
    if not {"path", "patient_id"} <= columns:
        raise Refused("the cases file needs the columns path and patient_id")
    labelled = sorted(columns & set(FINDING_CODES))
    if not labelled:
        raise Refused(f"the cases file has no finding column; known are {', '.join(FINDING_CODES)}")
    for number, line in enumerate(lines, start=2):
        if number > _MOST_CASES:
            raise Refused(f"the cases file has more than {_MOST_CASES} lines")
        labels = {}
        for name in labelled:
            word = (line[name] or "").strip()
            if word not in ("", "0", "1", "0.0", "1.0"):
                raise Refused(f"line {number}: {name} is {word!r}; 1, 0 or empty is expected")
            if word:
                labels[name] = word.startswith("1")
        groups = {g: (line.get(g) or "").strip() for g in ("view", "sex", "source")}
        yield Case(
            path=folder / line["path"],
            name=line["path"],
            patient_id=line["patient_id"],
            labels=labels,
            groups={**groups, "age": _age_band(line.get("age") or "")},
        )


def _age_band(word: str) -> str:
    try:
        age = float(word)
    except ValueError:
        return ""
    return next((f"{low}-{high - 1}" for low, high in _AGES if low <= age < high), "")


def read_comparator(path: Path) -> dict[str, dict[str, float]]:
    """Probabilities of another detector by path or id (file name without ending), then by finding."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"comparator file {path} cannot be read: {error}") from error
    key = next((k for k in ("path", "id") if lines and k in lines[0]), None)
    if key is None:
        raise Refused("the comparator file needs a column path or id")
    return {
        line[key]: {name: float(line[name]) for name in line.keys() & FINDING_CODES.keys() if line[name]}
        for line in lines
    }


def score(cases: Sequence[Case], detector: FilmDetector, read: Callable[[Path], Radiograph]) -> Scored:
    """Every case through the detector; what it refuses is listed with the reader's reason."""
    scored = Scored()
    for case in cases:
        try:
            detection = detector.detect(read(case.path))
        except NotSuitableError as refusal:
            scored.refused.append({"path": case.name, "reason": refusal.answer.code.value})
            continue
        except (Refused, OSError) as error:
            reason = str(error) if isinstance(error, Refused) else f"cannot be read ({error.strerror})"
            scored.refused.append({"path": case.name, "reason": reason})
            continue
        scored.cases.append(case)
        scored.findings.append({f.name: f for f in detection.findings})
    return scored


def figures(scored: Scored, comparator: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, Any]:
    """`findings`, `mean_auc` and `refused` of the contract, with groups and comparison beside each finding."""
    names = [n for n in FINDING_CODES if any(n in f for f in scored.findings)]
    found = {}
    for name in names:
        rows = [i for i, case in enumerate(scored.cases) if name in case.labels]
        if rows:
            found[name] = _of_finding(scored, name, rows, comparator)
    areas = [f["auc"] for f in found.values() if f["auc"] is not None]
    document: dict[str, Any] = {
        "findings": found,
        "mean_auc": _rounded(float(np.mean(areas))) if areas else None,
        "refused": scored.refused,
    }
    if comparator is not None:
        compared = [f["comparator"]["auc"] for f in found.values() if f.get("comparator")]
        document["comparator_mean_auc"] = _rounded(float(np.mean(compared))) if compared else None
    return document


def _of_finding(
    scored: Scored, name: str, rows: list[int], comparator: Mapping[str, Mapping[str, float]] | None
) -> dict[str, Any]:
    truth, probability, flagged = _columns(scored, name, rows)
    result = _figures(truth, probability, flagged, scored.findings[rows[0]][name].threshold)
    result["groups"] = {
        group: {
            value: _group_figures(scored, name, [i for i in rows if scored.cases[i].groups[group] == value])
            for value in sorted({scored.cases[i].groups[group] for i in rows} - {""})
        }
        for group in ("view", "sex", "age", "source")
    }
    if comparator is not None:
        result["comparator"] = _compared(scored, name, rows, comparator)
    return result


def _columns(
    scored: Scored, name: str, rows: list[int]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.bool_]]:
    """Truth, calibrated probability and flag of the given cases."""
    return (
        np.array([scored.cases[i].labels[name] for i in rows]),
        np.array([scored.findings[i][name].probability for i in rows]),
        np.array([scored.findings[i][name].actionable for i in rows]),
    )


def _figures(
    truth: NDArray[np.bool_],
    probability: NDArray[np.float64],
    flagged: NDArray[np.bool_],
    threshold: float | None,
) -> dict[str, Any]:
    result: dict[str, Any] = {"n": len(truth), "positives": int(truth.sum()), "threshold": threshold}
    result |= _area(truth, probability)
    result |= _proportion("flagged", int(flagged.sum()), len(truth))
    if threshold is None:
        for word in ("sensitivity", "specificity", "ppv"):
            result |= {word: None, f"{word}_low": None, f"{word}_high": None}
    else:
        result |= _proportion("sensitivity", int((flagged & truth).sum()), int(truth.sum()))
        result |= _proportion("specificity", int((~flagged & ~truth).sum()), int((~truth).sum()))
        result |= _proportion("ppv", int((flagged & truth).sum()), int(flagged.sum()))
    both = 0 < truth.sum() < len(truth)
    intercept, slope = statistics.calibration_line(truth, probability) if both else (math.nan, math.nan)
    result["average_precision"] = _rounded(statistics.average_precision(truth, probability)) if both else None
    result["calibration"] = {
        "ece": _rounded(statistics.expected_calibration_error(truth, probability)),
        "brier": _rounded(statistics.brier(truth, probability)),
        "intercept": _rounded(intercept),
        "slope": _rounded(slope),
    }
    return result


def _area(truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> dict[str, float | None]:
    if not 0 < truth.sum() < len(truth):
        return {"auc": None, "auc_low": None, "auc_high": None}
    area = statistics.auc(truth, probability)
    return {"auc": _rounded(area.value), "auc_low": _rounded(area.low), "auc_high": _rounded(area.high)}


def _proportion(word: str, successes: int, n: int) -> dict[str, float | None]:
    share = statistics.wilson(successes, n)
    return {
        word: _rounded(share.value),
        f"{word}_low": _rounded(share.low),
        f"{word}_high": _rounded(share.high),
    }


def _group_figures(scored: Scored, name: str, rows: list[int]) -> dict[str, Any]:
    truth, probability, _ = _columns(scored, name, rows)
    counts = {"n": len(truth), "positives": int(truth.sum())}
    if truth.sum() < _TOO_FEW or truth.all():
        return {**counts, "auc": None, "auc_low": None, "auc_high": None, "too_few": True}
    return {**counts, **_area(truth, probability), "too_few": False}


def _compared(
    scored: Scored, name: str, rows: list[int], comparator: Mapping[str, Mapping[str, float]]
) -> dict[str, Any] | None:
    """Both detectors on the cases that both scored; None where the comparator has no such column."""
    theirs: list[float] = []
    shared: list[int] = []
    for i in rows:
        case = scored.cases[i]
        scores = comparator.get(case.name) or comparator.get(Path(case.name).stem) or {}
        if name in scores:
            theirs.append(scores[name])
            shared.append(i)
    truth = np.array([scored.cases[i].labels[name] for i in shared], dtype=bool)
    if not 0 < truth.sum() < len(truth):
        return None
    ours = [scored.findings[i][name].probability for i in shared]
    paired = statistics.paired_auc(truth, ours, theirs)
    return {
        "n": len(shared),
        "auc": _rounded(paired.second.value),
        "auc_low": _rounded(paired.second.low),
        "auc_high": _rounded(paired.second.high),
        "ours": _rounded(paired.first.value),
        "difference": _rounded(paired.difference),
        "difference_low": _rounded(paired.low),
        "difference_high": _rounded(paired.high),
        "p": _rounded(paired.p),
    }


def _score_rows(scored: Scored) -> list[dict[str, Any]]:
    return [
        {"path": case.name, **{name: round(f.probability, 6) for name, f in found.items()}}
        for case, found in zip(scored.cases, scored.findings, strict=True)
    ]


def _curves(scored: Scored) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.float64]]]:
    """Truth and probability of each finding that has both classes: what the plots are drawn from."""
    curves = {}
    for name in FINDING_CODES:
        rows = [i for i, c in enumerate(scored.cases) if name in c.labels and name in scored.findings[i]]
        if rows:
            truth, probability, _ = _columns(scored, name, rows)
            if 0 < truth.sum() < len(truth):
                curves[name] = (truth, probability)
    return curves


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
