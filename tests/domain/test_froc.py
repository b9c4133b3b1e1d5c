"""FROC by LUNA16's rule: small cases computed by hand."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triage.domain.froc import RATES, Candidate, Reference, ScanMatch, froc, match, sensitivities


def at(x: float, probability: float) -> Candidate:
    return Candidate((x, 0.0, 0.0), probability)


def test_a_candidate_hits_strictly_inside_the_radius():
    nodule = Reference((0.0, 0.0, 0.0), 10.0)
    assert match([at(4.99, 0.5)], [nodule]).hits == (0.5,)
    on_the_rim = match([at(5.0, 0.5)], [nodule])
    assert on_the_rim.hits == (None,)
    assert on_the_rim.false_positives == (0.5,)


def test_a_nodule_counts_once_with_its_best_hit_and_doubles_are_neither():
    found = match([at(1.0, 0.3), at(-1.0, 0.8), at(30.0, 0.1)], [Reference((0.0, 0.0, 0.0), 10.0)])
    assert found.hits == (0.8,)
    assert found.false_positives == (0.1,)


def test_hits_on_excluded_findings_count_neither_way():
    references = [Reference((20.0, 0.0, 0.0), 6.0, excluded=True), Reference((0.0, 0.0, 0.0), 6.0)]
    found = match([at(21.0, 0.9), at(1.0, 0.4)], references)
    assert found.hits == (0.4,)
    assert found.false_positives == ()


def test_an_entry_without_a_size_is_ten_millimetres_wide():
    assert match([at(4.9, 0.5)], [Reference((0.0, 0.0, 0.0), -1.0, excluded=True)]).false_positives == ()
    assert match([at(5.1, 0.5)], [Reference((0.0, 0.0, 0.0), -1.0, excluded=True)]).false_positives == (0.5,)


def test_one_candidate_may_hit_two_nodules():
    references = [Reference((0.0, 0.0, 0.0), 10.0), Reference((4.0, 0.0, 0.0), 10.0)]
    assert match([at(2.0, 0.7)], references).hits == (0.7, 0.7)


def test_only_the_hundred_most_probable_candidates_count_and_ties_with_the_next_fall_out():
    candidates = [at(100.0 + i, 0.5) for i in range(3)] + [at(300.0 + i, 0.9) for i in range(98)]
    assert len(match(candidates, []).false_positives) == 98


def test_the_curve_of_two_scans_as_computed_by_hand():
    # Three nodules, hits 0.9 and 0.6, one missed; false positives 0.8, 0.7 and 0.5 in two scans.
    # Thresholds: 0.9 (0 FP, 1/3), 0.8 (1/2, 1/3), 0.7 (1, 1/3), 0.6 (1, 2/3), 0.5 (3/2, 2/3).
    scans = [ScanMatch((0.9, None), (0.8, 0.5)), ScanMatch((0.6,), (0.7,))]
    third = 1 / 3
    expected = [third, third, third, 2 * third, 2 * third, 2 * third, 2 * third]
    assert sensitivities(scans) == pytest.approx(expected)
    curve = froc(scans, ["a", "b"], rounds=200)
    assert curve.cpm == pytest.approx(sum(expected) / 7)
    assert curve.cpm_low <= curve.cpm <= curve.cpm_high
    assert [rate for rate, _ in curve.points] == list(RATES)


def test_a_detector_without_false_positives_keeps_its_sensitivity_at_every_rate():
    assert sensitivities([ScanMatch((0.9, None), ())]) == pytest.approx([0.5] * 7)


def test_scans_without_nodules_give_no_figure():
    assert math.isnan(froc([ScanMatch((), (0.5,))], ["a"]).cpm)


@given(
    st.lists(
        st.builds(
            ScanMatch,
            st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=4).map(tuple),
            st.lists(st.floats(0, 1), max_size=6).map(tuple),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_sensitivity_never_falls_with_the_rate_and_never_passes_what_was_found(scans):
    curve = sensitivities(scans)
    found = sum(h is not None for s in scans for h in s.hits)
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(curve))
    assert curve[-1] <= found / sum(len(s.hits) for s in scans) + 1e-12
