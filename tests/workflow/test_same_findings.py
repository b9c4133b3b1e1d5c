"""One real film, in every way that a modality may send it, has one set of findings: through decoder, gate and networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import openjpeg
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

from tests.dicom import builders
from triage.detectors.chest_xray import load
from triage.detectors.protocol import Detection
from triage.detectors.releases import active_release
from triage.dicom.pixels import Decoder
from triage.domain.study import CR, DX_FOR_PRESENTATION
from triage.workflow.offline import film_reader

CODECS: dict[UID, Callable[[NDArray[np.uint16]], bytes]] = {
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEG2000Lossless: lambda stored: openjpeg.encode(stored, bits_stored=12),
}
WHITE = 4095
ROUNDED = (
    0.02  # of a probability: a curve stored in 12 bits and a look-up table each round the greys once more
)

Found = dict[str, tuple[float, bool]]


@pytest.fixture(scope="module")
def findings_of() -> Iterator[Callable[[Path], Found]]:
    detector = load(active_release("chest_xray"))

    def found(detection: Detection) -> Found:
        return {f.name: (f.probability, f.actionable) for f in detection.findings}

    with Decoder() as decoder:
        read = film_reader(decoder)
        yield lambda path: found(detector.detect(read(path)))


@pytest.fixture(scope="module")
def films(shared_data: Path) -> list[NDArray[np.uint16]]:
    """Real films in 12 bits, dense bone bright: an ordinary one and one taken at the bedside."""
    chosen = [shared_data / "cxr/images" / f"nih_{name}.webp" for name in ("00000002_000", "00000061_012")]
    return [np.asarray(Image.open(p).convert("L"), np.uint16) * 16 + 8 for p in chosen]


def as_sent(
    film: NDArray[np.uint16], sop_class: str, white: str, presented: str, syntax: UID, path: Path
) -> Path:
    """The film as an object whose own presentation shows `film`.

    presented  "window" as stored; "voi_lut": stored along a curve that the object's VOI LUT undoes
    """
    modality = "CR" if sop_class == CR else "DX"
    ds = builders.film(SOPClassUID=sop_class, Modality=modality)
    stored = film if white == "MONOCHROME2" else (WHITE - film).astype(np.uint16)
    if presented == "voi_lut":
        stored = _along_a_curve(ds, stored)
    ds.PhotometricInterpretation = white
    if sop_class != CR:
        ds.PresentationLUTShape = "INVERSE" if white == "MONOCHROME1" else "IDENTITY"
    builders.set_pixels(ds, stored, bits_stored=12)
    if syntax in CODECS:
        ds.add_new(0x7FE00010, "OB", encapsulate([bytes(CODECS[syntax](stored))]))
    return builders.save(ds, path, syntax)


def _along_a_curve(ds: Dataset, shown: NDArray[np.uint16]) -> NDArray[np.uint16]:
    table = np.rint(WHITE * (np.arange(WHITE + 1) / WHITE) ** 1.6).astype(
        np.uint16
    )  # stored value to shown value
    lut = Dataset()
    lut.add_new(0x00283002, "US", [len(table), 0, 12])
    lut.add_new(0x00283006, "OW", table.tobytes())
    del ds.WindowCenter, ds.WindowWidth
    ds.VOILUTSequence = [lut]
    return np.searchsorted(table, shown).astype(np.uint16)


@pytest.mark.shared_data
def test_codec_polarity_class_and_presentation_change_no_finding(
    films: list[NDArray[np.uint16]], findings_of: Callable[[Path], Found], tmp_path: Path
) -> None:
    path = tmp_path / "film.dcm"
    for film in films:
        plain = findings_of(
            as_sent(film, DX_FOR_PRESENTATION, "MONOCHROME2", "window", ExplicitVRLittleEndian, path)
        )
        ways = itertools.product(
            (CR, DX_FOR_PRESENTATION), ("MONOCHROME2", "MONOCHROME1"), ("window", "voi_lut"),
            (ExplicitVRLittleEndian, *CODECS),
        )  # fmt: skip
        for way in ways:
            found = findings_of(as_sent(film, *way, path))
            allowed = 1e-4 if way[2] == "window" else ROUNDED
            for name, (probability, flagged) in plain.items():
                assert abs(found[name][0] - probability) <= allowed, (way, name)
                assert found[name][1] == flagged, (way, name)
