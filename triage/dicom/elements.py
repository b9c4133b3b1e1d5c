"""Bounded reader of a foreign element stream: the only parser of received bytes outside the guarded child.

`read_part10` walks a Part 10 file, keeps the few elements that were asked for and skips the rest. It never
reads pixel data, and every number that a file declares meets a limit before anything is allocated
(standards 1.5).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from triage.domain.errors import Refused

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"

MAX_ELEMENTS = 100_000  # at the top level (standards 1.5)
MAX_NESTED_ELEMENTS = 500_000  # inside sequences: 4,000 frames of an Enhanced CT have a hundred elements each
MAX_DEPTH = 32
MAX_VALUE_BYTES = 262_144  # of one kept value; a LUT of 65536 words is the longest that we want
MAX_INFLATION_RATIO = 100
MAX_INFLATED_HEADER = 64 << 20
UNDEFINED = 0xFFFFFFFF

FIRST_ITEM_ONLY = frozenset({0x52009230})  # Per-frame Functional Groups, unless every frame is asked for
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split(),
)

# Which elements to keep: a tag with None keeps the value, with a mapping descends into the sequence.
Wanted = Mapping[int, "Wanted | None"]


@dataclass
class Elements:
    """Kept elements of one data set or item, values as they came.

    values     tag to raw bytes; sequences: tag to items
    pixel_tag  first pixel data element met at the top level, 0 when there is none; `pixel_offset` is the
               position of its value in the (inflated) stream, `pixel_length` its declared length (UNDEFINED:
               encapsulated)
    """

    little_endian: bool = True
    values: dict[int, bytes] = field(default_factory=dict)
    sequences: dict[int, list[Elements]] = field(default_factory=dict)
    pixel_tag: int = 0
    pixel_offset: int = 0
    pixel_length: int = 0


@dataclass(frozen=True)
class Part10:
    """File meta information, the data set's kept elements, and the stream standing before the pixel value."""

    meta: Elements
    dataset: Elements
    transfer_syntax_uid: str
    stream: _Stream

    @property
    def dataset_offset(self) -> int:
        return self.stream.dataset_offset


class InflatingReader(io.RawIOBase):
    """Raw deflate, inflated in steps; raises Refused when it grows beyond the ratio (T5)."""

    def __init__(
        self, source: BinaryIO, limit: int = MAX_INFLATED_HEADER, ratio: int = MAX_INFLATION_RATIO
    ) -> None:
        self._source = source
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._taken = 0
        self._given = 0
        self._limit = limit
        self._ratio = ratio

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        want = len(buffer)
        data = b""
        while not data and not self._inflater.eof:
            pending = self._inflater.unconsumed_tail
            if not pending:
                pending = self._source.read(16_384)
                self._taken += len(pending)
                if not pending:
                    break
            try:
                data = self._inflater.decompress(pending, want)
            except zlib.error as e:
                raise Refused("the deflated data set cannot be inflated") from e
        self._given += len(data)
        if self._given > self._limit or self._given > self._ratio * self._taken + 65_536:
            raise Refused(
                f"the deflated data set grows beyond {self._ratio} times its size or {self._limit} bytes"
            )
        buffer[: len(data)] = data
        return len(data)


