"""Where a film shows its findings: what a phantom knows and a real film does not. For tests and training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.phantom.anatomy import anatomy_of
from triage.phantom.radiograph import Grid, film_grid, lung_lengths, posed, with_consolidation
from triage.phantom.solids import length
from triage.phantom.thorax import Thorax

Array = NDArray[Any]
MASK_PX = 256
SEEN_MM = 4.0  # of air or fluid along the ray


def film_masks(thorax: Thorax, size_px: int = 512) -> dict[str, NDArray[np.bool_]]:
    """By finding name, the pixels (size_px, size_px) of `render_radiograph(thorax, size_px)` that it covers."""
    margin = MASK_PX // 20
    grid = film_grid(thorax, MASK_PX, margin)
    masks = {}
    for name in thorax.findings:
        amount = _AMOUNT[name](thorax, grid)
        masks[name] = posed(amount, thorax, grid.px, MASK_PX, size_px) > SEEN_MM
    return masks


def _on_side(thorax: Thorax, grid: Grid, side: int, which: int) -> Array:
    """Free air (which 0) or aerated lung (1) of one side on the whole grid."""
    amount = np.zeros((grid.z.size, grid.x.size), np.float32)
    columns = np.flatnonzero(side * grid.x[0] > 0)
    here = slice(columns[0], columns[-1] + 1)
    amount[:, here] = lung_lengths(thorax, anatomy_of(thorax.body), side, grid.x[:, here], grid.z)[which]
    return amount


def _air(thorax: Thorax, grid: Grid) -> Array:
    assert thorax.pneumothorax is not None
    return _on_side(thorax, grid, thorax.pneumothorax.side, 0)


def _fluid(thorax: Thorax, grid: Grid) -> Array:
    assert thorax.effusion is not None
    healthy = Thorax(thorax.seed, thorax.body)
    side = thorax.effusion.side
    return _on_side(healthy, grid, side, 1) - _on_side(thorax, grid, side, 1)


def _filled(thorax: Thorax, grid: Grid) -> Array:
    assert thorax.consolidation is not None
    lung = _on_side(thorax, grid, thorax.consolidation.side, 1)
    return np.asarray(lung - with_consolidation(lung, thorax.consolidation, grid, thorax.seed))


def _heart(thorax: Thorax, grid: Grid) -> Array:
    hearts = anatomy_of(thorax.body).heart
    return np.asarray(np.max([length(part.interval(grid.x, grid.z)) for part in hearts], axis=0))


def _balls(thorax: Thorax, grid: Grid) -> Array:
    amount = np.zeros((grid.z.size, grid.x.size), np.float32)
    for nodule in thorax.nodules:
        x, _, z = nodule.center_lps_mm
        inside = np.hypot(grid.x - x, grid.z - z) <= nodule.diameter_mm / 2
        amount[inside] = nodule.diameter_mm + SEEN_MM
    return amount


_AMOUNT = {
    "pneumothorax": _air,
    "effusion": _fluid,
    "consolidation": _filled,
    "cardiomegaly": _heart,
    "nodule": _balls,
}
