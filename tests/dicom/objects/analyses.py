"""Analyses to build objects of: films and scans, in both modes, through the one gate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.factories import a_finding, a_header, a_region
from triage.dicom.objects.common import Analysis
from triage.domain.finding import Finding, Location, Measurements, Mode, shown

ENDED = datetime(2026, 3, 14, 12, 1, 2, 345678, tzinfo=UTC)
TRIANGLE = ((100.0, 100.0), (300.0, 100.0), (300.0, 400.5))
SMALL = Measurements((10.0, -20.0, -141.0), 8.2, 6.1, 210.5, -120.3, "part_solid")
SMALL_REGION = a_region(271, 229, 5, range(5, 10))
LARGE = Measurements((40.0, -25.0, -130.0), 31.2, 26.1, 9210.5, 20.3, "solid")

FILM_FINDINGS = (
    a_finding("pneumothorax", 0.93, location=Location(TRIANGLE, "left", "upper")),
    a_finding("effusion", 0.71, location=Location(TRIANGLE)),
)
SCAN_FINDINGS = (
    a_finding(
        "nodule",
        0.81,
        location=Location(side="left", zone="upper", region=SMALL_REGION),
        measurements=SMALL,
    ),
    a_finding("mass", 0.9, location=Location(side="right", zone="lower"), measurements=LARGE),
)


def an_analysis(
    modality: str = "DX",
    mode: Mode = Mode.TRIAGE_ONLY,
    findings: tuple[Finding, ...] | None = None,
    header: dict[str, Any] | None = None,
    **values: Any,
) -> Analysis:
    """A completed run over one film, or over 20 slices of a scan; flagged unless findings=()."""
    scan = modality == "CT"
    more = {
        "study_id": "S1",
        "study_description": "Thorax",
        "issuer_of_patient_id": "HOSPITAL",
        **(header or {}),
    }
    if findings is None:
        findings = SCAN_FINDINGS if scan else FILM_FINDINGS
    defaults: dict[str, Any] = {
        "key": "a run",
        "detector": "lung_nodule" if scan else "chest_xray",
        "version": "1.0.0",
        "release_digest": "ab" * 32,
        "findings": tuple(shown(f, mode, may_see_inside=False) for f in findings),
        "not_covered": ("fracture", "lung_opacity"),
        "sources": tuple(
            a_header(modality=modality, instance=i, **more) for i in range(1, 21 if scan else 2)
        ),
        "finished_at": ENDED,
        "series_number": 9001,
    }
    return Analysis(**{**defaults, **values})