class _Stream:
    """Counted reading: every byte asked for must be there, and elements are counted."""

    def __init__(self, source: BinaryIO, position: int, size: int | None) -> None:
        self.source = source
        self.position = position
        self.size = size  # None: unknown before the end (deflated)
        self.elements = 0
        self.nested_elements = 0
        self.every_frame = False
        self.dataset_offset = position

    def take(self, count: int) -> bytes:
        self._check(count)
        data = self.source.read(count)
        if len(data) != count:
            raise Refused(f"the file ends inside an element (at byte {self.position + len(data)})")
        self.position += count
        return data

    def skip(self, count: int) -> None:
        self._check(count)
        if self.size is not None:
            self.source.seek(count, io.SEEK_CUR)
            self.position += count
            return
        while count:
            count -= len(self.take(min(count, 65_536)))

    def _check(self, count: int) -> None:
        if self.size is not None and self.position + count > self.size:
            raise Refused(f"an element at byte {self.position} declares {count} bytes, the file ends before")

    def at_end(self) -> bool:
        if self.size is not None:
            return self.position >= self.size
        return not self.source.peek(1)  # type: ignore[attr-defined]

    def count_element(self, depth: int) -> None:
        if depth == 0:
            self.elements += 1
        else:
            self.nested_elements += 1
        if self.elements > MAX_ELEMENTS or self.nested_elements > MAX_NESTED_ELEMENTS:
            raise Refused(f"more than {MAX_ELEMENTS} elements, or {MAX_NESTED_ELEMENTS} inside of sequences")


def read_part10(
    source: BinaryIO, wanted: Wanted, *, inflated_limit: int = MAX_INFLATED_HEADER, every_frame: bool = False
) -> Part10:
    """Walk a Part 10 file up to its pixel data.

    source  a seekable, buffered binary file standing at its start
    wanted  the elements to keep; others are skipped unread
    every_frame  keep the functional groups of all frames, not of the first alone
    raises  Refused for what is no Part 10 file, is cut short, nests or counts beyond the limits, or has one
            of the wanted elements twice with different values
    source  PS3.10 7.1 (file meta information), PS3.5 7 and A (element encoding)
    """
    size = source.seek(0, io.SEEK_END)
    source.seek(0)
    if source.read(132)[128:] != b"DICM":
        raise Refused("not a DICOM file: the preamble and the letters DICM are missing (PS3.10 7.1)")
    stream = _Stream(source, 132, size)
    meta = _read_meta(stream)
    syntax = meta.values.get(0x00020010, b"").rstrip(b"\0 ").decode("ascii", "replace")
    if not syntax:
        raise Refused("Transfer Syntax UID (0002,0010) is missing: the encoding of the data set is unknown")
    stream.dataset_offset = stream.position
    if syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        inflating = io.BufferedReader(InflatingReader(source, inflated_limit), 65_536)
        inflated = _Stream(inflating, 0, None)
        inflated.dataset_offset = stream.dataset_offset  # in the file, where the deflated bytes begin
        stream = inflated
    stream.every_frame = every_frame
    walker = _Walker(
        stream, explicit=syntax != IMPLICIT_VR_LITTLE_ENDIAN, little=syntax != EXPLICIT_VR_BIG_ENDIAN
    )
    if stream.at_end():
        raise Refused("the file holds no data set")
    return Part10(meta, walker.dataset(wanted, end=stream.size), syntax, stream)


def _read_meta(stream: _Stream) -> Elements:
    """Group 0002, always Explicit VR Little Endian; its group length lies too often to be used."""
    meta = Elements()
    walker = _Walker(stream, explicit=True, little=True)
    while not stream.at_end():
        head = stream.source.read(2)
        stream.source.seek(-len(head), io.SEEK_CUR)
        if head != b"\x02\x00":
            break
        tag, vr, length = walker.head(0)
        if length > 65_536 or vr == b"SQ":
            raise Refused("an element of the file meta information is longer than 64 KiB")
        meta.values[tag] = stream.take(length)
    return meta


