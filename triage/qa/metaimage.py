"""Reads MetaImage volumes (.mhd with .raw or .zraw), the format of LUNA16, as a `domain.image.Volume`.

Foreign bytes: the header is limited, the size is checked against limits before anything is allocated, and the data
file must lie beside its header.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from triage.domain.errors import Refused
from triage.domain.image import Volume

_TYPES = {"MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8"}
_MOST_HEADER = 65_536
_MOST_VOXELS = 1024 * 1024 * 2000


def read_metaimage(path: Path) -> Volume:
    """One CT volume.

    returns  HU cut to int16; affine in LPS: MetaImage's world is LPS as in ITK, index order x, y, z
    raises   Refused when the header is not that of a 3-D scalar image or the data are not as long as it says
    source   MetaIO documentation; TransformMatrix has the direction of each axis as a row
    """
    header = _header(path)
    try:
        x, y, z = (int(v) for v in header["DimSize"].split())
        spacing = np.array([float(v) for v in header["ElementSpacing"].split()])
        origin = np.array([float(v) for v in header.get("Offset", header.get("Position", "0 0 0")).split()])
        turn = np.array([float(v) for v in header.get("TransformMatrix", "1 0 0 0 1 0 0 0 1").split()])
        kind, name = _TYPES[header["ElementType"]], header["ElementDataFile"]
        turn = turn.reshape(3, 3)
    except (KeyError, ValueError) as error:
        raise Refused(f"{path.name} is not a MetaImage of one 3-D CT volume ({error})") from error
    shape_ok = min(x, y, z) > 0 and x * y * z <= _MOST_VOXELS
    if (
        not shape_ok
        or header.get("NDims") != "3"
        or spacing.shape != (3,)
        or origin.shape != (3,)
        or (spacing <= 0).any()
    ):
        raise Refused(f"{path.name}: {x} x {y} x {z} voxels with this geometry are no CT volume")
    order = (
        ">"
        if header.get("BinaryDataByteOrderMSB", header.get("ElementByteOrderMSB", "")).lower() == "true"
        else "<"
    )
    count = x * y * z * np.dtype(kind).itemsize
    raw = _data(path, name, count, header.get("CompressedData", "False").lower() == "true")
    stored = np.frombuffer(raw, np.dtype(order + kind)).reshape(z, y, x)
    hu = np.clip(stored, -1024, 32767).astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] = turn.T * spacing
    affine[:3, 3] = origin
    return Volume(hu, affine, decoder="metaimage")


def _header(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as stream:
            text = stream.read(_MOST_HEADER).decode("ascii", "replace")
    except OSError as error:
        raise Refused(f"{path.name} cannot be read ({error.strerror})") from error
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _data(path: Path, name: str, count: int, compressed: bool) -> bytes:
    if Path(name).name != name or name in {"LIST", "LOCAL"}:
        raise Refused(f"{path.name}: its data must lie in one file beside it")
    try:
        with (path.parent / name).open("rb") as stream:
            raw = stream.read(count + 1)
    except OSError as error:
        raise Refused(f"{path.name}: {name} cannot be read ({error.strerror})") from error
    if compressed:
        try:
            raw = zlib.decompressobj().decompress(raw, count + 1)
        except zlib.error as error:
            raise Refused(f"{path.name}: {name} is damaged") from error
    if len(raw) != count:
        raise Refused(f"{path.name}: {name} holds {len(raw)} bytes, the header says {count}")
    return raw
