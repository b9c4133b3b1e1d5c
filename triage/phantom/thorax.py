"""One invented person: body measures and findings as frozen values. No pictures here; see volume.py and radiograph.py."""

from __future__ import annotations

from dataclasses import dataclass

LEFT, RIGHT = 1, -1  # sign of x in LPS
SIDE_WORD = {LEFT: "left", RIGHT: "right"}
Point = tuple[float, float, float]

# Names of domain.finding.FINDING_CODES that a phantom can show.
FINDINGS = ("pneumothorax", "effusion", "consolidation", "cardiomegaly", "nodule")
TEXTURES = ("solid", "part_solid", "ground_glass")


@dataclass(frozen=True)
class Body:
    """What makes one chest unlike another.

    scale         of the mean adult along x, y, z
    fat_mm        under the skin; breast_mm: radius, 0 for none
    heart_scale   1 normal, from about 1.3 a film reads as cardiomegaly
    domes_mm      height of the right and left half of the diaphragm over their mean place (breath)
    tilt_degrees, shift_mm  how the person stands before the detector (film only)
    """

    sex: str
    scale: Point
    fat_mm: float
    breast_mm: float
    heart_scale: float
    domes_mm: tuple[float, float]
    tilt_degrees: float
    shift_mm: tuple[float, float]


@dataclass(frozen=True)
class NoduleSpec:
    """A wished nodule. Where side or center_lps_mm is None, the seed chooses a place inside the lung."""

    diameter_mm: float
    texture: str = "solid"
    side: int | None = None
    center_lps_mm: Point | None = None


@dataclass(frozen=True)
class Nodule:
    """A ball; part solid ones have a solid core of half the diameter. hu and core_hu are the noise-free values."""

    center_lps_mm: Point
    diameter_mm: float
    texture: str
    hu: float
    core_hu: float

    @property
    def core_diameter_mm(self) -> float:
        return self.diameter_mm * (0.5 if self.texture == "part_solid" else 1.0)


@dataclass(frozen=True)
class Pneumothorax:
    """Air beside a lung that shrank towards hilum and base: the lung keeps these parts of its width, depth, height."""

    side: int
    keeps: Point


@dataclass(frozen=True)
class Effusion:
    """Fluid beside a lung. It flows: upright to level_z_mm with a meniscus above, supine up to the plane level_y_mm."""

    side: int
    level_z_mm: float
    level_y_mm: float


@dataclass(frozen=True)
class Consolidation:
    """Lung filled with fluid: blobs of (x, y, z, radius) mm that melt together, with open bronchi in them."""

    side: int
    blobs: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Thorax:
    """A person and what is wrong with them; the same seed and wishes give the same value and the same pictures."""

    seed: int
    body: Body
    findings: tuple[str, ...] = ()
    nodules: tuple[Nodule, ...] = ()
    pneumothorax: Pneumothorax | None = None
    effusion: Effusion | None = None
    consolidation: Consolidation | None = None
