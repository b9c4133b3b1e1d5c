"""A small picture of a study for the reading list: JPEG, longest side 1024, not for diagnosis, without any mark.

One frontal film, or evenly spaced key slices of the largest CT series: spacing them by findings would point to a
place, which triage-only mode may not do (standards 0.4). Foreign pixels are decoded in the guarded child.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triage.dicom.child import DecodingChild, SharedArray, Task
from triage.dicom.pixels import FILM_PIXELS, Decoder
from triage.domain.errors import Refused
from triage.domain.study import CT_CLASSES, RADIOGRAPH_CLASSES, InstanceHeader
from triage.domain.suitability import NotSuitableError
from triage.settings import Settings
from triage.store.instances import header_from_json
from triage.store.spool import Spool

Given = TypeVar("Given")
LONGEST_SIDE = 1024
KEY_SLICES = 24
FILM_SCALE = 4095.0  # films are windowed in 12-bit units, as readers know them
LUNG_WINDOW = (-600.0, 1500.0)  # centre, width in HU
CACHED_MAX = 500  # pictures; some 500 MB at most
FRONTAL = ("PA", "AP")
_SLICE_SECONDS = 20.0
_SLICE_PIXELS_MAX = 1024 * 1024


@dataclass(frozen=True)
class Picture:
    jpeg: bytes
    center: float
    width: float


@dataclass(frozen=True)
class Frame:
    """One picture that can be shown: an instance, and which of its frames."""

    header: InstanceHeader
    digest: str
    number: int = 0

    @property
    def is_film(self) -> bool:
        return self.header.sop_class_uid in RADIOGRAPH_CLASSES


def describe(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What `render` has for these rows of `store.reading.preview_rows`; None without a picture."""
    frames = _frames(rows)
    if not frames:
        return None
    first = frames[0]
    return {
        "kind": "film" if first.is_film else "ct",
        "frames": len(frames),
        "rows": first.header.rows,
        "columns": first.header.columns,
        "sop_uids": [f.header.sop_instance_uid for f in frames],
        "not_for_diagnosis": True,
    }


