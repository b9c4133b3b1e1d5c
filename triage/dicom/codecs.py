"""One frame's bytes to one plane of samples, by transfer syntax. Runs in the guarded child.

The plug-in is named, never guessed, and its version goes to the Run: two decoders of a lossy stream may differ by a
grey level (data/dicom/README 2). What a code stream says of itself is held against the header before decoding: most
decoders return *some* picture for a damaged frame (libraries 5).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import imagecodecs
import numpy as np
import openjpeg
from numpy.typing import NDArray
from rle.utils import decode_pixel_data

from triage.dicom.frames import corrupt
from triage.domain.suitability import NotSuitableError, ReasonCode

_SYNTAX = "1.2.840.10008.1.2"
NATIVE = frozenset(_SYNTAX + s for s in ("", ".1", ".1.98", ".1.99", ".2"))


@dataclass(frozen=True)
class Plane:
    """What the header declares of one frame."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int

    @property
    def bytes(self) -> int:
        return self.rows * self.columns * (self.bits_allocated // 8)


@dataclass(frozen=True)
class _CodeStream:
    rows: int
    columns: int
    components: int
    precision: int


def decode_frame(data: bytes, syntax: str, plane: Plane) -> NDArray[Any]:
    """Samples of one frame as the code stream holds them.

    returns  (rows, columns) integer array; bits above Bits Stored and the sign are the caller's
    raises   NotSuitableError: UNSUPPORTED_SYNTAX, CORRUPT_PIXELS
    """
    require_known(syntax)
    if syntax in NATIVE:
        order = ">" if syntax == _SYNTAX + ".2" else "<"
        return _shaped(np.frombuffer(data, f"{order}u{plane.bits_allocated // 8}"), plane)
    _, describe, decode = _DECODERS[syntax]
    if describe is not None:
        _compare(describe(data), plane)
    try:
        samples = decode(data, plane)
    except NotSuitableError:
        raise
    except Exception as e:
        raise corrupt(f"the {decoder_name(syntax)} decoder refused the frame ({type(e).__name__})") from e
    return _shaped(np.asarray(samples), plane)


def require_known(syntax: str) -> None:
    """raises NotSuitableError(UNSUPPORTED_SYNTAX) for a transfer syntax that we have no decoder for."""
    if syntax not in NATIVE and syntax not in _DECODERS:
        raise NotSuitableError(ReasonCode.UNSUPPORTED_SYNTAX, f"transfer syntax {syntax}")


@lru_cache(maxsize=64)
def decoder_name(syntax: str) -> str:
    """Plug-in and version, as a Run records it."""
    package = _DECODERS[syntax][0] if syntax in _DECODERS else ""
    return f"{package} {version(package)}" if package else "native"


def _shaped(samples: NDArray[Any], plane: Plane) -> NDArray[Any]:
    if samples.size != plane.rows * plane.columns:
        raise corrupt(f"{samples.size} samples decoded, {plane.rows} x {plane.columns} declared")
    if samples.dtype.kind not in "iu":
        raise corrupt(f"samples decoded as {samples.dtype}")
    return samples.reshape(plane.rows, plane.columns)


def _compare(stream: _CodeStream, plane: Plane) -> None:
    if (stream.rows, stream.columns) != (plane.rows, plane.columns):
        raise corrupt(
            f"code stream of {stream.rows} x {stream.columns} under a header of {plane.rows} x {plane.columns}"
        )
    if stream.components != 1:
        raise corrupt(f"code stream of {stream.components} components in a grey image")
    # More bits in the stream than are stored is the known harmless disagreement: JPEG knows 8 and 12 only,
    # encoders like to write Bits Allocated (standards 5.1).
    if not plane.bits_stored <= stream.precision <= plane.bits_allocated:
        raise corrupt(f"code stream of {stream.precision} bits under a header of {plane.bits_stored}")


def _describe_jpeg(data: bytes) -> _CodeStream:
    """SOF of a JPEG or JPEG-LS stream (ITU-T T.81 B.2.2, T.87 C.2.2); the stream must end in EOI.

    A stream cut in the middle makes CharLS spin instead of raise, so the end is looked at before decoding.
    """
    if not data.startswith(b"\xff\xd8"):
        raise corrupt("no JPEG stream")
    if b"\xff\xd9" not in data[-16:]:
        raise corrupt("the JPEG stream does not end")
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        if marker in (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7):
            if at + 10 > len(data):
                break
            precision, rows, columns, components = struct.unpack_from(">BHHB", data, at + 4)
            return _CodeStream(rows, columns, components, precision)
        at += 2 + length
    raise corrupt("a JPEG stream without a frame header")


def _describe_jpeg2000(data: bytes) -> _CodeStream:
    """SIZ of a JPEG 2000 or HTJ2K code stream, bare or in its file format (ITU-T T.800 A.5.1)."""
    at = 0 if data.startswith(b"\xff\x4f\xff\x51") else data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or at + 43 > len(data):
        raise corrupt("no JPEG 2000 stream")
    width, height, left, top = struct.unpack_from(">4L", data, at + 8)
    tile_width, tile_height = struct.unpack_from(">2L", data, at + 24)
    components, precision = struct.unpack_from(">HB", data, at + 40)
    if tile_width == 0 or tile_height == 0 or (width / tile_width) * (height / tile_height) > 65_535:
        raise corrupt("more tiles than a JPEG 2000 stream can have")
    return _CodeStream(height - top, width - left, components, (precision & 0x7F) + 1)


def _jpeg(data: bytes, _: Plane) -> NDArray[Any]:
    return np.asarray(imagecodecs.jpeg8_decode(data))


def _jpeg_lossless(data: bytes, _: Plane) -> NDArray[Any]:
    return np.asarray(imagecodecs.ljpeg_decode(data))


def _jpeg_ls(data: bytes, _: Plane) -> NDArray[Any]:
    return np.asarray(imagecodecs.jpegls_decode(data))


def _jpeg_xl(data: bytes, _: Plane) -> NDArray[Any]:
    return np.asarray(imagecodecs.jpegxl_decode(data, numthreads=1))


def _jpeg2000(data: bytes, _: Plane) -> NDArray[Any]:
    return np.asarray(openjpeg.decode(data))


def _rle(data: bytes, plane: Plane) -> NDArray[Any]:
    """One frame of the RLE scheme (PS3.5 G): its segments are the bytes of the samples, most significant first."""
    segments = struct.unpack_from("<L", data)[0]
    if segments != plane.bits_allocated // 8:
        raise corrupt(f"{segments} RLE segments for {plane.bits_allocated} bits allocated")
    raw = decode_pixel_data(
        data,
        version=2,
        byteorder="<",
        rows=plane.rows,
        columns=plane.columns,
        bits_allocated=plane.bits_allocated,
        samples_per_pixel=1,
    )
    return np.frombuffer(raw, f"<u{plane.bits_allocated // 8}")


def _deflated_frame(data: bytes, plane: Plane) -> NDArray[Any]:
    raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, plane.bytes + 1)
    return np.frombuffer(raw[: plane.bytes], f"<u{plane.bits_allocated // 8}")


