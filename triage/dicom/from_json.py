"""An instance that came as metadata and bulk data parts (PS3.18 10.5.1.2) becomes a Part 10 file.

The pixel data are copied from the part's file to the object's file without being held. Native little endian frames
alone: what is compressed comes as application/dicom.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from triage.domain.errors import Refused

MAX_METADATA = 16 << 20
MAX_SMALL = 1 << 20  # bulk data other than pixels: tables, overlays, documents
_PIXELS = "7FE00010"


def instances(metadata: bytes) -> list[dict[str, Any]]:
    """The data sets of the metadata part. raises Refused for what is no DICOM JSON array"""
    try:
        found = json.loads(metadata)
    except (ValueError, RecursionError) as error:
        raise Refused("the metadata are no JSON (PS3.18 F)") from error
    if not isinstance(found, list) or not found or not all(isinstance(i, dict) for i in found):
        raise Refused("the metadata are no array of data sets (PS3.18 F.2)")
    return found


def names_of(instance: Mapping[str, Any]) -> tuple[str, str]:
    """(SOP Class UID, SOP Instance UID) of one data set, "" where it has none."""

    def uid(tag: str) -> str:
        values = (instance.get(tag) or {}).get("Value") if isinstance(instance.get(tag), dict) else None
        return values[0][:64] if isinstance(values, list) and values and isinstance(values[0], str) else ""

    return uid("00080016"), uid("00080018")


def write(instance: dict[str, Any], bulk: Mapping[str, Path], target: Path) -> None:
    """Write one instance. bulk: Content-Location to the file of that part. raises Refused"""
    pixels = instance.pop(_PIXELS, None)
    try:
        dataset = Dataset.from_json(
            {tag: value for tag, value in instance.items() if not tag.startswith("0002")},
            bulk_data_uri_handler=lambda uri: _small(bulk, uri),
        )
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta = meta
        dataset.save_as(target, enforce_file_format=True)
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"the metadata are no data set ({type(error).__name__})") from error
    if pixels is not None:
        _append_pixels(pixels, bulk, dataset, target)


def _append_pixels(pixels: Any, bulk: Mapping[str, Path], dataset: Dataset, target: Path) -> None:
    uri = pixels.get("BulkDataURI") if isinstance(pixels, dict) else None
    if not isinstance(uri, str) or uri not in bulk:
        raise Refused("the pixel data name no part of this request (BulkDataURI, Content-Location)")
    size = bulk[uri].stat().st_size
    if size + size % 2 >= 0xFFFFFFFF:
        raise Refused("the pixel data are longer than an element can be")
    vr = b"OB" if dataset.get("BitsAllocated") == 8 else b"OW"
    with target.open("ab") as out, bulk[uri].open("rb") as part:
        out.write(struct.pack("<HH2sHL", 0x7FE0, 0x0010, vr, 0, size + size % 2))
        shutil.copyfileobj(part, out, 1 << 20)
        out.write(b"\0" * (size % 2))
        out.flush()
        os.fsync(out.fileno())


def _small(bulk: Mapping[str, Path], uri: str) -> bytes:
    if uri not in bulk:
        raise Refused("a BulkDataURI names no part of this request")
    if bulk[uri].stat().st_size > MAX_SMALL:
        raise Refused(f"bulk data other than pixels are longer than {MAX_SMALL} bytes")
    return bulk[uri].read_bytes()
