"""Figures of the CT nodule detector on labelled scans by LUNA16's rule; what `triage evaluate lung_nodule` prints.

Cases are a folder in the LUNA16 layout (subset*/*.mhd, annotations.csv, annotations_excluded.csv) or a CSV of path
and patient_id beside a nodules CSV (architecture 8; `texture` and `attachment` may stand there, too). Refused scans
count as unscored and are listed.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triage.detectors.protocol import ScanDetector
from triage.domain.errors import Refused
from triage.domain.finding import Finding
from triage.domain.froc import RATES, UNSIZED_MM, Candidate, Reference, ScanMatch, froc, match, sensitivities
from triage.domain.image import Volume
from triage.domain.suitability import NotSuitableError
from triage.qa.metaimage import read_metaimage

_NAMES = {"nodule", "mass"}
_NODULE_COLUMNS = ("path", "x", "y", "z", "diameter_mm", "texture", "attachment", "found", "probability")
_SIZES_MM = ((3.0, 6.0), (6.0, 8.0), (8.0, 20.0), (20.0, 30.0), (30.0, math.inf))  # standards 11.6


@dataclass(frozen=True)
class ScanCase:
    """One scan; name as written in the file or the series UID of LUNA16."""

    path: Path
    name: str
    patient_id: str
    references: tuple[Reference, ...] = ()


@dataclass
class _Scored:
    cases: list[ScanCase] = field(default_factory=list)
    matches: list[ScanMatch] = field(default_factory=list)
    findings: list[tuple[Finding, ...]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)


def evaluate(
    cases: Path,
    nodules: Path | None,
    detector: ScanDetector,
    read: Callable[[Path], Volume],
    out: Path | None = None,
) -> dict[str, Any]:
    """The whole evaluation as one JSON document; with `out` also evaluation.json, nodules.csv and candidates.csv there.

    read    one scan of a path; may raise NotSuitableError or Refused. MetaImage files are read here.
    raises  Refused when cases or nodules cannot be read
    """
    listed = read_luna16(cases) if cases.is_dir() else read_cases(cases, nodules)
    scored = _Scored()
    for case in listed:
        try:
            volume = read_metaimage(case.path) if case.path.suffix.lower() == ".mhd" else read(case.path)
            found = detector.detect(volume).findings
        except NotSuitableError as refusal:
            scored.refused.append({"path": case.name, "reason": refusal.answer.code.value})
            continue
        except Refused as refusal:
            scored.refused.append({"path": case.name, "reason": str(refusal)})
            continue
        kept = tuple(f for f in found if f.name in _NAMES and f.measurements is not None)
        scored.cases.append(case)
        scored.findings.append(kept)
        scored.matches.append(match([_candidate(f) for f in kept], case.references))
    document = {"release": detector.release, "digest": detector.digest, **_figures(scored)}
    if out is not None:
        _write(out, document, scored)
    return document


def _candidate(finding: Finding) -> Candidate:
    assert finding.measurements is not None
    return Candidate(finding.measurements.center_lps_mm, finding.probability)


def _figures(scored: _Scored) -> dict[str, Any]:
    curve = froc(scored.matches, [c.patient_id for c in scored.cases])
    rows = list(_nodule_rows(scored))
    return {
        "scans": len(scored.cases),
        "cpm": _number(curve.cpm),
        "cpm_low": _number(curve.cpm_low),
        "cpm_high": _number(curve.cpm_high),
        "froc": [[rate, _number(sensitivity)] for rate, sensitivity in curve.points],
        "by_size": _by_size(rows),
        "by_texture": _by_kind(scored, "texture"),
        "by_attachment": _by_kind(scored, "attachment"),
        "nodules": rows,
        "false_positives": [
            {
                "path": case.name,
                "count": len(m.false_positives),
                "actionable": _actionable_false(case, found),
            }
            for case, m, found in zip(scored.cases, scored.matches, scored.findings, strict=True)
        ],
        "refused": scored.refused,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _nodule_rows(scored: _Scored) -> Iterator[dict[str, Any]]:
    for case, matched in zip(scored.cases, scored.matches, strict=True):
        included = [r for r in case.references if not r.excluded]
        for reference, hit in zip(included, matched.hits, strict=True):
            x, y, z = reference.center_lps_mm
            yield {
                "path": case.name,
                "x": x,
                "y": y,
                "z": z,
                "diameter_mm": reference.diameter_mm,
                "texture": reference.texture,
                "attachment": reference.attachment,
                "found": hit is not None,
                "probability": hit,
            }


def _by_size(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nodules found at any probability, by diameter."""
    out = []
    for low, high in _SIZES_MM:
        inside = [r for r in rows if low <= r["diameter_mm"] < high]
        if inside:
            upper = None if math.isinf(high) else high
            found = sum(r["found"] for r in inside)
            out.append({"from_mm": low, "to_mm": upper, "nodules": len(inside), "found": found})
    return out