_Describe = Callable[[bytes], _CodeStream]
_Decode = Callable[[bytes, Plane], NDArray[Any]]
_DECODERS: dict[str, tuple[str, _Describe | None, _Decode]] = {
    _SYNTAX + ".4.50": ("imagecodecs", _describe_jpeg, _jpeg),
    _SYNTAX + ".4.51": ("imagecodecs", _describe_jpeg, _jpeg),
    _SYNTAX + ".4.57": ("imagecodecs", _describe_jpeg, _jpeg_lossless),
    _SYNTAX + ".4.70": ("imagecodecs", _describe_jpeg, _jpeg_lossless),
    _SYNTAX + ".4.80": ("imagecodecs", _describe_jpeg, _jpeg_ls),
    _SYNTAX + ".4.81": ("imagecodecs", _describe_jpeg, _jpeg_ls),
    _SYNTAX + ".4.90": ("pylibjpeg-openjpeg", _describe_jpeg2000, _jpeg2000),
    _SYNTAX + ".4.91": ("pylibjpeg-openjpeg", _describe_jpeg2000, _jpeg2000),
    _SYNTAX + ".4.201": ("pylibjpeg-openjpeg", _describe_jpeg2000, _jpeg2000),
    _SYNTAX + ".4.202": ("pylibjpeg-openjpeg", _describe_jpeg2000, _jpeg2000),
    _SYNTAX + ".4.203": ("pylibjpeg-openjpeg", _describe_jpeg2000, _jpeg2000),
    _SYNTAX + ".4.110": ("imagecodecs", None, _jpeg_xl),
    _SYNTAX + ".4.111": ("imagecodecs", None, _jpeg_xl),
    _SYNTAX + ".4.112": ("imagecodecs", None, _jpeg_xl),
    _SYNTAX + ".5": ("pylibjpeg-rle", None, _rle),
    _SYNTAX + ".8.1": ("", None, _deflated_frame),
}


def warm_up() -> None:
    """Load every codec once, on our own bytes: the guarded child may open no file, and libraries load lazily."""
    plane = Plane(64, 64, 16, 12)
    samples = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(samples.astype(np.uint8)))
    imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(samples, bitspersample=12))
    _jpeg_lossless(bytes(imagecodecs.ljpeg_encode(samples, bitspersample=12)), plane)
    _jpeg_ls(bytes(imagecodecs.jpegls_encode(samples)), plane)
    _jpeg_xl(bytes(imagecodecs.jpegxl_encode(samples)), plane)
    _jpeg2000(openjpeg.encode(samples, bits_stored=12), plane)
    for syntax in (*NATIVE, *_DECODERS):
        decoder_name(syntax)
    _rle(
        struct.pack("<16L", 2, 64, 64 + 4, *[0] * 13) + b"\x81\x00\x81\x00" + b"\x81\x00\x81\x00",
        Plane(1, 256, 16, 12),
    )
