"""Lung nodules in chest CT: a finder over the lungs, a closer look at each candidate, then measurement.

`load` makes the detector from a Release; the workflow calls `detect` in its guarded child process. The networks read
what `scaled` and `_grid.resample` make, and training uses the same two functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from triage.detectors import _runtime
from triage.detectors._grid import Grid, canonical, resample
from triage.detectors.lungs import Lungs, find_lungs
from triage.detectors.measure import WALL_MM, measure
from triage.detectors.protocol import Detection
from triage.detectors.regions import on_slices
from triage.detectors.registration import pack
from triage.detectors.releases import Release, load_release
from triage.domain.finding import Band, Finding, Location, Measurements, SliceMask
from triage.domain.image import Volume
from triage.domain.suitability import NotSuitableError, ReasonCode

Array = NDArray[np.float32]
Reader = Callable[[Array], tuple[Array, ...]]  # a network, or one that sees through a mirror

FINDER_STEP_MM = 1.25  # grid of the finder: a 4 mm nodule is three voxels wide, a whole chest 13 million
STRIDE = 2  # of its output
MULTIPLE = 8  # its input is a multiple of this
MARGIN_MM = 8.0  # of tissue around the lungs that the finder sees
SLAB, OVERLAP = 256, 32  # slices of the finder's grid at once: a tall scan stays below 2 GB
MOST_PLACES = 64
GROW_MM = 3.0  # a centre may lie this far outside the lung mask: nodules on the pleura
NEAR_MM, AROUND_MM, LOOK = 1.0, 1.5, 32  # the judge sees 32 mm closely and 48 mm around
LEAST_LUNG_ML = 100.0
MASS_MM, SMALLEST_MM = 30.0, 4.0  # standards 13.2
SIGNIFICANT_MM, SIGNIFICANT_MM3 = 6.0, 100.0  # standards 13.2


@dataclass(frozen=True)
class Place:
    """Where a nodule may be: centre LPS mm, expected diameter, and the logits of finder and judge."""

    center_lps_mm: tuple[float, float, float]
    diameter_mm: float
    finder: float
    judge: float = 0.0


def scaled(hu: Array) -> Array:
    """HU as the networks read it: -1000 to 400 becomes 0 to 1, the rest is cut."""
    return np.asarray(np.clip((hu + 1000.0) / 1400.0, 0.0, 1.0), dtype=np.float32)


def load(folder: Path, runtime: str = "openvino") -> LungNodule:
    """The detector of one release folder.

    runtime  "openvino" (CPU), "torch" (CPU) or "cuda"
    raises   Misconfigured when a file of the release is absent or changed
    """
    release = load_release(folder)
    finder, judge = (
        _runtime.open_network(
            runtime,
            folder / f"{part}.xml",
            folder / f"{part}.safetensors",
            partial(_module, part, release.content),
        )
        for part in ("finder", "judge")
    )
    return LungNodule(release, finder, judge)


def _module(part: str, content: dict[str, Any]) -> Any:
    from triage.detectors import _nets3d  # torch: only where the runtime is torch

    widths = tuple(content["widths"][part])
    if part == "judge" and content.get("judges", 1) > 1:
        return _nets3d.JudgePanel(widths, content["judges"])
    return {"finder": _nets3d.NoduleFinder, "judge": _nets3d.CandidateJudge}[part](widths)


class LungNodule:
    """A `ScanDetector`; see `load`."""

    name = "lung_nodule"

    def __init__(self, release: Release, finder: _runtime.Network, judge: _runtime.Network) -> None:
        self.release, self.digest = release.title, release.digest
        self.not_covered = release.not_covered
        self._content, self._finder, self._judge = release.content, finder, judge
        self._golden, self.runtime = release.folder / "golden.npz", finder.runtime

    def detect(self, scan: Volume) -> Detection:
        """Nodules of one chest CT, most probable first.

        raises  NotSuitableError (WRONG_BODY_PART) when there is no lung worth looking at
        """
        source = canonical(scan.hu, scan.affine)
        lungs = find_lungs(source)
        if lungs.volume_ml < LEAST_LUNG_ML:
            raise NotSuitableError(
                ReasonCode.WRONG_BODY_PART,
                f"{lungs.volume_ml:.0f} ml of lung in the images, at least {LEAST_LUNG_ML:.0f} needed",
            )
        notes = []
        if lungs.cut_low or lungs.cut_high:
            ends = " and ".join(w for w, c in (("base", lungs.cut_low), ("apex", lungs.cut_high)) if c)
            notes.append(f"{ReasonCode.FIELD_OF_VIEW.value}: part of the lungs only, cut at the {ends}")
        findings, small = self._findings(scan, source, lungs, self.places(source, lungs))
        if small:
            notes.append(f"{small} candidates under {SMALLEST_MM:.0f} mm are not listed")
        return Detection(findings, self.not_covered, tuple(notes), pack(lungs))

    def places(self, source: Grid, lungs: Lungs) -> list[Place]:
        """Candidates in the lungs, judged."""
        floor = self._content["finder_floor"]
        found = find_places(self._finder, source, lungs, floor, self._content.get("passes", 1))
        return judged(self._judge, source, found, self._content.get("mirrored", 0))

    def verify(self) -> float:
        """Largest difference of both networks' golden outputs from those that the release was made with."""
        with np.load(self._golden, allow_pickle=False) as golden:
            found = [
                np.abs(
                    network(golden[f"{part}_input"].astype(np.float32))[0] - golden[f"{part}_output"]
                ).max()
                for part, network in (("finder", self._finder), ("judge", self._judge))
            ]
        return float(max(found))

    def probability(self, place: Place) -> tuple[float, float]:
        """(raw, calibrated) probability by the release's logistic calibration."""
        c = self._content["calibration"]
        logit = c["finder"] * place.finder + c["judge"] * place.judge + c["bias"]
        return float(1 / (1 + np.exp(-place.judge))), float(1 / (1 + np.exp(-logit)))

    def _findings(
        self, scan: Volume, source: Grid, lungs: Lungs, places: list[Place]
    ) -> tuple[tuple[Finding, ...], int]:
        ranked = sorted(places, key=lambda p: -self.probability(p)[1])
        findings: list[Finding] = []
        taken: list[tuple[tuple[float, float, float], float]] = []
        small = 0
        inside_wall = lungs.grown(WALL_MM)
        for place in ranked:
            raw, probability = self.probability(place)
            if probability < self._content["floor"] or len(findings) >= self._content["most_findings"]:
                break
            measured, outline = measure(source, inside_wall, place.center_lps_mm, place.diameter_mm)
            radius = max(measured.long_axis_mm / 2, 3.0)
            if any(np.linalg.norm(np.subtract(measured.center_lps_mm, c)) < max(r, radius) for c, r in taken):
                continue  # two peaks that grew into one nodule
            taken.append((measured.center_lps_mm, radius))
            if max(mean_diameter(measured), _equivalent(measured)) < SMALLEST_MM:
                small += 1
                continue
            region = on_slices(outline, scan)
            findings.append(self._finding(raw, probability, measured, region, lungs))
        return tuple(findings), small

    def _finding(
        self, raw: float, probability: float, m: Measurements, region: tuple[SliceMask, ...], lungs: Lungs
    ) -> Finding:
        cuts = self._content["bands"]
        high = probability >= cuts["high"]
        band = Band.HIGH if high else Band.MODERATE if probability >= cuts["moderate"] else Band.LOW
        significant = mean_diameter(m) >= SIGNIFICANT_MM or m.volume_mm3 >= SIGNIFICANT_MM3
        return Finding(
            name="mass" if m.long_axis_mm >= MASS_MM else "nodule",
            probability_raw=raw,
            probability=probability,
            band=band,
            actionable=high and significant,
            threshold=cuts["high"],
            location=Location(
                side=_side(m.center_lps_mm, lungs), zone=_zone(m.center_lps_mm, lungs), region=region
            ),
            measurements=m,
        )