def _by_kind(scored: _Scored, of: str) -> list[dict[str, Any]]:
    """The curve of the nodules of each texture or attachment alone, with the false positives of all; [] where unsaid."""
    included = [[getattr(r, of) for r in c.references if not r.excluded] for c in scored.cases]
    out = []
    for kind in sorted({k for kinds in included for k in kinds} - {""}):
        of_kind = [
            ScanMatch(tuple(h for h, k in zip(m.hits, kinds, strict=True) if k == kind), m.false_positives)
            for m, kinds in zip(scored.matches, included, strict=True)
        ]
        curve = sensitivities(of_kind)
        hits = [h for m in of_kind for h in m.hits]
        out.append(
            {
                of: kind,
                "nodules": len(hits),
                "found": sum(h is not None for h in hits),
                "cpm": _number(float(curve.mean())),
                "froc": [[rate, _number(float(s))] for rate, s in zip(RATES, curve, strict=True)],
            }
        )
    return out


def _actionable_false(case: ScanCase, found: tuple[Finding, ...]) -> int:
    """Actionable findings of the scan that hit no reference, included or excluded."""
    return len(match([_candidate(f) for f in found if f.actionable], case.references).false_positives)


def read_cases(cases_csv: Path, nodules_csv: Path | None) -> list[ScanCase]:
    """Scans of a cases file with their references. raises Refused with what is wrong."""
    references: dict[str, list[Reference]] = {}
    for line, row in enumerate(
        _rows(nodules_csv, ("path", "x", "y", "z", "diameter_mm")) if nodules_csv else (), 2
    ):
        try:
            place = (float(row["x"]), float(row["y"]), float(row["z"]))
            diameter = float(row["diameter_mm"] or -1)
        except ValueError as error:
            raise Refused(f"{nodules_csv} line {line}: {error}") from error
        excluded = (row.get("excluded") or "0").strip() == "1"
        kinds = [(row.get(column) or "").strip() for column in ("texture", "attachment")]
        references.setdefault(row["path"], []).append(Reference(place, diameter, excluded, *kinds))
    rows = list(_rows(cases_csv, ("path", "patient_id")))
    unknown = sorted(set(references) - {r["path"] for r in rows})
    if unknown:
        raise Refused(f"{nodules_csv} names {unknown[0]}, which is not among the cases")
    return [
        ScanCase(
            cases_csv.parent / r["path"], r["path"], r["patient_id"], tuple(references.get(r["path"], ()))
        )
        for r in rows
    ]


def read_luna16(folder: Path) -> list[ScanCase]:
    """Scans of a folder in the LUNA16 layout; each series counts as its own patient, as the challenge does."""
    references: dict[str, list[Reference]] = {}
    for name, excluded in (("annotations.csv", False), ("annotations_excluded.csv", True)):
        path = next((p for p in (folder / name, folder / "CSVFILES" / name) if p.exists()), None)
        for row in _rows(path, ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")) if path else ():
            place = (float(row["coordX"]), float(row["coordY"]), float(row["coordZ"]))
            diameter = float(row["diameter_mm"])
            entry = Reference(place, diameter if diameter >= 0 else UNSIZED_MM, excluded)
            references.setdefault(row["seriesuid"], []).append(entry)
    found = sorted(folder.glob("subset*/*.mhd")) or sorted(folder.glob("*.mhd"))
    if not found:
        raise Refused(f"{folder} holds no scan in the LUNA16 layout (subset0/*.mhd ...)")
    return [ScanCase(p, p.stem, p.stem, tuple(references.get(p.stem, ()))) for p in found]


def _rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read ({error})") from error
    missing = [n for n in needed if rows and rows[0].get(n) is None]
    if missing:
        raise Refused(f"{path} has no column {missing[0]}")
    return rows


def _write(out: Path, document: dict[str, Any], scored: _Scored) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(document, indent=1) + "\n")
    with (out / "nodules.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(_NODULE_COLUMNS))
        table.writeheader()
        table.writerows(document["nodules"])
    with (out / "candidates.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["path", "x", "y", "z", "probability", "actionable", "long_axis_mm", "volume_mm3", "texture"]
        )
        for case, found in zip(scored.cases, scored.findings, strict=True):
            for f in found:
                m = f.measurements
                assert m is not None
                sizes = (m.long_axis_mm, m.volume_mm3, m.texture)
                writer.writerow(
                    [case.name, *m.center_lps_mm, round(f.probability, 6), int(f.actionable), *sizes]
                )
