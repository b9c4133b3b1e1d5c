"""From a seed to a Thorax: who it is, what is wrong and where, and what is true of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.domain.errors import Refused
from triage.phantom.anatomy import Anatomy, anatomy_of
from triage.phantom.solids import length
from triage.phantom.thorax import (
    FINDINGS,
    LEFT,
    RIGHT,
    TEXTURES,
    Body,
    Consolidation,
    Effusion,
    Nodule,
    NoduleSpec,
    Pneumothorax,
    Point,
    Thorax,
)
from triage.phantom.vessels import points_in_lung

Array = NDArray[Any]

HU_OF_TEXTURE = {"solid": (40.0, 40.0), "part_solid": (-600.0, 30.0), "ground_glass": (-620.0, -620.0)}
NODULE_MM = (4.0, 30.0)
BLOBS = 120  # of a consolidation
HILA_END_MM = 58.0  # nearer to the midline a nodule on a film looks like one more vessel


def make_thorax(
    seed: int,
    findings: Sequence[str] = (),
    *,
    sex: str | None = None,
    nodules: Sequence[NoduleSpec] | None = None,
) -> Thorax:
    """The person of this seed.

    findings  names out of FINDINGS; "nodule" alone gives one or two nodules that a film can show
    nodules   exactly these instead
    raises    Refused for an unknown finding, or a nodule outside 4 to 30 mm or of unknown texture
    """
    unknown = sorted(set(findings) - set(FINDINGS))
    if unknown:
        raise Refused(f"the phantom cannot show {', '.join(unknown)}; it knows {', '.join(FINDINGS)}")
    body = _body(np.random.default_rng([seed, 1]), sex, "cardiomegaly" in findings)
    anatomy = anatomy_of(body)
    rng = np.random.default_rng([seed, 2])
    # One thing a side displaces the lung, so that air and fluid never fight for the same room.
    side = int(rng.choice([LEFT, RIGHT]))
    keeps = rng.uniform([0.62, 0.86, 0.74], [0.84, 0.96, 0.90])
    pneumothorax = Pneumothorax(side, (float(keeps[0]), float(keeps[1]), float(keeps[2])))
    effusion = Effusion(
        -side, float(rng.uniform(-95, -25)) * body.scale[2], float(rng.uniform(34, 60)) * body.scale[1]
    )
    if "pneumothorax" not in findings and rng.random() < 0.5:
        effusion = Effusion(side, effusion.level_z_mm, effusion.level_y_mm)
    consolidation = _consolidation(_Places(anatomy, np.random.default_rng([seed, 3]), side, True))
    film_shows = nodules is None  # then it may not hide behind heart or diaphragm
    if nodules is None:
        nodules = _usual_nodules(np.random.default_rng([seed, 4])) if "nodule" in findings else ()
    places = _Places(
        anatomy, np.random.default_rng([seed, 5]), side if "pneumothorax" in findings else 0, film_shows
    )
    placed = _place(places, nodules)
    names = set(findings) | ({"nodule"} if placed else set())
    return Thorax(
        seed=seed,
        body=body,
        findings=tuple(name for name in FINDINGS if name in names),
        nodules=placed,
        pneumothorax=pneumothorax if "pneumothorax" in findings else None,
        effusion=effusion if "effusion" in findings else None,
        consolidation=consolidation if "consolidation" in findings else None,
    )


def nodule_truth(thorax: Thorax) -> list[tuple[Point, float, float, str]]:
    """(center_lps_mm, diameter_mm, volume_mm3, texture) of each nodule."""
    return [
        (n.center_lps_mm, n.diameter_mm, float(np.pi / 6 * n.diameter_mm**3), n.texture)
        for n in thorax.nodules
    ]


def _body(rng: np.random.Generator, sex: str | None, large_heart: bool) -> Body:
    drawn = str(rng.choice(["F", "M"]))
    sex = sex or drawn
    size = rng.normal(0, 0.035, 3).clip(-0.08, 0.08) + (1.0 if sex == "M" else 0.92)
    normal, large = rng.uniform(0.92, 1.06), rng.uniform(1.34, 1.52)
    fat = float(rng.gamma(3.0, 4.0 if sex == "F" else 3.2)) + 3.0
    breast = float(rng.uniform(42, 62))
    domes = rng.normal([0, 0], [7, 7]).clip(-14, 12)
    tilt, shift = float(np.clip(rng.normal(0, 0.9), -2.2, 2.2)), rng.normal(0, 4, 2).clip(-8, 8)
    return Body(
        sex=sex,
        scale=(float(size[0]), float(size[1]), float(size[2])),
        fat_mm=min(fat, 32.0),
        breast_mm=breast if sex == "F" else 0.0,
        heart_scale=float(large if large_heart else normal),
        domes_mm=(float(domes[0]), float(domes[1])),
        tilt_degrees=tilt,
        shift_mm=(float(shift[0]), float(shift[1])),
    )


def _consolidation(places: _Places) -> Consolidation:
    """Blobs round a clear point of the lung that has not collapsed."""
    rng, side = places.rng, places.side()
    candidates = points_in_lung(places.anatomy, side, 200, rng, 20.0)
    centre = next((point for point in candidates if places.is_clear(point, side)), candidates[0])
    spread = rng.normal(0, [19, 19, 23], (BLOBS, 3)) + centre
    radii = rng.uniform(4, 13, BLOBS)
    blobs = tuple(
        (float(x), float(y), float(z), float(r)) for (x, y, z), r in zip(spread, radii, strict=True)
    )
    return Consolidation(side, blobs)


def _usual_nodules(rng: np.random.Generator) -> list[NoduleSpec]:
    return [NoduleSpec(float(rng.uniform(17, 30)), "solid") for _ in range(int(rng.integers(1, 3)))]


@dataclass(frozen=True, eq=False)
class _Places:
    """Where nodules may go: not into a lung that has collapsed, and on a film not behind heart or diaphragm."""

    anatomy: Anatomy
    rng: np.random.Generator
    collapsed_side: int
    film_shows: bool

    def side(self) -> int:
        return -self.collapsed_side or int(self.rng.choice([LEFT, RIGHT]))

    def is_clear(self, point: Array, side: int) -> bool:
        if not self.film_shows:
            return True
        if abs(point[0]) < HILA_END_MM * self.anatomy.scale[0]:
            return False
        x, z = point[:1], point[2:]
        return not any(length(organ.interval(x, z)).any() for organ in self.anatomy.organs(side))


def _place(places: _Places, wished: Sequence[NoduleSpec]) -> tuple[Nodule, ...]:
    """Nodules that do not touch each other or the wall."""
    placed: list[Nodule] = []
    for spec in wished:
        if spec.texture not in TEXTURES or not NODULE_MM[0] <= spec.diameter_mm <= NODULE_MM[1]:
            raise Refused(
                f"a nodule is 4 to 30 mm and one of {', '.join(TEXTURES)}, not {spec.diameter_mm} mm {spec.texture}"
            )
        hu, core = HU_OF_TEXTURE[spec.texture]
        centre = spec.center_lps_mm or _free_place(places, spec, placed)
        placed.append(Nodule(centre, spec.diameter_mm, spec.texture, hu, core))
    return tuple(placed)


def _free_place(places: _Places, spec: NoduleSpec, placed: Sequence[Nodule]) -> Point:
    for _ in range(400):
        side = spec.side or places.side()
        point = points_in_lung(places.anatomy, side, 1, places.rng, spec.diameter_mm / 2 + 4)[0]
        gaps = [
            np.linalg.norm(point - n.center_lps_mm) - (n.diameter_mm + spec.diameter_mm) / 2 for n in placed
        ]
        if places.is_clear(point, side) and all(gap > 6 for gap in gaps):
            return float(point[0]), float(point[1]), float(point[2])
    raise Refused(f"no room in this lung for one more nodule of {spec.diameter_mm} mm")
