"""Foreign programs as modality and PACS: dcmtk sends, Orthanc keeps and forwards, dcmtk stores what is no picture."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.programs import an_orthanc, program
from tests.system.product import Product, a_film, a_scan, another, running, wait_until

pytestmark = [pytest.mark.interop, pytest.mark.system]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running(tmp_path_factory.mktemp("interop") / "home") as product:
        yield product


def test_storescu_as_the_modality(product: Product, tmp_path: Path) -> None:
    storescu = program("storescu")
    film, uid = another(a_film(tmp_path, 51)[0], tmp_path, 1)
    done = subprocess.run(
        [storescu, "-aet", "CR1", "-aec", "TRIAGE", "127.0.0.1", str(product.dicom_port), str(film)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = product.wait_row(uid, ai_status="completed")
    assert row["sender"] == "CR1"


def test_echoscu_is_answered_and_a_wrong_title_is_rejected(product: Product) -> None:
    echoscu = program("echoscu")
    right = [echoscu, "-aec", "TRIAGE", "127.0.0.1", str(product.dicom_port)]
    assert subprocess.run(right, capture_output=True, timeout=30, check=False).returncode == 0
    wrong = [echoscu, "-aec", "SOMEBODY", "127.0.0.1", str(product.dicom_port)]
    assert subprocess.run(wrong, capture_output=True, timeout=30, check=False).returncode != 0


def test_orthanc_as_the_pacs_forwards_a_film_and_a_scan(product: Product, tmp_path: Path) -> None:
    film, film_uid = another(a_film(tmp_path, 52)[0], tmp_path, 2)
    slices, scan_uid = a_scan(tmp_path, 53)
    lua = (Path("deploy/orthanc/forward.lua"),)
    with an_orthanc(tmp_path / "orthanc", product.dicom_port, web=False, lua=lua) as orthanc:
        orthanc.put([film, *slices])
        product.wait_row(film_uid, ai_status="completed")
        row = product.wait_row(scan_uid, state="to_read")
        wait_until(
            lambda: (product.row(scan_uid) or {})["ai_status"] in ("completed", "not_analysed"),
            120,
            "the scan's run",
        )
    assert row["images"]["received"] == 150
    assert row["sender"] == "ORTHANC"


def test_a_structured_report_is_kept_and_makes_no_worklist_item(product: Product, shared_data: Path) -> None:
    dcmsend = program("dcmsend")
    report = shared_data / "dicom" / "nonchest"
    paths = sorted(p for p in report.iterdir() if "sr" in p.name.lower() or "kos" in p.name.lower())[:2]
    assert paths
    before = product.get("/api/v1/worklist?limit=500")["total"]
    done = subprocess.run(
        [dcmsend, "-aec", "TRIAGE", "127.0.0.1", str(product.dicom_port), *map(str, paths)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert product.get("/api/v1/worklist?limit=500")["total"] == before
