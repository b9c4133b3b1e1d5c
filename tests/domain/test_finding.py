"""Findings as values: coded, shown only as far as a viewer may see, the same as JSON says."""

from __future__ import annotations

import json

import pytest

from tests.factories import a_finding
from triage.domain.finding import (
    FINDING_CODES,
    Location,
    Measurements,
    Mode,
    PriorityClass,
    as_json,
    shown,
)
from triage.domain.suitability import SENTENCES, NotSuitable, NotSuitableError, ReasonCode

PLACED = a_finding(
    location=Location(((1.0, 2.0), (3.0, 2.0), (3.0, 4.0)), "left", "apex"),
    measurements=Measurements((1.0, 2.0, 3.0), 8.0, 6.0, 150.0, 20.0, "solid"),
)


@pytest.mark.parametrize("code", FINDING_CODES.values(), ids=sorted(FINDING_CODES))
def test_every_finding_has_a_code_a_scheme_and_a_name_that_fits_its_column(code: object) -> None:
    assert code.code and code.scheme in ("SCT", "DCM", "99TRIAGE")  # type: ignore[attr-defined]
    assert FINDING_CODES[code.name] is code and len(code.name) <= 40  # type: ignore[attr-defined]


def test_in_triage_only_mode_nobody_but_qa_sees_where() -> None:
    hidden = shown(PLACED, Mode.TRIAGE_ONLY, may_see_inside=False)

    assert hidden.location is None and hidden.measurements is None
    assert hidden.probability == PLACED.probability
    assert shown(PLACED, Mode.TRIAGE_ONLY, may_see_inside=True) is PLACED
    assert shown(PLACED, Mode.OVERLAY, may_see_inside=False) is PLACED


def test_the_json_of_a_finding_is_the_contract_of_assess() -> None:
    told = json.loads(json.dumps(as_json(PLACED)))

    assert told["name"] == "pneumothorax" and told["code"] == "36118008"
    assert told["location"] == {
        "outline": [[1.0, 2.0], [3.0, 2.0], [3.0, 4.0]],
        "side": "left",
        "zone": "apex",
    }
    assert told["measurements"]["center_lps_mm"] == [1.0, 2.0, 3.0]
    plain = as_json(a_finding())
    assert plain["location"] is None and plain["measurements"] is None


def test_classes_are_written_as_words() -> None:
    assert all(PriorityClass.from_word(c.word) is c for c in PriorityClass)


def test_every_reason_has_a_sentence_and_says_what_was_found() -> None:
    assert set(SENTENCES) == set(ReasonCode)
    assert NotSuitable(ReasonCode.LATERAL_ONLY).sentence == "lateral view"
    thick = NotSuitableError(ReasonCode.THICK_SLICES, "5.0 mm, limit 3.0 mm")
    assert thick.answer.sentence == str(thick) == "slices too thick (5.0 mm, limit 3.0 mm)"
