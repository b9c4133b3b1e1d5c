"""What a transfer syntax does to a detector's answer: real films and a real CT in every storage syntax of standards 5.1.

    python -m bench syntaxes      (TRIAGE_SHARED_DATA names the data folder; default ../shared/data)

Each image is written uncompressed and in the other syntaxes, read back through the guarded child and judged by the
active release. A lossless syntax must give the same answer to the bit. Of a lossy one the largest change is told.
"""

from __future__ import annotations

import copy
import csv
import io
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openjpeg
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEGLSLossless, RLELossless

from tests.dicom import builders
from triage.detectors import chest_xray, lung_nodule
from triage.detectors.protocol import Detection
from triage.detectors.releases import active_release
from triage.dicom.header import read_header
from triage.dicom.incoming import part10_preamble
from triage.dicom.pixels import Decoder
from triage.dicom.retrieve import explicit
from triage.domain.suitability import NotSuitableError

_SYNTAX = "1.2.840.10008.1.2"
FILMS = 24
CT_SERIES = "chest_lidc0001_stretch"
CT_LOSSY = (".4.81", ".4.91", ".4.203", ".4.112")
Encode = Callable[[NDArray[Any], int], bytes]
DATASET = ("", ".1", ".2", ".1.99")  # the data set is written otherwise, pixels stay
LOSSLESS: dict[str, Encode] = {
    ".1.98": lambda a, _: a.tobytes(),
    ".8.1": lambda a, _: _deflated(a.tobytes()),
    ".4.57": lambda a, bits: imagecodecs.ljpeg_encode(a, bitspersample=bits),
    ".4.70": lambda a, bits: imagecodecs.ljpeg_encode(a, bitspersample=bits),
    ".4.80": lambda a, _: imagecodecs.jpegls_encode(a),
    ".4.90": lambda a, bits: openjpeg.encode(a, bits_stored=bits),
    ".4.201": lambda a, _: imagecodecs.htj2k_encode(a, level=0, reversible=True),
    ".4.202": lambda a, _: imagecodecs.htj2k_encode(a, level=0, reversible=True),
    ".4.110": lambda a, _: imagecodecs.jpegxl_encode(a, lossless=True),
}
LOSSY: dict[str, Encode] = {
    ".4.50": lambda a, _: imagecodecs.jpeg8_encode((a >> 4).astype(np.uint8), level=90),
    ".4.51": lambda a, bits: imagecodecs.jpeg8_encode(a, level=90, bitspersample=bits),
    ".4.81": lambda a, _: imagecodecs.jpegls_encode(a, level=2),
    ".4.91": lambda a, bits: openjpeg.encode(a, bits_stored=bits, compression_ratios=[10]),
    ".4.203": lambda a, _: imagecodecs.htj2k_encode(a, level=0.001, reversible=False),
    ".4.111": lambda a, _: imagecodecs.jpegxl_encode_jpeg(
        imagecodecs.jpeg8_encode((a >> 4).astype(np.uint8), level=90)
    ),
    ".4.112": lambda a, _: imagecodecs.jpegxl_encode(a, distance=1.0),
}
EIGHT_BIT = (".4.50", ".4.111")  # compared with the eight bits that they can hold
UNKNOWN_TO_PYDICOM = (".8.1", ".4.110", ".4.111", ".4.112")
SYNTAXES = (*DATASET, ".5", *LOSSLESS, *LOSSY)


def shared_data() -> Path:
    return Path(os.environ.get("TRIAGE_SHARED_DATA", "../shared/data"))


