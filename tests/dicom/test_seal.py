"""A sealed file is whole or it is nothing; with its seal it is still a DICOM file."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.dicom import builders
from triage.dicom.header import read_header
from triage.dicom.seal import Entry, read_seal, seal_of


def entry_for(data: bytes) -> Entry:
    return Entry(hashlib.sha256(data).hexdigest(), len(data), "CT1", "TRIAGE", "a" * 32, "127.0.0.1")


def test_what_was_sealed_is_read_back(tmp_path: Path) -> None:
    path = builders.save(builders.film(), tmp_path / "film.dcm")
    data = path.read_bytes()
    assert read_seal(path) is None
    path.write_bytes(data + seal_of(entry_for(data), ExplicitVRLittleEndian))
    assert read_seal(path) == entry_for(data)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_with_its_seal_it_is_a_valid_file(syntax: str, tmp_path: Path) -> None:
    path = builders.save(builders.film(), tmp_path / "film.dcm")
    ds = dcmread(path)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    data, header = path.read_bytes(), read_header(path)
    path.write_bytes(data + seal_of(entry_for(data), syntax))
    assert read_header(path) == header
    assert dcmread(path).SOPInstanceUID == ds.SOPInstanceUID
    if syntax != DeflatedExplicitVRLittleEndian:
        assert (0xFFFC, 0xFFFC) in dcmread(path)


@given(st.integers(0, 5000), st.integers(1, 255))
def test_a_file_that_is_not_whole_has_no_seal(at: int, flip: int) -> None:
    data = bytes(range(256)) * 16
    whole = bytearray(data + seal_of(entry_for(data), ExplicitVRLittleEndian))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.part")
        path.write_bytes(whole[: at % len(whole)])
        assert read_seal(path) is None
        whole[at % len(data)] ^= flip  # a page that never reached the disk
        path.write_bytes(whole)
        assert read_seal(path) is None
