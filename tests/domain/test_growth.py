"""Growth: the same nodule is found again, each once, and its change is plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from tests.factories import a_finding
from triage.domain.finding import Band, Finding, Measurements, Mode, as_json, shown
from triage.domain.growth import compared

HERE = np.eye(4)


def a_nodule(x: float, diameter: float = 8.0, band: Band = Band.HIGH) -> Finding:
    m = Measurements(
        (x, 0.0, 0.0), diameter + 1, diameter - 1, round(np.pi / 6 * diameter**3, 1), 20.0, "solid"
    )
    return a_finding("nodule", 0.9, band=band, measurements=m)


def test_a_nodule_seen_before_gets_its_change_and_a_new_one_none() -> None:
    old, new = compared(
        [a_nodule(0.0, 10.0), a_nodule(80.0)], [a_nodule(4.0, 8.0)], HERE, days=90, prior_study_uid="1.2"
    )
    assert old.growth is not None
    assert (old.growth.days, old.growth.prior_study_uid) == (90, "1.2")
    assert (old.growth.prior_diameter_mm, old.growth.diameter_change_mm) == (8.0, 2.0)
    assert old.growth.volume_change_percent == pytest.approx(95.3, abs=0.1)
    assert new.growth is None


def test_alignment_comes_before_matching() -> None:
    moved = np.eye(4)
    moved[0, 3] = 50.0
    assert compared([a_nodule(0.0)], [a_nodule(50.0)], HERE, days=9, prior_study_uid="")[0].growth is None
    assert (
        compared([a_nodule(0.0)], [a_nodule(50.0)], moved, days=9, prior_study_uid="")[0].growth is not None
    )


def test_each_earlier_nodule_is_the_past_of_one_and_the_nearest_wins() -> None:
    far, near = compared([a_nodule(8.0), a_nodule(1.0)], [a_nodule(0.0)], HERE, days=9, prior_study_uid="")
    assert far.growth is None
    assert near.growth is not None


def test_doubtful_candidates_and_scans_of_one_day_are_not_compared() -> None:
    low = a_nodule(0.0, band=Band.LOW)
    assert compared([low], [a_nodule(0.0)], HERE, days=9, prior_study_uid="")[0].growth is None
    assert compared([a_nodule(0.0)], [low], HERE, days=9, prior_study_uid="")[0].growth is None
    assert compared([a_nodule(0.0)], [a_nodule(0.0)], HERE, days=0, prior_study_uid="")[0].growth is None


def test_growth_is_information_that_goes_where_sizes_go() -> None:
    before = a_nodule(0.0, 12.0)
    grown = compared([before], [a_nodule(0.0, 6.0)], HERE, days=400, prior_study_uid="1.2")[0]
    assert (grown.probability, grown.band, grown.actionable) == (
        before.probability,
        before.band,
        before.actionable,
    )
    assert as_json(grown)["growth"]["diameter_change_mm"] == 6.0
    assert shown(grown, Mode.TRIAGE_ONLY, may_see_inside=False).growth is None
