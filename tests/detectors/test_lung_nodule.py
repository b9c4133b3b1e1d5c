"""The released CT detector: golden numbers, phantoms with known nodules, and geometry that must not matter."""

import os

import numpy as np
import pytest

from triage.detectors import _runtime, lung_nodule
from triage.detectors._grid import Grid, canonical
from triage.detectors.lungs import find_lungs
from triage.detectors.releases import active_release, load_release
from triage.domain.errors import Misconfigured
from triage.domain.finding import Band
from triage.domain.image import Volume
from triage.domain.suitability import NotSuitableError, ReasonCode
from triage.phantom import NoduleSpec, make_thorax, nodule_truth, render_volume

os.environ.setdefault("TRIAGE_INFERENCE_THREADS", "1")  # test runs share their cores
RELEASE = active_release("lung_nodule")
SEEDS = (31, 32, 33)  # not among the phantoms of training and calibration (9000 to 9103)


@pytest.fixture(scope="module")
def detector():
    return lung_nodule.load(RELEASE)


def a_chest(seed, nodules=()):
    thorax = make_thorax(seed, nodules=list(nodules))
    return render_volume(thorax, slices=100, size_px=384), nodule_truth(thorax)


@pytest.fixture(scope="module")
def chests():
    return {seed: a_chest(seed, [NoduleSpec(12.0), NoduleSpec(18.0)]) for seed in SEEDS}


@pytest.fixture(scope="module")
def detections(detector, chests):
    return {seed: detector.detect(volume) for seed, (volume, _) in chests.items()}


@pytest.fixture(scope="module")
def normal():
    return a_chest(34)[0]


def near(findings, center, within_mm):
    return [
        f for f in findings if np.linalg.norm(np.subtract(f.measurements.center_lps_mm, center)) < within_mm
    ]


def test_several_judges_are_asked_for_their_mean():
    torch = pytest.importorskip("torch")
    content = {"widths": {"judge": [4, 8, 8]}}
    assert type(lung_nodule._module("judge", content)).__name__ == "CandidateJudge"
    panel = lung_nodule._module("judge", {**content, "judges": 3}).eval()
    looks = torch.rand(2, 2, 32, 32, 32)
    with torch.inference_mode():
        single = torch.stack([judge(looks) for judge in panel.judges])
        assert single.std(0).min() > 0
        assert torch.allclose(panel(looks), single.mean(0))


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_the_released_weights_give_the_golden_numbers(runtime):
    golden = np.load(RELEASE / "golden.npz")
    loaded = lung_nodule.load(RELEASE, runtime)
    for part, network in (("finder", loaded._finder), ("judge", loaded._judge)):
        out = network(golden[f"{part}_input"].astype(np.float32))[0]
        assert out.shape == golden[f"{part}_output"].shape
        assert np.abs(out - golden[f"{part}_output"]).max() < 5e-3


def test_the_release_is_whole_and_names_its_runtime():
    assert load_release(RELEASE).detector == "lung_nodule"
    with pytest.raises(Misconfigured, match="abacus"):
        lung_nodule.load(RELEASE, "abacus")


@pytest.mark.parametrize("seed", SEEDS)
def test_phantom_nodules_are_found_flagged_and_measured(chests, detections, seed):
    truth, found = chests[seed][1], detections[seed].findings
    for center, diameter, _, _ in truth:
        hits = near(found, center, diameter / 2)
        assert hits, f"nodule of {diameter:.0f} mm missed"
        best = hits[0]
        assert best.actionable
        assert best.band is Band.HIGH
        m = best.measurements
        assert (m.long_axis_mm + m.short_axis_mm) / 2 == pytest.approx(diameter, abs=2.5)
        assert best.location.side == ("left" if center[0] > 0 else "right")


def test_a_normal_phantom_is_not_flagged(detector, normal):
    assert [f for f in detector.detect(normal).findings if f.actionable] == []


def test_findings_come_most_probable_first_and_are_nodules_or_masses(detections):
    found = detections[SEEDS[0]].findings
    assert [f.probability for f in found] == sorted((f.probability for f in found), reverse=True)
    assert {f.name for f in found} <= {"nodule", "mass"}
    assert all(f.coded.priority_class.word == "elevated" for f in found)


def test_slice_order_and_flips_do_not_move_a_nodule(detector, chests, detections):
    volume, truth = chests[SEEDS[0]]
    plain = detections[SEEDS[0]].findings
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    flip[1:3, 3] = (volume.hu.shape[1] - 1, volume.hu.shape[0] - 1)
    turned = detector.detect(Volume(volume.hu[::-1, ::-1], volume.affine @ flip)).findings
    for center, diameter, _, _ in truth:
        one, other = (near(f, center, diameter / 2)[0].measurements for f in (plain, turned))
        assert np.linalg.norm(np.subtract(one.center_lps_mm, other.center_lps_mm)) < 0.5


