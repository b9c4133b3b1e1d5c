"""Who a phantom is and what is wrong with them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from triage.domain.errors import Refused
from triage.domain.finding import FINDING_CODES
from triage.phantom import FINDINGS, NoduleSpec, make_thorax, nodule_truth
from triage.phantom.anatomy import anatomy_of, lung_of
from triage.phantom.thorax import LEFT, RIGHT
from triage.phantom.vessels import vessels_of


def test_every_finding_of_the_phantom_has_a_code() -> None:
    assert set(FINDINGS) <= set(FINDING_CODES)


def test_the_same_seed_gives_the_same_person_and_another_seed_another() -> None:
    assert make_thorax(3, FINDINGS) == make_thorax(3, FINDINGS)
    assert make_thorax(3) != make_thorax(4)


def test_people_differ_in_sex_and_size() -> None:
    people = [make_thorax(seed).body for seed in range(30)]
    assert {p.sex for p in people} == {"F", "M"}
    assert np.ptp([p.scale[0] for p in people]) > 0.08
    assert all((p.breast_mm > 0) == (p.sex == "F") for p in people)


def test_a_finding_changes_nothing_else_about_a_person() -> None:
    healthy, ill = make_thorax(5), make_thorax(5, ["pneumothorax", "effusion"])
    assert ill.body == healthy.body


def test_an_unknown_finding_is_refused() -> None:
    with pytest.raises(Refused, match="mumps"):
        make_thorax(1, ["mumps"])


@pytest.mark.parametrize("spec", [NoduleSpec(3.0), NoduleSpec(31.0), NoduleSpec(8.0, "cystic")])
def test_a_nodule_that_the_phantom_cannot_show_is_refused(spec: NoduleSpec) -> None:
    with pytest.raises(Refused):
        make_thorax(1, nodules=[spec])


@pytest.mark.parametrize("seed", range(12))
def test_the_heart_is_over_half_of_the_chest_only_in_cardiomegaly(seed: int) -> None:
    assert anatomy_of(make_thorax(seed).body).cardiothoracic_ratio() < 0.5
    assert anatomy_of(make_thorax(seed, ["cardiomegaly"]).body).cardiothoracic_ratio() > 0.52


def test_nodules_lie_in_the_lung_and_apart_from_each_other() -> None:
    thorax = make_thorax(8, nodules=[NoduleSpec(d) for d in (4, 6, 8, 12, 20, 30)])
    anatomy = anatomy_of(thorax.body)
    for centre, diameter, volume, _ in nodule_truth(thorax):
        side = LEFT if centre[0] > 0 else RIGHT
        assert anatomy.is_lung(np.array([centre]), side, diameter / 2).all()
        assert volume == pytest.approx(np.pi * diameter**3 / 6)
    for one, other in itertools.combinations(thorax.nodules, 2):
        gap = np.linalg.norm(np.subtract(one.center_lps_mm, other.center_lps_mm))
        assert gap > (one.diameter_mm + other.diameter_mm) / 2


def test_a_nodule_lies_where_it_was_wished() -> None:
    spec = NoduleSpec(10, "ground_glass", center_lps_mm=(70.0, 10.0, 20.0))
    assert nodule_truth(make_thorax(1, nodules=[spec]))[0][0] == (70.0, 10.0, 20.0)


@pytest.mark.parametrize("seed", range(6))
def test_no_vessel_crosses_the_pleural_line(seed: int) -> None:
    thorax = make_thorax(seed, ["pneumothorax"])
    air = thorax.pneumothorax
    assert air is not None
    anatomy = anatomy_of(thorax.body)
    tree = vessels_of(thorax, air.side)
    x, y, z = tree.end.T
    lo, hi = lung_of(anatomy, air.side, x, z, air.keeps)
    twigs = tree.radius < 1.0
    assert ((y > lo) & (y < hi))[twigs].mean() > 0.999
    healthy = vessels_of(make_thorax(seed), air.side)
    assert np.abs(healthy.end[:, 0]).max() > np.abs(tree.end[:, 0]).max() + 10


def test_vessels_thicken_towards_the_hilum() -> None:
    tree = vessels_of(make_thorax(2), LEFT)
    far = np.linalg.norm(tree.end - tree.end[np.argmax(tree.radius)], axis=1)
    assert tree.radius[far < 40].mean() > 2 * tree.radius[far > 80].mean()