def real_films(count: int) -> list[Dataset]:
    """Films of the test set, 12 bits stored, grey as received."""
    with (shared_data() / "cxr/index.csv").open(newline="") as index:
        rows = [r for r in csv.DictReader(index) if r["test_core"] == "1"]
    made = []
    for row in rows[:: max(1, len(rows) // count)][:count]:
        with Image.open(shared_data() / "cxr" / row["file"]) as picture:
            grey = np.asarray(picture.convert("L")).astype(np.uint16)
        ds = builders.film()
        builders.set_pixels(ds, grey << 4, bits_stored=12)
        made.append(ds)
    return made


def written(ds: Dataset, suffix: str, path: Path) -> Path:
    """`ds`, which is uncompressed, as a file in the syntax with this suffix."""
    syntax = UID(_SYNTAX + suffix)
    made = copy.deepcopy(ds)
    if suffix == ".5":
        builders.save(made, path)
        made = dcmread(path)
        made.compress(RLELossless, generate_instance_uid=False)
    elif suffix == ".2":
        raw = builders.pixels(ds)
        made.add_new(0x7FE00010, "OW", raw.byteswap().tobytes())
    elif suffix not in DATASET:
        encode = {**LOSSLESS, **LOSSY}[suffix]
        bits = ds.BitsAllocated if ds.PixelRepresentation else ds.BitsStored
        frame = bytes(encode(builders.pixels(ds), bits))
        if suffix in EIGHT_BIT:
            made = in_eight_bits(ds)
        made.add_new(0x7FE00010, "OB", encapsulate([frame]))
    return (
        builders.save(made, path, syntax) if suffix not in UNKNOWN_TO_PYDICOM else _named(made, path, syntax)
    )


def _named(ds: Dataset, path: Path, syntax: UID) -> Path:
    """Written as another encapsulated syntax, whose name is then replaced."""
    whole = builders.save(ds, path, JPEGLSLossless).read_bytes()
    data_set = whole[144 + int.from_bytes(whole[140:144], "little") :]
    path.write_bytes(part10_preamble(ds.SOPClassUID, ds.SOPInstanceUID, syntax) + data_set)
    return path


def in_eight_bits(ds: Dataset) -> Dataset:
    made = copy.deepcopy(ds)
    builders.set_pixels(made, (builders.pixels(ds) >> 4).astype(np.uint8), bits_stored=8)
    made.WindowCenter, made.WindowWidth = ds.WindowCenter / 16, ds.WindowWidth / 16
    return made


def film_answer(decoder: Decoder, detector: chest_xray.ChestXray, path: Path) -> Detection:
    return detector.detect(decoder.radiograph(path, read_header(path)))


def change(one: Detection, other: Detection) -> float:
    """Largest difference of a finding's probability."""
    before, after = ({f.name: f.probability_raw for f in d.findings} for d in (one, other))
    return max(abs(before.get(name, 0.0) - after.get(name, 0.0)) for name in {*before, *after})


def film_table(count: int, syntaxes: tuple[str, ...] = SYNTAXES) -> dict[str, dict[str, float]]:
    """{syntax: {"films", "equal" to the bit, "largest_change"}}; a film that the gate refuses plainly is left out."""
    table: dict[str, dict[str, float]] = {
        _SYNTAX + s: {"films": 0, "equal": 0, "largest_change": 0.0} for s in syntaxes
    }
    detector = chest_xray.load(active_release("chest_xray"))
    with Decoder() as decoder, tempfile.TemporaryDirectory() as folder:
        for ds in real_films(count):
            try:
                plain = film_answer(decoder, detector, written(ds, ".1", Path(folder) / "plain.dcm"))
            except NotSuitableError:
                continue
            eight = film_answer(decoder, detector, builders.save(in_eight_bits(ds), Path(folder) / "8.dcm"))
            for suffix in syntaxes:
                found = film_answer(decoder, detector, written(ds, suffix, Path(folder) / "film.dcm"))
                row, reference = table[_SYNTAX + suffix], eight if suffix in EIGHT_BIT else plain
                row["films"] += 1
                row["equal"] += found.findings == reference.findings
                row["largest_change"] = max(row["largest_change"], round(change(found, reference), 5))
    return table


def uncompressed(decoder: Decoder, path: Path) -> Dataset:
    read = dcmread(io.BytesIO(explicit(decoder, path, read_header(path))))
    made = Dataset()  # one that does not remember in which byte order it came
    for element in read:
        made.add(element)
    return made


def ct_table() -> dict[str, Any]:
    """A stretch of a real CT: lossless syntaxes must give the same voxels; lossy ones tell what moves in the answer."""
    paths = sorted((shared_data() / "ct/dicom" / CT_SERIES).iterdir())
    detector = lung_nodule.load(active_release("lung_nodule"))
    table: dict[str, Any] = {}
    with Decoder() as decoder, tempfile.TemporaryDirectory() as name:
        series = [uncompressed(decoder, p) for p in paths]

        def volume(suffix: str) -> Any:
            folder = Path(name) / (suffix or "implicit")
            folder.mkdir()
            files = [written(ds, suffix, folder / f"{i:04}.dcm") for i, ds in enumerate(series)]
            return decoder.volume(files, [read_header(f) for f in files])

        plain = volume("")
        answer = detector.detect(plain)
        for suffix in (".1", ".2", ".1.99", ".5", *LOSSLESS, *CT_LOSSY):
            found = volume(suffix)
            difference = int(np.abs(found.hu.astype(np.int32) - plain.hu).max())
            row: dict[str, Any] = {"largest_difference_hu": difference}
            if difference:
                row["nodules"] = len(detector.detect(found).findings)
            table[_SYNTAX + suffix] = row
    return {"slices": len(series), "nodules_uncompressed": len(answer.findings), "syntaxes": table}


def measure() -> dict[str, Any]:
    return {"films": film_table(FILMS), "ct": ct_table()}


def _deflated(raw: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(raw) + packer.flush()
    return packed + b"\0" * (len(packed) % 2)