def test_a_series_without_lungs_is_not_analysed(detector):
    hu = np.full((40, 128, 128), -1000, np.int16)
    hu[:, 20:110, 20:110] = 40
    with pytest.raises(NotSuitableError) as refusal:
        detector.detect(Volume(hu, np.diag([3.0, 3.0, 3.0, 1.0])))
    assert refusal.value.answer.code is ReasonCode.WRONG_BODY_PART


def test_part_of_the_lungs_is_analysed_and_said(detector, normal):
    affine = normal.affine.copy()
    affine[:3, 3] += 35 * affine[:3, 2]
    notes = detector.detect(Volume(normal.hu[35:65], affine)).notes
    assert any("part of the lungs only" in n for n in notes)


def test_a_tall_scan_in_slabs_gives_the_same_heat_map(detector):
    rng = np.random.default_rng(0)
    values = rng.random((608, 16, 16), np.float32)
    whole = detector._finder(values[None, None])[0][0]
    slabs = lung_nodule._over_slabs(detector._finder, values)
    assert slabs.shape == whole.shape
    # Far context differs a little at the seams; nothing that moves a peak.
    assert np.abs(slabs - whole).max() < 0.3
    assert isinstance(detector._finder, _runtime.OpenVinoNetwork)


def test_the_likeliest_places_are_judged_over_their_mirror_images_and_the_rest_once():
    """A judge that answers what lies at the low end of each axis tells which views it was shown."""

    class Ends:
        runtime = "test"

        def __call__(self, looks):
            return ((looks[:, 0, 0, 0, 0] * 100)[:, None],)

    ramp = np.add.outer(np.add.outer(np.arange(64.0) * 2, np.arange(64.0)), np.arange(64.0) * 4) - 900
    source = Grid(ramp.astype(np.int16), np.diag([1.0, 1.0, 1.0, 1.0]))
    places = [lung_nodule.Place((31.5, 31.5, 31.5), 8.0, finder) for finder in (3.0, 1.0)]

    once = lung_nodule.judged(Ends(), source, places)
    twice = lung_nodule.judged(Ends(), source, places, mirrored=1)

    # Mirrored along one axis the corner shows the other end: 31 voxels away, of 2, 1 and 4 HU each.
    step = 100 * 31 * (2 + 1 + 4) / 4 / 1400
    assert twice[0].judge == pytest.approx(once[0].judge + step, abs=0.1)
    assert twice[1].judge == once[1].judge


def test_a_second_pass_in_a_mirror_names_the_same_nodules(detector, chests):
    volume, truth = chests[SEEDS[0]]
    source = canonical(volume.hu, volume.affine)
    lungs = find_lungs(source)
    asked = []

    def finder(values):
        asked.append(values.copy())
        return detector._finder(values)

    twice = lung_nodule.find_places(finder, source, lungs, -4.0, passes=2)

    assert len(asked) == 2
    assert asked[0].shape != asked[1].shape or np.abs(asked[0] - asked[1]).max() > 0.1
    for center, *_ in truth:
        gaps = [np.linalg.norm(np.subtract(p.center_lps_mm, center)) for p in twice[: len(truth)]]
        assert min(gaps) < 2.0, "a nodule seen by both passes stands among the first, where it is"


def test_the_mirror_is_taken_back_in_every_part_of_the_answer():
    def to_the_right(values):
        """Peak in the first cell along x of what it is shown, its centre half a cell further along x."""
        output = np.zeros((1, 5, 4, 4, 4), np.float32)
        output[0, 0, :, :, 0], output[0, 3] = values[0, 0, 0, 0, 0], 0.5
        return (output,)

    values = np.zeros((1, 1, 8, 8, 8), np.float32)
    values[..., -1] = 7.0
    (output,) = lung_nodule._mirrored(to_the_right)(values)

    assert (output[0, 0, :, :, 3] == 7.0).all()
    assert not output[0, 0, :, :, :3].any()
    assert (output[0, 3] == -0.5).all()


def test_a_place_that_one_pass_alone_saw_loses_half_of_its_way_to_the_floor():
    def place(x, finder):
        return lung_nodule.Place((x, 0.0, 0.0), 6.0, finder)

    merged = lung_nodule._agreed(
        [place(0.0, 2.0), place(50.0, 1.0)], [place(1.5, 3.0), place(90.0, 0.0)], -4.0
    )

    assert [(p.center_lps_mm[0], p.finder) for p in merged] == [(1.5, 2.5), (50.0, -1.5), (90.0, -2.0)]


def test_of_two_places_within_a_large_one_the_nearest_is_its_twin():
    """The second pass saw a small bright spot at the rim first: it is none of the mass itself."""
    mass, rim = lung_nodule.Place((0.0, 0.0, 0.0), 20.0, 2.0), lung_nodule.Place((8.0, 0.0, 0.0), 5.0, 3.0)
    again = lung_nodule.Place((0.5, 0.0, 0.0), 19.0, 1.0)

    merged = lung_nodule._agreed([mass], [rim, again], -4.0)

    assert [(p.center_lps_mm[0], p.diameter_mm, p.finder) for p in merged] == [
        (0.0, 20.0, 1.5), (8.0, 5.0, -0.5)
    ]  # fmt: skip
