"""Order in space: what makes a stack, and every way in which a series fails to be one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triage.domain.stack import ladder, plan_stack
from triage.domain.study import CT, InstanceHeader, SeriesInstanceUID, SOPInstanceUID, StudyInstanceUID
from triage.domain.suitability import NotSuitableError, ReasonCode


def a_slice(number: int, z_mm: float, **changes: object) -> InstanceHeader:
    header = InstanceHeader(
        sop_class_uid=CT,
        sop_instance_uid=SOPInstanceUID(f"1.2.{number}"),
        study_instance_uid=StudyInstanceUID("1.1"),
        series_instance_uid=SeriesInstanceUID("1.1.1"),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="CT",
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        rows=64,
        columns=64,
        pixel_spacing_mm=(0.6, 0.7),
        image_position_patient=(-10.0, -20.0, z_mm),
        image_orientation_patient=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        rescale_slope=1.0,
        rescale_intercept=-1024.0,
        instance_number=number,
        acquisition_number=1,
        slice_thickness_mm=2.0,
        patient_age_years=60.0,
    )
    return replace(header, **changes)  # type: ignore[arg-type]


def a_series(places: list[float]) -> list[InstanceHeader]:
    return [a_slice(i, z) for i, z in enumerate(places)]


EVEN = [-300.0 + 2 * k for k in range(12)]


def refused(headers: list[InstanceHeader]) -> ReasonCode:
    with pytest.raises(NotSuitableError) as refusal:
        plan_stack(headers)
    return refusal.value.answer.code


@given(order=st.permutations(range(12)), step_mm=st.floats(0.3, 3))
def test_slices_stand_from_feet_to_head_in_whatever_order_they_came(order: list[int], step_mm: float) -> None:
    headers = a_series([round(-300 + step_mm * k, 3) for k in order])
    plan = plan_stack(headers)

    heights = [headers[i].image_position_patient[2] for i in plan.order]  # type: ignore[index]
    assert heights == sorted(heights)
    assert plan.affine[2, 2] == pytest.approx(step_mm, abs=2e-3)


def test_the_affine_leads_from_column_row_slice_to_the_patient() -> None:
    """Pixel Spacing is (between rows, between columns): the trap of 10.7.1.3."""
    affine = plan_stack(a_series(EVEN)).affine
    assert affine @ [3, 5, 2, 1] == pytest.approx([-10 + 3 * 0.7, -20 + 5 * 0.6, -300 + 2 * 2, 1])


def test_feet_first_changes_nothing() -> None:
    head_first, feet_first = a_series(EVEN), a_series(EVEN[::-1])
    assert np.array_equal(plan_stack(head_first).affine, plan_stack(feet_first).affine)


@given(missing=st.sets(st.integers(1, 10), min_size=1, max_size=3))
def test_a_slice_missing_inside_is_a_gap_and_counted(missing: set[int]) -> None:
    headers = a_series([z for k, z in enumerate(EVEN) if k not in missing])
    found = ladder(headers)
    assert (found.has_gap, found.missing) == (True, len(missing))
    assert refused(headers) is ReasonCode.GAP_IN_SERIES


def test_missing_ends_cannot_be_seen() -> None:
    assert not ladder(a_series(EVEN[2:-1])).has_gap


@pytest.mark.parametrize("digits", [1, 3])
def test_positions_rounded_by_the_sender_are_still_a_grid(digits: int) -> None:
    headers = a_series([round(-300 + 0.625 * k, digits) for k in range(40)])
    assert ladder(headers).step_mm == pytest.approx(0.625, abs=1e-3)
    assert len(plan_stack(headers).order) == 40


def test_uneven_steps_are_no_grid() -> None:
    assert refused(a_series([*EVEN[:6], *(z + 0.7 for z in EVEN[6:])])) is ReasonCode.GEOMETRY


def test_small_jitter_is_said_and_accepted() -> None:
    jitter = [z + 0.04 * (k % 2) for k, z in enumerate(EVEN)]
    assert any("off an even grid" in note for note in plan_stack(a_series(jitter)).notes)


def test_a_localizer_inside_the_series_is_left_out() -> None:
    scout = a_slice(
        99,
        -300,
        image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"),
        image_orientation_patient=(1, 0, 0, 0, 0, -1),
    )
    plan = plan_stack([scout, *a_series(EVEN)])
    assert len(plan.order) == 12
    assert plan.notes == ("1 localizers left out",)
    assert refused([scout]) is ReasonCode.LOCALIZER


def renamed(headers: list[InstanceHeader], prefix: str, **changes: object) -> list[InstanceHeader]:
    return [
        replace(h, sop_instance_uid=SOPInstanceUID(f"{prefix}.{i}"), **changes)  # type: ignore[arg-type]
        for i, h in enumerate(headers)
    ]


CORONAL = {"image_orientation_patient": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)}


def coronal(count: int) -> list[InstanceHeader]:
    return [
        a_slice(500 + k, 0.0, image_position_patient=(-10.0, 2.0 * k, 0.0), **CORONAL) for k in range(count)
    ]


@pytest.mark.parametrize(
    ("others", "note"),
    [
        (renamed(a_series(EVEN), "9", convolution_kernel="B70f"), "12 slices of another kernel left out"),
        (coronal(40), "40 slices of another orientation left out"),  # more of them, but nobody reads these
        (
            renamed(a_series(EVEN), "9", pixel_spacing_mm=(0.3, 0.35)),  # a zoomed field of the same scan
            "12 slices of another pixel spacing left out",
        ),
    ],
    ids=["kernel", "reformats", "zoom"],
)
def test_of_reconstructions_that_show_the_same_one_is_read_and_the_rest_is_said(
    others: list[InstanceHeader], note: str
) -> None:
    for headers in ([*a_series(EVEN), *others], [*others, *a_series(EVEN)]):
        plan = plan_stack(headers)
        assert {headers[i].sop_instance_uid for i in plan.order} == {f"1.2.{k}" for k in range(12)}
        assert plan.notes == (note,)
        assert not ladder(headers).has_gap


@pytest.mark.parametrize(
    "changes",
    [
        {"frame_of_reference_uid": "1.9"},
        {
            "image_position_patient": None,
            "convolution_kernel": "B70f",
        },  # filled below: another part of the body
    ],
    ids=["frame of reference", "another part"],
)
def test_two_scans_in_one_series_are_refused_as_mixed(changes: dict[str, object]) -> None:
    others = renamed(a_series(EVEN), "9", **changes)
    if "convolution_kernel" in changes:
        places = [(-10.0, -20.0, z + 200) for z in EVEN]
        others = [replace(h, image_position_patient=p) for h, p in zip(others, places, strict=True)]
    assert refused([*a_series(EVEN), *others]) is ReasonCode.MIXED_SERIES


def test_an_acquisition_of_a_part_is_left_out_beside_the_whole_one() -> None:
    """A contrast phase of the liver, then the whole scan: places of the one are all in the other."""
    liver = renamed(a_series(EVEN)[:9], "8", acquisition_number=2)
    plan = plan_stack([*liver, *a_series(EVEN)])
    assert sorted(plan.order) == list(range(9, 21))
    assert plan.notes == ("9 slices of acquisitions of a part of it left out",) and not plan.duplicates


def test_a_few_slices_of_another_geometry_are_left_out_and_said() -> None:
    odd = [a_slice(90 + k, -300 + 2 * k, rows=32, columns=32) for k in range(3)]
    plan = plan_stack([*a_series(EVEN), *odd])
    assert len(plan.order) == 12
    assert "3 slices" in plan.notes[0]


def test_one_slice_twice_is_kept_once_for_comparison() -> None:
    series = a_series(EVEN)
    plan = plan_stack([*series, replace(series[4], sop_instance_uid=SOPInstanceUID("7.7"))])
    assert len(plan.order) == 12
    assert plan.duplicates == ((4, 12),)


def test_of_two_whole_acquisitions_the_later_counts() -> None:
    later = [replace(h, acquisition_number=2) for h in a_series(EVEN)]
    plan = plan_stack([*later, *a_series(EVEN)])
    assert set(plan.order) == set(range(12))
    assert "latest" in plan.notes[0]


def test_phases_at_the_same_places_are_a_mixed_series() -> None:
    assert refused([*a_series(EVEN), *a_series(EVEN)]) is ReasonCode.MIXED_SERIES


def leaning(mm_a_mm: float) -> list[InstanceHeader]:
    return [a_slice(k, z, image_position_patient=(-10.0, -20.0 + mm_a_mm * z, z)) for k, z in enumerate(EVEN)]


def test_a_tilted_gantry_keeps_its_shear_and_is_told() -> None:
    plan = plan_stack(leaning(0.1))
    assert "gantry tilt 5.7 degrees corrected" in plan.notes
    assert plan.affine[1, 2] == pytest.approx(0.1 * plan.affine[2, 2])


def test_a_gantry_tilted_too_far_is_refused_with_its_angle() -> None:
    with pytest.raises(NotSuitableError, match=r"16\.7 degrees, limit 15"):
        plan_stack(leaning(0.3))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"image_position_patient": None}, ReasonCode.GEOMETRY),
        ({"image_orientation_patient": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)}, ReasonCode.GEOMETRY),
        ({"image_orientation_patient": (2.0, 0.0, 0.0, 0.0, 1.0, 0.0)}, ReasonCode.GEOMETRY),
        ({"image_orientation_patient": (0.0,) * 6}, ReasonCode.GEOMETRY),
        ({"pixel_spacing_mm": None}, ReasonCode.GEOMETRY),
    ],
)
def test_geometry_that_says_nothing_is_refused(changes: dict[str, object], code: ReasonCode) -> None:
    assert refused([replace(h, **changes) for h in a_series(EVEN)]) is code  # type: ignore[arg-type]


def test_seven_slices_are_too_few() -> None:
    assert refused(a_series(EVEN[:7])) is ReasonCode.FEW_SLICES
    assert len(plan_stack(a_series(EVEN[:8])).order) == 8


def test_nothing_placed_has_no_ladder() -> None:
    assert ladder([a_slice(1, 0, image_position_patient=None)]).places == 0
    assert ladder([a_slice(1, 0)]).step_mm is None


@given(
    st.lists(
        st.tuples(*[st.floats(allow_nan=False, allow_infinity=False, width=32)] * 3), min_size=1, max_size=20
    )
)
def test_any_positions_make_a_stack_or_a_reason(positions: list[tuple[float, float, float]]) -> None:
    headers = [a_slice(i, 0, image_position_patient=p) for i, p in enumerate(positions)]
    ladder(headers)
    try:
        plan = plan_stack(headers)
    except NotSuitableError:
        return
    assert len(set(plan.order)) == len(plan.order)
