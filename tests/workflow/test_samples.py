"""The demo's studies: every kind once, valid DICOM, and what is unsuitable says so in its tags."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.factories import NOON
from triage.dicom.header import read_header
from triage.domain.eligibility import radiograph_answer
from triage.domain.suitability import ReasonCode
from triage.workflow import samples
from triage.workflow.samples import SAMPLES, Sample, write_sample

FILMS = [s for s in SAMPLES if s.modality == "DX"]


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample(105, "DX", lateral=True), ReasonCode.LATERAL_ONLY),
        (Sample(104, "DX", child=True), ReasonCode.OUT_OF_AGE),
    ],
)
def test_a_sample_film_is_what_it_is_meant_to_be(tmp_path: Path, sample: Sample, reason: ReasonCode) -> None:
    written = write_sample(sample, tmp_path, NOON)
    header = read_header(written.paths[0])
    answer = radiograph_answer(header)
    assert answer is not None and answer.code is reason
    assert (header.study_instance_uid, header.accession_number) == (
        written.study_instance_uid,
        written.accession_number,
    )


def test_the_sample_scan_is_one_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "SAMPLE_CT_SLICES", 12)
    scan = next(s for s in SAMPLES if s.modality == "CT")
    written = write_sample(replace(scan), tmp_path, NOON)
    headers = [read_header(p) for p in written.paths]
    assert len(headers) == 12 and len({h.series_instance_uid for h in headers}) == 1


def test_every_order_priority_and_every_kind_of_refusal_is_among_them() -> None:
    assert {s.ordered for s in SAMPLES} == {"STAT", "URGENT", "ROUTINE"}
    assert any(s.child for s in FILMS) and any(s.lateral for s in FILMS)
    assert {f for s in SAMPLES for f in s.findings} >= {"pneumothorax", "effusion", "nodule", "cardiomegaly"}
