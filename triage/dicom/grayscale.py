"""Stored values to what a detector reads: grey in [0, 1] for a film, Hounsfield units for a slice.

Every step from stored value to output depends on the value alone, so the whole chain is one table with an entry per
stored code, and a film is one look-up. Order: PS3.4 N.2. Runs in the guarded child.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triage.dicom.elements import Wanted
from triage.dicom.frames import corrupt
from triage.dicom.text import Values

PADDING_HU = -1024
_LUT: Wanted = dict.fromkeys((0x00283002, 0x00283006))
PIXEL_ELEMENTS: Wanted = {
    **dict.fromkeys(
        (
            *(0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102),
            *(0x00280103, 0x00280120, 0x00280121, 0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281056),
            *(0x20500020, 0x7FE00001),
        )
    ),
    0x00283000: _LUT,
    0x00283010: _LUT,
}
_SAMPLE_STEP = 4  # statistics look at every fourth row and column
_LEAST_SPREAD = 0.2  # of grey between the 0.5 and 99.5 percentile: a window that leaves less shows no film


@dataclass(frozen=True)
class Coding:
    """How a sample's bits make a stored value (PS3.5 8.1)."""

    bits_stored: int
    shift: int
    signed: bool
    lossy: bool = False  # a lossy stream may overshoot: clip, since masking would turn white into black

    @property
    def stored(self) -> NDArray[np.int64]:
        """Stored value of every code, (2**bits_stored,)."""
        codes = np.arange(1 << self.bits_stored, dtype=np.int64)
        return codes - ((codes >> (self.bits_stored - 1)) << self.bits_stored) if self.signed else codes

    def codes(self, samples: NDArray[Any]) -> NDArray[np.uint16]:
        """Codes of samples: justified, and without what hides in the bits above (old overlays)."""
        unsigned = samples.astype(np.uint16, copy=False)
        if self.shift:
            unsigned = unsigned >> np.uint16(self.shift)
        if self.lossy and not self.signed:
            return np.minimum(unsigned, np.uint16((1 << self.bits_stored) - 1))
        return unsigned & np.uint16((1 << self.bits_stored) - 1)


def coding(v: Values, *, encapsulated: bool, lossy: bool) -> Coding:
    """Coding of one object; raises CORRUPT_PIXELS for bits that contradict each other."""
    allocated, stored = v.unsigned(0x00280100), v.unsigned(0x00280101)
    high = v.unsigned(0x00280102) if v.raw(0x00280102) else stored - 1
    if allocated not in (8, 16) or not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise corrupt(f"bits allocated {allocated}, stored {stored}, high bit {high}")
    # A code stream is right-justified whatever High Bit says.
    return Coding(stored, 0 if encapsulated else high + 1 - stored, v.unsigned(0x00280103) == 1, lossy)


def padding_codes(v: Values, coding: Coding) -> NDArray[np.bool_]:
    """Which codes are padding: one value or an inclusive range in either order (PS3.3 C.7.5.1.1.2)."""
    stored = coding.stored
    value = _word(v, 0x00280120, coding.signed)
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = _word(v, 0x00280121, coding.signed)
    low, high = sorted((value, value if limit is None else limit))
    return (stored >= low) & (stored <= high)


def hounsfield_table(v: Values, coding: Coding, slope: float, intercept: float) -> NDArray[np.int16]:
    """HU of every code; padding is -1024 (PS3.3 C.11.1, standards 5.1).

    Scanners also pad without saying so, with -2000, -2048 or -3024 outside the reconstruction circle: nothing is
    thinner than air, so what is below -1024 is padding too.
    """
    hu = np.clip(np.rint(coding.stored * slope + intercept), PADDING_HU, 32767)
    hu[padding_codes(v, coding)] = PADDING_HU
    return np.asarray(hu, np.int16)


@dataclass(frozen=True)
class Grey:
    """table: grey of every code, dense bone bright, padding 0; notes: what was not as it should be."""

    table: NDArray[np.float32]
    notes: tuple[str, ...]


