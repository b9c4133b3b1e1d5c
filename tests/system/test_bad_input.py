"""Broken and hostile input through the real door: the right status or a reason, and the receiver lives."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from tests.system.product import Product, a_film, another, running

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running(tmp_path_factory.mktemp("bad") / "home") as product:
        yield product


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_film(tmp_path_factory.mktemp("film"), 71)[0]


def _absurd(ds: Dataset) -> None:
    ds.Rows = ds.Columns = 60_000


def _no_pixels(ds: Dataset) -> None:
    del ds.PixelData


def _zero(ds: Dataset) -> None:
    ds.PixelData = bytes(len(ds.PixelData))


def _short(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2 // 2 * 2]


def _garbage(ds: Dataset) -> None:
    ds.PixelData = encapsulate([np.random.default_rng(1).bytes(5000)])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless


@pytest.mark.parametrize(
    ("spoil", "reasons"),
    [
        (_absurd, {"TOO_LARGE", "CORRUPT_PIXELS"}),
        (_no_pixels, {"PIXELS_MISSING"}),
        (_zero, {"LOW_QUALITY", "CORRUPT_PIXELS", "OUT_OF_DISTRIBUTION"}),
        (_short, {"CORRUPT_PIXELS"}),
        (_garbage, {"CORRUPT_PIXELS"}),
    ],
)
def test_bad_pixels_end_as_a_reason_on_the_list(
    product: Product, film: Path, tmp_path: Path, spoil: Callable[[Dataset], Any], reasons: set[str]
) -> None:
    path, uid = another(film, tmp_path, random.Random(spoil.__name__).randrange(10_000, 90_000))
    ds = pydicom.dcmread(path)
    spoil(ds)
    ds.save_as(path)
    assert product.store([path])[0].status == 0
    row = product.wait_row(uid, ai_status="not_analysed")
    assert row["ai_reason"] in reasons
    assert row["priority_class"] == "routine"


@pytest.mark.parametrize(
    "name", ["山田^太郎", "Žluťoučký^Kůň", "Ελένη^Παπαδοπούλου", "<script>alert(1)</script>"]
)
def test_names_in_any_script_arrive_as_they_were(
    product: Product, film: Path, tmp_path: Path, name: str
) -> None:
    path, uid = another(
        film, tmp_path, 90_000 + len(name), PatientName=name, SpecificCharacterSet="ISO_IR 192"
    )
    assert product.store([path])[0].status == 0
    row = product.wait_row(uid, ai_status="completed")
    assert name.split("^")[0] in str(row["patient"])


def test_a_missing_study_uid_is_refused_as_not_understood(
    product: Product, film: Path, tmp_path: Path
) -> None:
    path, _ = another(film, tmp_path, 91_000)
    ds = pydicom.dcmread(path)
    del ds.StudyInstanceUID
    ds.save_as(path)
    status = _store_raw(product, path)
    assert status is not None
    assert 0xA900 <= status < 0xD000


def _store_raw(product: Product, path: Path) -> int | None:
    """Sent by pynetdicom itself: our own sender would refuse such a file before it left."""
    from pynetdicom import AE
    from pynetdicom.presentation import build_context

    ds = pydicom.dcmread(path)
    ae = AE("ROGUE")
    association = ae.associate(
        "127.0.0.1", product.dicom_port, ae_title="TRIAGE",
        contexts=[build_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)],
    )  # fmt: skip
    assert association.is_established
    answer = association.send_c_store(path)
    association.release()
    return int(answer.Status) if "Status" in answer else None


def test_random_bytes_on_the_port_harm_nobody(product: Product, film: Path, tmp_path: Path) -> None:
    chance = random.Random(7)
    for _ in range(30):
        with socket.create_connection(("127.0.0.1", product.dicom_port), timeout=5) as rogue:
            rogue.sendall(chance.randbytes(chance.randrange(1, 4000)))
    held = [socket.create_connection(("127.0.0.1", product.dicom_port), timeout=5) for _ in range(5)]
    for rogue in held:
        rogue.sendall(b"\x04\x00\xff\xff\xff\xff")  # a P-DATA-TF of 4 GiB, before any association
    path, uid = another(film, tmp_path, 92_000)
    assert product.store([path])[0].status == 0
    product.wait_row(uid, ai_status="completed")
    for rogue in held:
        rogue.close()