class _Walker:
    """One encoding's rules for heads of elements, and the walk itself."""

    def __init__(self, stream: _Stream, *, explicit: bool, little: bool) -> None:
        self.stream = stream
        self.explicit = explicit
        self.little = little
        order = "<" if little else ">"
        self._tag = struct.Struct(order + "HH")
        self._short = struct.Struct(order + "H")
        self._long = struct.Struct(order + "L")

    def head(self, depth: int) -> tuple[int, bytes, int]:
        """(tag, VR or b"" when implicit, length) of the next element."""
        self.stream.count_element(depth)
        raw = self.stream.take(8)
        group, element = self._tag.unpack_from(raw)
        tag = group << 16 | element
        if not self.explicit or group == 0xFFFE:
            return tag, b"", self._long.unpack_from(raw, 4)[0]
        vr = raw[4:6]
        if vr in _SHORT_VRS:
            return tag, vr, self._short.unpack_from(raw, 6)[0]
        if vr in _LONG_VRS or (vr.isalpha() and vr.isupper()):  # later VRs have the long form (PS3.5 6.2)
            return tag, vr, self._long.unpack(self.stream.take(4))[0]
        raise Refused(
            f"element ({group:04X},{element:04X}) has no value representation: broken element stream"
        )

    def dataset(
        self, wanted: Wanted, end: int | None, depth: int = 0, *, delimited: bool = False
    ) -> Elements:
        """Elements up to `end`, to the item delimiter when `delimited`, or to pixel data at the top level."""
        found = Elements(little_endian=self.little)
        stream = self.stream
        while stream.position < end if end is not None else not stream.at_end():
            tag, vr, length = self.head(depth)
            if tag == _ITEM_END and delimited:
                return found
            if tag in PIXEL_TAGS and depth == 0:
                found.pixel_tag, found.pixel_offset, found.pixel_length = tag, stream.position, length
                return found
            if tag >> 16 == 0xFFFE:
                raise Refused(f"item tag at byte {stream.position} outside of a sequence")
            self._element(found, wanted, tag, vr, length, depth)
        if delimited:
            raise Refused("an item ends without its delimiter")
        if end is not None and stream.position != end:
            raise Refused(f"an element reaches beyond the end of its item at byte {end}")
        return found

    def _element(self, found: Elements, wanted: Wanted, tag: int, vr: bytes, length: int, depth: int) -> None:
        inner = wanted.get(tag)
        if vr == b"SQ" or length == UNDEFINED or (inner is not None and vr in (b"", b"UN")):
            if length != UNDEFINED and inner is None:
                self.stream.skip(length)
                return
            # A sequence sent as UN is Implicit VR Little Endian inside (PS3.5 6.2.2, note 2).
            walker = self if vr != b"UN" else _Walker(self.stream, explicit=False, little=True)
            most = 0 if inner is None else MAX_NESTED_ELEMENTS
            if most and tag in FIRST_ITEM_ONLY and not self.stream.every_frame:
                most = 1
            items = walker.sequence(inner or {}, length, depth + 1, most=most)
            if inner is not None:
                found.sequences[tag] = items
            return
        if inner is not None or tag not in wanted or length > MAX_VALUE_BYTES:
            self.stream.skip(length)
            return
        value = self.stream.take(length)
        if found.values.setdefault(tag, value) != value:
            raise Refused(f"element ({tag >> 16:04X},{tag & 0xFFFF:04X}) stands twice with different values")

    def sequence(self, wanted: Wanted, length: int, depth: int, *, most: int) -> list[Elements]:
        """The first `most` items; the others are passed over."""
        if depth > MAX_DEPTH:
            raise Refused(f"sequences nest deeper than {MAX_DEPTH}")
        stream = self.stream
        end = None if length == UNDEFINED else stream.position + length
        if end is not None and stream.size is not None and end > stream.size:
            raise Refused(
                f"a sequence at byte {stream.position} declares {length} bytes, the file ends before"
            )
        items: list[Elements] = []
        while end is None or stream.position < end:
            tag, _, item_length = self.head(depth)
            if tag == _SEQUENCE_END and end is None:
                break
            if tag != _ITEM:
                raise Refused(f"a sequence holds something else than items at byte {stream.position}")
            keep = len(items) < most
            if item_length == UNDEFINED:
                item = self.dataset(wanted if keep else {}, None, depth, delimited=True)
            elif keep:
                item = self.dataset(wanted, stream.position + item_length, depth)
            else:
                stream.skip(item_length)
                continue
            if keep:
                items.append(item)
        if end is not None and stream.position != end:
            raise Refused(f"an item reaches beyond the end of its sequence at byte {end}")
        return items
