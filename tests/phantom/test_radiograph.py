"""Frontal films: a chest at first sight, and findings where the masks say."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from triage.domain.image import Radiograph
from triage.phantom import FINDINGS, NoduleSpec, Thorax, film_masks, make_thorax, render_radiograph

SIZE = 256


@cache
def film(thorax: Thorax) -> Radiograph:
    return render_radiograph(thorax, SIZE)


def test_the_same_seed_gives_the_same_film() -> None:
    thorax = make_thorax(6, ["effusion"])
    assert np.array_equal(film(thorax).pixels, render_radiograph(thorax, SIZE).pixels)


@pytest.mark.parametrize("seed", range(4))
def test_a_film_has_black_air_dark_lungs_and_bright_middle(seed: int) -> None:
    picture = film(make_thorax(seed)).pixels
    n = SIZE
    assert picture.dtype == np.float32
    assert picture.min() >= 0
    assert picture.max() <= 1
    middle = picture[n // 3 : n // 2, n // 2 - 4 : n // 2 + 4].mean()
    lungs = picture[n // 3 : n // 2, [n // 4, n // 4 + 4, 3 * n // 4 - 4, 3 * n // 4]].mean()
    assert picture[: n // 16, : n // 8].mean() < 0.12
    assert 0.12 < lungs < 0.55
    assert middle > lungs + 0.25
    assert picture[-n // 10 :, n // 3 : 2 * n // 3].mean() > 0.7  # below the diaphragm


def test_the_field_of_view_is_a_real_detector() -> None:
    for seed in range(4):
        spacing = film(make_thorax(seed)).spacing_mm
        assert spacing is not None
        assert 300 < spacing[0] * SIZE <= 430.001


@pytest.mark.parametrize(
    ("name", "brighter"), [("pneumothorax", False), ("effusion", True), ("consolidation", True)]
)
def test_a_finding_shows_inside_its_mask(name: str, brighter: bool) -> None:
    healthy, ill = make_thorax(14), make_thorax(14, [name])
    mask = film_masks(ill, SIZE)[name]
    assert 0.003 < mask.mean() < 0.3
    change = (film(ill).pixels - film(healthy).pixels)[mask].mean()
    assert change > 0.04 if brighter else change < -0.015


def test_a_nodule_shows_inside_its_mask() -> None:
    spec = NoduleSpec(26, center_lps_mm=(78.0, 10.0, 20.0))
    ill = make_thorax(14, nodules=[spec])
    mask = film_masks(ill, SIZE)["nodule"]
    change = film(ill).pixels - film(make_thorax(14)).pixels
    assert change[mask].mean() > 0.05
    rows, columns = np.nonzero(mask)
    assert columns.mean() > SIZE / 2  # the patient's left is on the right of the picture
    assert np.ptp(rows) * film(ill).spacing_mm[0] == pytest.approx(26, abs=4)  # type: ignore[index]


@pytest.mark.parametrize("seed", [1, 23, 29])
def test_fluid_climbs_the_chest_wall(seed: int) -> None:
    ill = make_thorax(seed, ["effusion"])
    dense = (film(ill).pixels - film(make_thorax(seed)).pixels > 0.12) & film_masks(ill, SIZE)["effusion"]
    columns = np.flatnonzero(dense.sum(axis=0) > 6)
    top = [int(np.argmax(dense[:, c])) for c in columns]
    if columns.mean() < SIZE / 2:
        top.reverse()  # now from the midline to the wall
    assert np.median(top[-8:]) < np.median(top) - 5  # rows grow downwards


def test_every_finding_has_a_mask_and_a_healthy_film_has_none() -> None:
    assert set(film_masks(make_thorax(3, FINDINGS), 64)) == set(FINDINGS)
    assert film_masks(make_thorax(3), 64) == {}