def mean_diameter(m: Measurements) -> float:
    """Mean of long and short axis, the size that thresholds are stated in (Fleischner 2017)."""
    return (m.long_axis_mm + m.short_axis_mm) / 2


def _equivalent(m: Measurements) -> float:
    return float(np.cbrt(6 * m.volume_mm3 / np.pi))


def _side(center: tuple[float, float, float], lungs: Lungs) -> str:
    """By the lungs' own middle: +x is the patient's left."""
    x = lungs.grid.to_lps(np.argwhere(lungs.mask).mean(0)[None])[0][0]
    return "left" if center[0] > x else "right"


def _zone(center: tuple[float, float, float], lungs: Lungs) -> str:
    """Third of the lungs' height; "" when part of the lungs is outside the images."""
    if lungs.cut_low or lungs.cut_high:
        return ""
    slices = np.flatnonzero(lungs.mask.any((1, 2)))
    share = (lungs.grid.to_index(np.array([center]))[0][0] - slices[0]) / max(1, slices[-1] - slices[0])
    return "upper" if share > 2 / 3 else "middle" if share > 1 / 3 else "lower"


def find_places(
    finder: _runtime.Network, source: Grid, lungs: Lungs, floor: float, passes: int = 1
) -> list[Place]:
    """Where the finder sees nodules inside the lungs, at most 64 places, best first.

    floor   logit below which a peak is nothing
    passes  2: the lungs are read again mirrored left to right and half an output cell further; both must agree on a
            place to keep its logit, since a peak that hangs on how the grid lies is seldom a nodule
    """
    spare = passes - 1
    grid, near = lung_grid(source, lungs, spare), lungs.grown(GROW_MM)
    places = _peaks(finder, _part(grid, 0, spare), near, floor)
    if passes == 2:
        again = _peaks(_mirrored(finder), _part(grid, 1, spare), near, floor)
        places = _agreed(places, again, floor)
    return sorted(places, key=lambda p: -p.finder)[:MOST_PLACES]


