"""Raw bytes of frames out of a Part 10 file: native, deflated or encapsulated (PS3.5 A.4, 8.2).

Runs in the guarded child. Raises NotSuitableError(CORRUPT_PIXELS) for what does not add up; never fills in.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from triage.dicom.elements import UNDEFINED, Part10
from triage.domain.errors import Refused
from triage.domain.suitability import NotSuitableError, ReasonCode

MAX_FRAGMENTS = 100_000
_FRAME_STARTS = (
    b"\xff\xd8\xff",  # JPEG, JPEG-LS
    b"\xff\x4f\xff\x51",  # JPEG 2000, HTJ2K
    b"\x00\x00\x00\x0cjP  ",  # JPEG 2000 in its file format
    b"\xff\x0a",  # JPEG XL code stream
    b"\x00\x00\x00\x0cJXL ",
)


def corrupt(detail: str) -> NotSuitableError:
    return NotSuitableError(ReasonCode.CORRUPT_PIXELS, detail)


class Frames:
    """Frames of one opened file, read one at a time.

    frame_bytes  size of one uncompressed frame as the header declares it
    frames       number of frames as the header declares it
    """

    def __init__(self, part10: Part10, *, frame_bytes: int, frames: int) -> None:
        self._part10 = part10
        self._frame_bytes = frame_bytes
        self._frames = frames
        self.encapsulated = part10.dataset.pixel_length == UNDEFINED
        if self.encapsulated:
            self._fragments = _Fragments(part10)
        elif part10.dataset.pixel_length < frame_bytes * frames:
            raise corrupt(
                f"{part10.dataset.pixel_length} bytes of pixel data where the header declares {frame_bytes * frames}"
            )

    def read(self, index: int) -> bytes:
        """Bytes of frame `index`, 0-based: samples when native, one code stream when encapsulated."""
        assert 0 <= index < self._frames
        if self.encapsulated:
            return self._fragments.frame(index, self._frames)
        stream = self._part10.stream
        target = self._part10.dataset.pixel_offset + index * self._frame_bytes
        try:
            if target < stream.position:
                stream.source.seek(target)
                stream.position = target
            else:
                stream.skip(target - stream.position)
            return stream.take(self._frame_bytes)
        except (Refused, OSError) as e:
            raise corrupt("pixel data cut short") from e


class _Fragments:
    """Places of the fragments, and which of them make which frame."""

    def __init__(self, part10: Part10) -> None:
        self._stream = part10.stream
        if self._stream.size is None:
            raise corrupt("encapsulated pixel data inside a deflated data set")
        self._size = self._stream.size
        self._little = part10.dataset.little_endian
        table = self._item()
        if table is None:
            raise corrupt("encapsulated pixel data without items")
        raw = self._take(*table)
        self._offsets = struct.unpack(f"<{len(raw) // 4}L", raw[: len(raw) // 4 * 4])
        extended = part10.dataset.values.get(0x7FE00001, b"")
        if extended:
            self._offsets = struct.unpack(f"<{len(extended) // 8}Q", extended[: len(extended) // 8 * 8])
        self._first = self._stream.position
        self.places: list[tuple[int, int]] = []
        while (place := self._item()) is not None:
            self.places.append(place)
            if len(self.places) > MAX_FRAGMENTS:
                raise corrupt(f"more than {MAX_FRAGMENTS} fragments")
        if not self.places:
            raise NotSuitableError(ReasonCode.PIXELS_MISSING, "no fragments in the encapsulated pixel data")

    def frame(self, index: int, frames: int) -> bytes:
        return b"".join(self._take(*place) for place in self._places_of(index, frames))

    def _item(self) -> tuple[int, int] | None:
        """(position, length) of the next item's value; None at the end, also when its delimiter is missing."""
        position = self._stream.position
        if position + 8 > self._size:
            return None
        self._stream.source.seek(position)
        group, element, length = struct.unpack("<HHL", self._stream.source.read(8))
        if (group, element) != (0xFFFE, 0xE000):
            return None
        if position + 8 + length > self._size:
            raise corrupt("a fragment reaches beyond the end of the file")
        self._stream.position = position + 8 + length
        return position + 8, length

    def _take(self, position: int, length: int) -> bytes:
        self._stream.source.seek(position)
        return self._stream.source.read(length)

    def _places_of(self, index: int, frames: int) -> Sequence[tuple[int, int]]:
        places = self.places
        if frames == 1:
            return places
        if len(places) == frames:
            return places[index : index + 1]
        starts = self._starts(frames)
        end = starts[index + 1] if index + 1 < len(starts) else len(places)
        return places[starts[index] : end]

    def _starts(self, frames: int) -> list[int]:
        """Index of the first fragment of each frame, by offset table, else by code-stream markers."""
        if len(self._offsets) == frames:
            by_position = {position - 8 - self._first: i for i, (position, _) in enumerate(self.places)}
            starts = [by_position.get(offset, -1) for offset in self._offsets]
        else:
            starts = [
                i
                for i, p in enumerate(self.places)
                if self._take(p[0], min(p[1], 8)).startswith(_FRAME_STARTS)
            ]
        if len(starts) != frames or starts[0] != 0 or starts != sorted(set(starts)):
            raise corrupt(f"{len(self.places)} fragments do not make {frames} frames")
        return starts
