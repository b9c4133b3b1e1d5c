"""Images that are no slices of the scan among which they lie: screenshots, projections, maps of a material.

Consoles file a picture of the screen or of the dose under the series that was open. A few of them cost a scan nothing;
where they are many, nobody can say what the series is, and it is refused for what they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from triage.domain.slice_groups import LEAST_SLICES, is_placed
from triage.domain.study import CT_CLASSES, SECONDARY_CAPTURE, InstanceHeader
from triage.domain.suitability import NotSuitable, ReasonCode

SECONDARY_CAPTURES = frozenset(SECONDARY_CAPTURE + s for s in ("", ".1", ".2", ".3", ".4"))
# Words of Image Type (0008,0008), standards 4.2.
PROJECTIONS = frozenset(
    (
        "MIP",
        "MINIP",
        "AVERAGE",
        "AVG",
        "MAX_IP",
        "MIN_IP",
        "PROJECTION IMAGE",
        "PROJECTION",
        "CSA",
        "CPR",
        "VRT",
    )
)
SCREENSHOTS = frozenset(("SCREENSAVE", "SCREEN SAVE", "DOSE", "REPORT", "DOSE_INFO"))
MATERIALS = frozenset(("VNC", "IODINE", "Z_EFF", "ZEFF", "Z-EFF", "MATERIAL", "MONO_40", "VNCA"))
SLICES_TO_ONE = 5  # so many slices for each image that is left out, else it is not "a few"


def no_slice(h: InstanceHeader) -> NotSuitable | None:
    """What this object is instead of a slice of a scan, by its own tags; None: it may be one."""
    if h.sop_class_uid in SECONDARY_CAPTURES:
        return NotSuitable(ReasonCode.SECONDARY_CAPTURE)
    if h.sop_class_uid not in CT_CLASSES:
        return NotSuitable(ReasonCode.WRONG_MODALITY, h.modality)
    for words, code in (
        (SCREENSHOTS, ReasonCode.SECONDARY_CAPTURE),
        (PROJECTIONS, ReasonCode.PROJECTION_MIP),
        (MATERIALS, ReasonCode.DERIVED),
    ):
        odd = words.intersection(h.image_type)
        if odd:
            return NotSuitable(code, f"image type {min(odd)}")
    if h.image_type[1:2] == ("SECONDARY",):
        return NotSuitable(ReasonCode.DERIVED, "image type SECONDARY")
    return None


def odd_ones(headers: Sequence[InstanceHeader]) -> dict[int, str]:
    """{index: why} of the few that may be left out; empty where none is odd, or where they are more than a few."""
    odd = {i: why for i, h in enumerate(headers) if (why := _why(h))}
    slices = sum(h.number_of_frames for i, h in enumerate(headers) if i not in odd)
    few = slices >= LEAST_SLICES and SLICES_TO_ONE * len(odd) <= slices
    return odd if few else {}


def without_odd_ones(headers: Sequence[InstanceHeader]) -> list[InstanceHeader]:
    odd = odd_ones(headers)
    return [h for i, h in enumerate(headers) if i not in odd]


def notes_on(odd: dict[int, str]) -> list[str]:
    """What was left out and why, for the record of a run."""
    return [f"{count} images left out: {why}" for why, count in sorted(Counter(odd.values()).items())]


def _why(h: InstanceHeader) -> str:
    answer = no_slice(h)
    if answer is not None:
        return answer.detail or answer.sentence
    # A console's picture under the class of the scan: nobody knows where it is, nor what its values mean.
    if h.number_of_frames == 1 and not is_placed(h) and h.rescale_slope is None:
        return "no place and no rescale"
    return ""