def _part(grid: Grid, start: int, spare: int) -> Grid:
    """The grid from voxel `start` of each axis on, without its `spare` further ones."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_lps(np.full((1, 3), float(start)))[0]
    return Grid(grid.hu[tuple(slice(start, start + n - spare) for n in grid.hu.shape)], affine)


def _peaks(finder: Reader, grid: Grid, near: Lungs, floor: float) -> list[Place]:
    """Peaks of one pass over the lungs on this grid; `near`: the lungs and what counts with them."""
    output = _over_slabs(finder, scaled(grid.hu.astype(np.float32)))
    heat = output[0]
    cells = np.array([1, 1, 1]) * STRIDE
    coarse = Grid(heat, _coarser(grid))
    inside = near.on(coarse)
    peak = (heat == ndi.maximum_filter(heat, 3)) & inside & (heat > floor)
    where = np.argwhere(peak)
    order = np.argsort(-heat[peak], kind="stable")[:200]
    places: list[Place] = []
    for z, y, x in where[order]:
        offset = np.clip(output[1:4, z, y, x], -2, 2)
        index = (np.array([z, y, x]) + offset) * cells + 0.5
        lps = grid.to_lps(index[None])[0]
        diameter = float(np.exp(np.clip(output[4, z, y, x], np.log(3.0), np.log(45.0))))
        place = Place((float(lps[0]), float(lps[1]), float(lps[2])), diameter, float(heat[z, y, x]))
        if any(_same(p, place) for p in places):
            continue
        places.append(place)
        if len(places) == MOST_PLACES:
            break
    return places


def _same(one: Place, other: Place) -> bool:
    """Whether the second lies within the first, as two peaks of one nodule do."""
    return _gap_mm(one, other) < max(4.0, 0.5 * one.diameter_mm)


def _gap_mm(one: Place, other: Place) -> float:
    return float(np.linalg.norm(np.subtract(one.center_lps_mm, other.center_lps_mm)))


def _mirrored(finder: Reader) -> Reader:
    """The finder as it sees lungs in a mirror along x, its answer turned back."""

    def seen(values: Array) -> tuple[Array, ...]:
        output = finder(values[..., ::-1])[0][..., ::-1].copy()
        output[:, 3] *= -1  # the offset along x
        return (output,)

    return seen


def _agreed(first: list[Place], second: list[Place], floor: float) -> list[Place]:
    """Places of both passes with the mean of their logits; what one pass alone saw is `floor` to the other."""
    merged, left = [], list(second)
    for place in first:
        twin = min((p for p in left if _same(place, p)), key=partial(_gap_mm, place), default=None)
        if twin is not None:
            left.remove(twin)
        other = floor if twin is None else twin.finder
        lead = place if twin is None or place.finder >= twin.finder else twin
        merged.append(replace(lead, finder=(place.finder + other) / 2))
    return merged + [replace(p, finder=(p.finder + floor) / 2) for p in left]


def lung_grid(source: Grid, lungs: Lungs, spare: int = 0) -> Grid:
    """The lungs with their margin on the finder's grid, and `spare` voxels more at the end of each axis."""
    where = np.argwhere(lungs.mask)
    ends = np.array([where.min(0), where.max(0)], float)
    corners = source.to_index(lungs.grid.to_lps(ends))
    margin = MARGIN_MM / np.array(source.spacing)
    low = np.maximum(corners[0] - margin, 0)
    high = np.minimum(corners[1] + margin, np.array(source.hu.shape) - 1)
    cells = (high - low) * np.array(source.spacing) / FINDER_STEP_MM
    shape = [int(np.ceil((c + 1) / MULTIPLE)) * MULTIPLE for c in cells]
    return resample(source, FINDER_STEP_MM, low, (shape[0] + spare, shape[1] + spare, shape[2] + spare))


