"""Analytic thorax phantoms: people who never lived, with findings at known places, as CT series and frontal films."""

from triage.phantom.identity import Identity, identity_for
from triage.phantom.masks import film_masks
from triage.phantom.person import make_thorax, nodule_truth
from triage.phantom.radiograph import render_radiograph
from triage.phantom.thorax import FINDINGS, NoduleSpec, Thorax
from triage.phantom.volume import render_volume
from triage.phantom.write import write_ct, write_radiograph

__all__ = [
    "FINDINGS",
    "Identity",
    "NoduleSpec",
    "Thorax",
    "film_masks",
    "identity_for",
    "make_thorax",
    "nodule_truth",
    "render_radiograph",
    "render_volume",
    "write_ct",
    "write_radiograph",
]
