"""Foreign programs as modality and PACS: dcmtk sends, Orthanc keeps and forwards, dcmtk stores what is no picture."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.system.product import Product, a_film, a_scan, another, running, wait_until
from triage.cli.up import free_port

pytestmark = [pytest.mark.interop, pytest.mark.system, pytest.mark.xdist_group("system")]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running(tmp_path_factory.mktemp("interop") / "home") as product:
        yield product


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: nothing shown with it")
    return found


def test_storescu_as_the_modality(product: Product, tmp_path: Path) -> None:
    storescu = _program("storescu")
    film, uid = another(a_film(tmp_path, 51)[0], tmp_path, 1)
    done = subprocess.run(
        [storescu, "-aet", "CR1", "-aec", "TRIAGE", "127.0.0.1", str(product.dicom_port), str(film)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = product.wait_row(uid, ai_status="completed")
    assert row["sender"] == "CR1"


def test_echoscu_is_answered_and_a_wrong_title_is_rejected(product: Product) -> None:
    echoscu = _program("echoscu")
    right = [echoscu, "-aec", "TRIAGE", "127.0.0.1", str(product.dicom_port)]
    assert subprocess.run(right, capture_output=True, timeout=30, check=False).returncode == 0
    wrong = [echoscu, "-aec", "SOMEBODY", "127.0.0.1", str(product.dicom_port)]
    assert subprocess.run(wrong, capture_output=True, timeout=30, check=False).returncode != 0


@contextmanager
def _orthanc(folder: Path, triage_port: int) -> Iterator[str]:
    program = _program("Orthanc")
    http_port, dicom_port = free_port(), free_port()
    folder.mkdir(parents=True)
    forward = folder / "forward.lua"
    forward.write_text(Path("deploy/orthanc/forward.lua").read_text())
    configuration = {
        "Name": "test", "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "storage"),
        "HttpPort": http_port, "DicomPort": dicom_port, "DicomAet": "ORTHANC", "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False, "Plugins": [], "LuaScripts": [str(forward)], "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "DicomModalities": {"triage": ["TRIAGE", "127.0.0.1", triage_port]},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{http_port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{address}/system", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_until(answers, 30, "Orthanc answers")
        yield f"{address}|{dicom_port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_orthanc_as_the_pacs_forwards_a_film_and_a_scan(product: Product, tmp_path: Path) -> None:
    film, film_uid = another(a_film(tmp_path, 52)[0], tmp_path, 2)
    slices, scan_uid = a_scan(tmp_path, 53)
    with _orthanc(tmp_path / "orthanc", product.dicom_port) as where:
        address = where.split("|")[0]
        for path in [film, *slices]:
            answer = httpx.post(
                f"{address}/instances", content=path.read_bytes(), timeout=30, trust_env=False
            )
            assert answer.status_code == 200, answer.text
        product.wait_row(film_uid, ai_status="completed")
        row = product.wait_row(scan_uid, within_seconds=120, state="to_read")
        wait_until(
            lambda: (product.row(scan_uid) or {})["ai_status"] in ("completed", "not_analysed"),
            120,
            "the scan's run",
        )
    assert row["images"]["received"] == 150
    assert row["sender"] == "ORTHANC"


def test_a_structured_report_is_kept_and_makes_no_worklist_item(product: Product, shared_data: Path) -> None:
    dcmsend = _program("dcmsend")
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
