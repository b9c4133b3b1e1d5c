"""A real film and real CT slices in every storage syntax of standards 5.1 (the whole table: `python -m bench syntaxes`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench import syntaxes
from bench.syntaxes import EIGHT_BIT, LOSSLESS, LOSSY, SYNTAXES, in_eight_bits, written
from tests.dicom import builders
from triage.detectors import chest_xray
from triage.detectors.releases import active_release
from triage.dicom import services
from triage.dicom.header import read_header
from triage.dicom.pixels import Decoder

pytestmark = pytest.mark.shared_data
# Bound of a lossy encoding of usual quality on any finding's raw probability; 0.097 was the most on three films (card).
LOSSY_CHANGE = 0.12


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as made:
        yield made


def test_the_table_has_every_syntax_that_we_accept() -> None:
    named = {f"1.2.840.10008.1.2{suffix}" for suffix in SYNTAXES}
    assert named == set(services.TRANSFER_SYNTAXES)


def test_a_real_film_gives_the_same_answer_in_every_syntax(
    decoder: Decoder, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syntaxes, "shared_data", lambda: shared_data)
    detector = chest_xray.load(active_release("chest_xray"))
    (film,) = syntaxes.real_films(1)

    def answer(path: Path) -> chest_xray.Detection:
        return detector.detect(decoder.radiograph(path, read_header(path)))

    plain = answer(written(film, ".1", tmp_path / "plain.dcm"))
    eight = answer(builders.save(in_eight_bits(film), tmp_path / "eight.dcm"))
    for suffix in SYNTAXES:
        found = answer(written(film, suffix, tmp_path / "film.dcm"))
        if suffix in LOSSY:
            assert syntaxes.change(found, eight if suffix in EIGHT_BIT else plain) < LOSSY_CHANGE, suffix
        else:
            assert found.findings == plain.findings, suffix


def test_real_slices_are_the_same_voxels_in_every_lossless_syntax(
    decoder: Decoder, shared_data: Path, tmp_path: Path
) -> None:
    """Equal voxels are equal answers; twelve slices show it."""
    paths = sorted((shared_data / "ct/dicom/chest_lidc0001_stretch").iterdir())[:12]
    series = [syntaxes.uncompressed(decoder, p) for p in paths]
    plain = decoder.volume(paths, [read_header(p) for p in paths])
    for suffix in ("", ".2", ".1.99", ".5", *LOSSLESS):
        folder = tmp_path / f"in{suffix}"
        folder.mkdir()
        files = [written(ds, suffix, folder / f"{i}.dcm") for i, ds in enumerate(series)]
        volume = decoder.volume(files, [read_header(f) for f in files])
        assert np.array_equal(volume.hu, plain.hu), suffix
        assert np.array_equal(volume.affine, plain.affine)
