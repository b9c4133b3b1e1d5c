"""What WADO-RS gives of one object in the spool: metadata, frames, the object in another transfer syntax (PS3.18 10.4).

Objects here have passed the bounded header reader at intake, so walking their headers is bounded too; pixels are
decoded in the guarded child alone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from triage.dicom.elements import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    InflatingReader,
    read_part10,
)
from triage.dicom.frames import Frames
from triage.dicom.grayscale import PIXEL_ELEMENTS
from triage.dicom.incoming import part10_preamble
from triage.dicom.pixels import Decoder
from triage.domain.errors import Refused
from triage.domain.study import InstanceHeader
from triage.domain.suitability import NotSuitableError

WHOLE_BYTES = 512 << 20  # longest object that is held to be written anew
BULK_FROM = 65_536  # bytes of a value that metadata name instead of holding it
_SYNTAX = "1.2.840.10008.1.2"
MEDIA_TYPES = {
    **dict.fromkeys((_SYNTAX + s for s in (".4.50", ".4.51", ".4.57", ".4.70")), "image/jpeg"),
    **dict.fromkeys((_SYNTAX + s for s in (".4.80", ".4.81")), "image/jls"),
    **dict.fromkeys((_SYNTAX + s for s in (".4.90", ".4.91")), "image/jp2"),
    **dict.fromkeys((_SYNTAX + s for s in (".4.201", ".4.202", ".4.203")), "image/jphc"),
    **dict.fromkeys((_SYNTAX + s for s in (".4.110", ".4.111", ".4.112")), "image/jxl"),
    _SYNTAX + ".5": "image/dicom-rle",
}
_PLAIN = frozenset({EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN})


def metadata(path: Path, header: InstanceHeader, base_url: str) -> dict[str, Any]:
    """DICOM JSON of everything but long values, which are named under `base_url`/bulkdata (PS3.18 F.2.6).

    raises  Refused when the header cannot be written as JSON
    """
    try:
        with _opened(path, header) as file:
            data_set = dcmread(file, stop_before_pixels=True)
            found = data_set.to_json_dict(
                bulk_data_threshold=BULK_FROM,
                bulk_data_element_handler=lambda e: f"{base_url}/bulkdata/{int(e.tag):08X}",
                suppress_invalid_tags=True,
            )
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"the header cannot be written as JSON ({type(error).__name__})") from error
    if header.has_pixel_data:
        found["7FE00010"] = {"vr": "OW", "BulkDataURI": f"{base_url}/bulkdata/7FE00010"}
    return found


def value(path: Path, header: InstanceHeader, tag: int) -> bytes:
    """One bulk value that is no pixel data. raises Refused when there is none"""
    with _opened(path, header) as file:
        data_set = dcmread(file, stop_before_pixels=True, specific_tags=[tag])
    element = data_set.get(tag)
    if element is None or not isinstance(element.value, bytes):
        raise Refused("there is no bulk data under this tag")
    return bytes(element.value)


def stored_frames(path: Path, header: InstanceHeader, numbers: Sequence[int]) -> list[bytes]:
    """Frames (from 0) as they are stored: code streams, or samples of a native object. raises NotSuitableError"""
    size = header.rows * header.columns * header.samples_per_pixel * max(1, header.bits_allocated) // 8
    with path.open("rb") as file:
        part10 = read_part10(file, PIXEL_ELEMENTS)
        frames = Frames(part10, frame_bytes=size, frames=header.number_of_frames)
        return [frames.read(n) for n in numbers]


def plain_frames(decoder: Decoder, path: Path, header: InstanceHeader, numbers: Sequence[int]) -> list[bytes]:
    """The same uncompressed, little endian. raises NotSuitableError, also for compressed colour"""
    if header.transfer_syntax_uid in _PLAIN:
        return stored_frames(path, header, numbers)
    return decoder.samples(path, header, numbers)


def explicit(decoder: Decoder, path: Path, header: InstanceHeader) -> bytes:
    """The whole object in Explicit VR Little Endian. raises Refused when it cannot be given so"""
    if path.stat().st_size > WHOLE_BYTES:
        raise Refused("the object is too long to be written in another transfer syntax")
    native = header.transfer_syntax_uid not in MEDIA_TYPES
    try:
        with _opened(path, header) as file:
            data_set = dcmread(file, stop_before_pixels=not native)
            if not native and header.has_pixel_data:
                frames = decoder.samples(path, header, range(header.number_of_frames))
                raw = b"".join(frames)
                data_set.PixelData = raw + b"\0" * (len(raw) % 2)
                data_set["PixelData"].VR = "OW" if header.bits_allocated > 8 else "OB"
            return _written(data_set, swap=header.transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN)
    except NotSuitableError as error:
        raise Refused(error.answer.sentence) from error
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError) as error:
        raise Refused(f"the object cannot be written anew ({type(error).__name__})") from error


def _written(data_set: Dataset, *, swap: bool) -> bytes:
    if swap and "PixelData" in data_set and data_set.BitsAllocated == 16:
        raw = bytearray(data_set.PixelData)
        raw[0::2], raw[1::2] = raw[1::2], raw[0::2]
        data_set.PixelData = bytes(raw)
    for _ in data_set.iterall():  # every value is read in the old byte order before it is written in the new
        pass
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, data_set)
    names = (str(data_set.SOPClassUID), str(data_set.SOPInstanceUID))
    return part10_preamble(*names, EXPLICIT_VR_LITTLE_ENDIAN) + out.getvalue()


def _opened(path: Path, header: InstanceHeader) -> Any:
    """The file; a deflated one inflated within limits, since a megabyte of it can be gigabytes (T5)."""
    if header.transfer_syntax_uid != DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return path.open("rb")
    with path.open("rb") as file:
        file.seek(_dataset_offset(path))
        inflated = io.BufferedReader(InflatingReader(file, WHOLE_BYTES)).read()
    names = (header.sop_class_uid, header.sop_instance_uid)
    return io.BytesIO(part10_preamble(*names, EXPLICIT_VR_LITTLE_ENDIAN) + inflated)


def _dataset_offset(path: Path) -> int:
    """Of a file that we wrote: preamble, DICM, group length element, group 0002."""
    with path.open("rb") as file:
        head = file.read(144)
    return 144 + int.from_bytes(head[140:144], "little")
