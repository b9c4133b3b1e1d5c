"""Orthanc as an archive that is asked: C-FIND with C-GET and C-MOVE, QIDO-RS with WADO-RS; and our STOW client's peer."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import httpx
import pydicom
import pytest

from tests.dicom.builders import ct_slices, film, save, save_all
from tests.system.product import wait_until
from triage.cli.up import free_port
from triage.dicom.archive import Archive, Dimse
from triage.dicom.archive_web import Web
from triage.domain.errors import Unavailable

pytestmark = [pytest.mark.interop]
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Orthanc:
    http_port: int
    dicom_port: int
    moved: Path  # where its C-MOVE arrives


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    program, storescp = shutil.which("Orthanc"), shutil.which("storescp")
    if program is None or storescp is None or not PLUGIN.exists():
        pytest.skip("Orthanc with orthanc-dicomweb or storescp is not installed: nothing shown with them")
    folder = tmp_path_factory.mktemp("orthanc")
    moved = folder / "moved"
    moved.mkdir()
    http_port, dicom_port, store_port = free_port(), free_port(), free_port()
    configuration = {
        "Name": "archive", "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "storage"),
        "HttpPort": http_port, "DicomPort": dicom_port, "DicomAet": "ORTHANC", "AuthenticationEnabled": False,
        "RemoteAccessAllowed": False, "Plugins": [str(PLUGIN)], "DicomAlwaysAllowGet": True, "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True, "DicomModalities": {"triage": ["TRIAGE", "127.0.0.1", store_port]},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    scp = subprocess.Popen([storescp, "-aet", "TRIAGE", "-od", str(moved), str(store_port)])
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
        files = [save(film(StudyDate="20260310"), folder / "film.dcm")]
        files += save_all(ct_slices(5, StudyDate="20260311"), folder / "scan")
        for file in files:
            httpx.post(
                f"{address}/instances", content=file.read_bytes(), timeout=30, trust_env=False
            ).raise_for_status()
        yield Orthanc(http_port, dicom_port, moved)
    finally:
        for one in (process, scp):
            one.terminate()
            one.wait(timeout=20)


def archive(orthanc: Orthanc, method: str) -> Archive:
    if method == "wado":
        return Web(url=f"http://127.0.0.1:{orthanc.http_port}/dicom-web")
    return Dimse(host="127.0.0.1", port=orthanc.dicom_port, calling="TRIAGE", called="ORTHANC", method=method)


@pytest.mark.parametrize("method", ["cget", "cmove", "wado"])
def test_asked_and_fetched(orthanc: Orthanc, method: str, tmp_path: Path) -> None:
    asked = archive(orthanc, method)
    (found,) = asked.studies(date(2026, 3, 11), date(2026, 3, 12), modality="CT")
    assert found.study_date == "20260311" and found.patient_id
    assert asked.studies(date(2026, 4, 1), date(2026, 4, 2), modality="CT") == []
    assert len(asked.studies(date(2026, 3, 1), date(2026, 3, 31), patient_id=found.patient_id)) == 2
    (series,) = asked.series(found.study_instance_uid)
    assert (series.modality, series.instances) == ("CT", 5)
    taken: list[str] = []

    count = asked.fetch(series, lambda path: taken.append(pydicom.dcmread(path).SOPInstanceUID))

    if method == "cmove":
        wait_until(lambda: len(list(orthanc.moved.iterdir())) == 5, 20, "five files moved")
    else:
        assert sorted(taken) == sorted(ds.SOPInstanceUID for ds in ct_slices(5))
    assert count == 5
    with pytest.raises(Unavailable):
        asked.fetch(type(series)(**{**series.__dict__, "series_instance_uid": "1.2.3"}), lambda _: None)


def test_an_archive_that_is_not_there_is_said_in_time(tmp_path: Path) -> None:
    port = free_port()
    for asked in (
        Dimse(host="127.0.0.1", port=port, calling="T", called="X", method="cget", timeout_seconds=2),
        Web(url=f"http://127.0.0.1:{port}", timeout_seconds=2),
    ):
        with pytest.raises(Unavailable):
            asked.studies(date(2026, 3, 11), date(2026, 3, 12))