class Previewer:
    """Renders pictures; one decoding child per process, used by one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._spool = Spool(settings.spool)
        self._cache = settings.home / "previews"
        self._lock = threading.Lock()
        self._films: Decoder | None = None
        self._slices: DecodingChild | None = None

    def render(
        self, rows: Sequence[dict[str, Any]], *, frame: int, center: float | None, width: float | None,
        stretched: bool = False, invert: bool = False,
    ) -> Picture:  # fmt: skip
        """The picture through a window; `center` and `width` None for the default.

        rows      of `store.reading.preview_rows`
        center    HU for CT, 0 to 4095 for a film (0 air, as received after its own VOI)
        stretched  films: window between the 1st and 99th percentile
        raises    Refused when there is nothing to show, with the reason
        """
        frames = _frames(rows)
        if not frames:
            raise Refused("this study has no picture that can be shown here")
        chosen = frames[min(frame, len(frames) - 1)]
        values = self._values(chosen)
        if chosen.is_film:
            default = _stretch(values) if stretched else (FILM_SCALE / 2, FILM_SCALE)
        else:
            default = LUNG_WINDOW
        used = (default[0] if center is None else center, default[1] if width is None else width)
        return Picture(_jpeg(values, *used, invert=invert), *used)

    def with_decoder(self, work: Callable[..., Given], *given: Any) -> Given:
        """work(decoder, *given), one at a time."""
        with self._lock:
            if self._films is None:
                self._films = Decoder(_SLICE_SECONDS)
            return work(self._films, *given)

    def rendered(
        self, path: Path, header: InstanceHeader, frame: int, window: tuple[float, float] | None, *, png: bool
    ) -> bytes:
        """One frame as JPEG or PNG, longest side 1024. window: centre, width in modality units; None: as it should look.

        raises  Refused with the reason when it cannot be shown
        """
        film = header.sop_class_uid in RADIOGRAPH_CLASSES
        chosen = Frame(header, path.stem, frame)
        if film and window is None:
            values, used, invert = self._values(chosen), (FILM_SCALE / 2, FILM_SCALE), False
        else:
            try:
                with self._lock:
                    values = self._slice(chosen)
            except NotSuitableError as error:
                raise Refused(f"no picture: {error.answer.sentence}") from error
            used = window or (LUNG_WINDOW if header.sop_class_uid in CT_CLASSES else _stretch(values))
            invert = header.photometric_interpretation == "MONOCHROME1"
        return _picture(values, *used, invert=invert, kind="PNG" if png else "JPEG")

    def close(self) -> None:
        with self._lock:
            if self._films is not None:
                self._films.close()
            if self._slices is not None:
                self._slices.close()
            self._films = self._slices = None

    def _values(self, chosen: Frame) -> NDArray[np.int16]:
        """(rows, columns) int16, longest side 1024: HU, or 12-bit film values; kept under TRIAGE_HOME/previews."""
        kept = self._cache / f"{chosen.digest}-{chosen.number}.npy"
        try:
            found: NDArray[np.int16] = np.load(kept, allow_pickle=False)
            return found
        except (OSError, ValueError):
            pass  # not there yet, or cut short by a crash: made again
        try:
            with self._lock:
                values = self._film(chosen) if chosen.is_film else self._slice(chosen)
        except NotSuitableError as error:
            raise Refused(f"no preview: {error.answer.sentence}") from error
        self._keep(kept, values)
        return values

    def _film(self, chosen: Frame) -> NDArray[np.int16]:
        if self._films is None:
            self._films = Decoder(_SLICE_SECONDS)
        film = self._films.radiograph(self._spool.path(chosen.digest), chosen.header)
        values: NDArray[np.int16] = (
            np.rint(_small(film.pixels) * FILM_SCALE).clip(0, FILM_SCALE).astype(np.int16)
        )
        return values

    def _slice(self, chosen: Frame) -> NDArray[np.int16]:
        h = chosen.header
        if h.samples_per_pixel != 1:
            raise Refused("no picture of a colour image")
        if not 0 < h.rows * h.columns <= (FILM_PIXELS if chosen.is_film else _SLICE_PIXELS_MAX):
            raise Refused("no preview: the slice is too large")
        if self._slices is None:
            self._slices = DecodingChild(_SLICE_SECONDS)
        slope = 1.0 if h.rescale_slope is None else h.rescale_slope
        task = Task(
            self._spool.path(chosen.digest),
            chosen.number,
            h.number_of_frames,
            0,
            slope,
            h.rescale_intercept or 0.0,
        )
        shared = SharedArray((h.rows, h.columns), np.int16)
        try:
            self._slices.decode("slices", [task], h.rows, h.columns, shared)
        finally:
            shared.close()
        return np.rint(_small(shared.array.astype(np.float32))).astype(np.int16)

    def _keep(self, path: Path, values: NDArray[np.int16]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        with temporary.open("wb") as stream:
            np.save(stream, values, allow_pickle=False)
        temporary.replace(path)
        kept = sorted(path.parent.glob("*.npy"), key=lambda p: p.stat().st_mtime)
        for old in kept[: max(0, len(kept) - CACHED_MAX)]:
            old.unlink(missing_ok=True)


def _frames(rows: Sequence[dict[str, Any]]) -> list[Frame]:
    """Pictures in the order in which they are shown: one frontal film, else key slices from feet to head."""
    films, series = [], {}  # type: ignore[var-annotated]
    for row in rows:
        held = Frame(header_from_json(row["header"]), row["digest"])
        if not held.header.has_pixel_data or held.header.samples_per_pixel != 1:
            continue
        if held.is_film:
            films.append(held)
        elif held.header.sop_class_uid in CT_CLASSES:
            series.setdefault(row["series_id"], []).append(held)
    if films:
        return [min(films, key=lambda f: (f.header.view_position.upper() not in FRONTAL, films.index(f)))]
    if not series:
        return []
    largest = max(series.values(), key=lambda held: (sum(_count(f) for f in held), len(held)))
    stack = [Frame(f.header, f.digest, n) for f in sorted(largest, key=_height) for n in range(_count(f))]
    picked = np.linspace(0, len(stack) - 1, min(KEY_SLICES, len(stack))).round().astype(int)
    return [stack[i] for i in picked]


def _count(frame: Frame) -> int:
    return max(1, min(frame.header.number_of_frames, 10_000))


def _height(frame: Frame) -> tuple[float, int]:
    """Along the patient's axis; Instance Number promises nothing about space, but is what is left without positions."""
    position = frame.header.image_position_patient
    return (position[2] if position else 0.0, frame.header.instance_number or 0)


def _small(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = pixels.shape
    factor = LONGEST_SIDE / max(rows, columns)
    if factor >= 1:
        return pixels
    size = (max(1, round(columns * factor)), max(1, round(rows * factor)))
    return np.asarray(Image.fromarray(pixels, mode="F").resize(size, Image.Resampling.BOX))


def _stretch(values: NDArray[np.int16]) -> tuple[float, float]:
    low, high = np.percentile(values, (1, 99))
    return float(low + high) / 2, float(max(1, high - low))


def _jpeg(values: NDArray[np.int16], center: float, width: float, *, invert: bool) -> bytes:
    return _picture(values, center, width, invert=invert, kind="JPEG")


def _picture(values: NDArray[np.int16], center: float, width: float, *, invert: bool, kind: str) -> bytes:
    grey = np.clip((values - (center - width / 2)) / max(width, 1e-6), 0, 1) * 255
    shown = (255 - grey if invert else grey).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(shown, mode="L").save(stream, kind, quality=85)
    return stream.getvalue()