def _coarser(grid: Grid) -> NDArray[np.float64]:
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_lps(np.array([[0.5, 0.5, 0.5]]))[0]
    affine[:3, :3] *= STRIDE
    return np.asarray(affine)


def _over_slabs(finder: Reader, values: Array) -> Array:
    """Finder output (5, z/2, y/2, x/2), computed slab by slab along z where the scan is tall."""
    depth = values.shape[0]
    if depth <= SLAB + OVERLAP:
        whole: Array = finder(values[None, None])[0][0]
        return whole
    parts = []
    for start in range(0, depth, SLAB):
        low, high = max(0, start - OVERLAP), min(depth, start + SLAB + OVERLAP)
        out = finder(values[None, None, low:high])[0][0]
        parts.append(out[:, (start - low) // STRIDE : (min(start + SLAB, depth) - low) // STRIDE])
    return np.concatenate(parts, 1)


def judged(judge: _runtime.Network, source: Grid, places: list[Place], mirrored: int = 0) -> list[Place]:
    """The same places with the judge's logit.

    mirrored  number of places, the likeliest by both logits, whose logit is the mean over the place as it is and
              its three mirror images: lungs have no handedness, and the mean errs less; elsewhere it would decide nothing
    """
    if not places:
        return []
    looks = np.stack([look_at(source, p.center_lps_mm) for p in places])
    logits = _logits(judge, looks)
    best = np.argsort(-(logits + [p.finder for p in places]), kind="stable")[:mirrored]
    if best.size:
        again = [_logits(judge, np.flip(looks[best], axis)) for axis in (2, 3, 4)]
        logits[best] = np.mean([logits[best], *again], 0)
    return [
        Place(p.center_lps_mm, p.diameter_mm, p.finder, float(v)) for p, v in zip(places, logits, strict=True)
    ]


def _logits(judge: _runtime.Network, looks: Array) -> Array:
    return np.concatenate([judge(looks[i : i + 16])[0][:, 0] for i in range(0, len(looks), 16)])


def look_at(source: Grid, center_lps_mm: tuple[float, float, float], side: int = LOOK) -> Array:
    """(2, side, side, side) scaled HU around a place, near and around."""
    middle = source.to_index(np.array([center_lps_mm]))[0]
    out = []
    for step in (NEAR_MM, AROUND_MM):
        low = middle - (side - 1) / 2 * step / np.array(source.spacing)
        out.append(scaled(resample(source, step, low, (side, side, side)).hu.astype(np.float32)))
    return np.stack(out)