def grey_table(v: Values, coding: Coding, codes: NDArray[np.uint16]) -> Grey:
    """Grey of every code for one film.

    codes   of the film: only a missing or useless window looks at them (0.5 and 99.5 percentile instead)
    raises  CORRUPT_PIXELS for a photometric interpretation that is no grey
    source  PS3.4 N.2, PS3.3 C.11.1, C.11.2, C.7.6.3.1.2
    """
    photometric = v.code(0x00280004).upper()
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or v.unsigned(0x00280002) != 1:
        raise corrupt(f"photometric interpretation {photometric or 'missing'}")
    notes: list[str] = []
    padding = padding_codes(v, coding)
    sample = codes[::_SAMPLE_STEP, ::_SAMPLE_STEP].ravel()
    sample = sample[~padding[sample]]
    values = _modality(v, coding, notes)
    grey = _voi_lut(v, values, notes)
    if grey is None:
        grey = _window(v, values)
    if grey is None:
        notes.append("no window, percentiles used")
    elif sample.size and np.ptp(np.percentile(grey[sample], (0.5, 99.5))) < _LEAST_SPREAD:
        notes.append("window shows nothing, percentiles used")
        grey = None
    if grey is None:
        grey = _stretch(values, sample)
    inverse = v.code(0x20500020).upper() == "INVERSE"
    if photometric == "MONOCHROME2" and inverse:
        notes.append("MONOCHROME2 with an inverse presentation shape: inverted")
    if photometric == "MONOCHROME1" or inverse:
        grey = 1 - grey
    grey[padding] = 0
    return Grey(grey.astype(np.float32), tuple(notes))


def _word(v: Values, tag: int, signed: bool) -> int | None:
    words = v.words(tag)
    if not words:
        return None
    return words[0] - 0x10000 if signed and words[0] & 0x8000 else words[0]


def _modality(v: Values, coding: Coding, notes: list[str]) -> NDArray[np.float64]:
    table = _lut(v.items(0x00283000), coding.signed)
    if table is not None:
        first, entries, _ = table
        return entries[np.clip(coding.stored - first, 0, len(entries) - 1)]
    if v.items(0x00283000):
        notes.append("modality LUT unusable, left out")
    slope, intercept = v.real(0x00281053), v.real(0x00281052)
    return np.asarray(coding.stored * (slope or 1.0) + (intercept or 0.0), np.float64)


def _voi_lut(v: Values, values: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64] | None:
    items = v.items(0x00283010)
    table = _lut(items, bool(values.min() < 0))
    if table is None:
        if items:
            notes.append("VOI LUT unusable, left out")
        return None
    first, entries, bits = table
    mapped = entries[np.clip(np.rint(values).astype(np.int64) - first, 0, len(entries) - 1)]
    return mapped / max(float((1 << bits) - 1), float(entries.max()), 1.0)


def _lut(items: list[Values], signed: bool) -> tuple[int, NDArray[np.float64], int] | None:
    """(first mapped value, entries, bits per entry) of a LUT item; None when it is not whole (PS3.3 C.11.1.1)."""
    if not items or len(items[0].words(0x00283002)) != 3:
        return None
    count, first, bits = items[0].words(0x00283002)
    count = count or 65_536
    data = items[0].raw(0x00283006) or b""
    if not 8 <= bits <= 16 or len(data) < count:
        return None
    # 8-bit entries may stand one or two to a word.
    entries = (
        np.frombuffer(data, np.uint8, count)
        if len(data) < 2 * count
        else np.array(items[0].words(0x00283006))
    )
    if signed and first & 0x8000:
        first -= 0x10000
    return first, entries[:count].astype(np.float64), bits


def _window(v: Values, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """First window (PS3.3 C.11.2.1.2, .3.1, .3.2), None when there is none or its width is no width."""
    center, width = v.real(0x00281050), v.real(0x00281051)
    function = v.code(0x00281056).upper() or "LINEAR"
    if center is None or width is None or width <= 0 or (function == "LINEAR" and width < 1):
        return None
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -500, 500))), np.float64)
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _stretch(values: NDArray[np.float64], sample: NDArray[np.uint16]) -> NDArray[np.float64]:
    seen = values[sample] if sample.size else values
    low, high = np.percentile(seen, (0.5, 99.5))
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1), np.float64)
