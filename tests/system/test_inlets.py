"""Web and collector as their own processes take what comes over the web and through a folder, and give it back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pydicom
import pytest
from dicomweb_client import DICOMwebClient

from tests.dicom.builders import ct_slices, film, save, save_all
from tests.system.product import wait_until
from triage.cli.up import as_toml, free_port
from triage.store import users
from triage.store.database import Database

pytestmark = pytest.mark.system
TOKEN = "gateway-token"


@dataclass(frozen=True)
class Doors:
    client: DICOMwebClient
    folder: Path


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    base = tmp_path_factory.mktemp("inlets")
    home, folder, port = base / "home", base / "in", free_port()
    home.mkdir()
    folder.mkdir()
    values = {
        "home": str(home),
        "broker": {"url": f"filesystem://{base}/broker"},
        "web": {"port": port},
        "folder": {"path": str(folder), "rest_seconds": 0.5},
    }
    (home / "triage.toml").write_text(as_toml(values))
    with (home / "log.txt").open("wb") as log:
        command = [sys.executable, "-m", "triage.cli.main", "--config", str(home / "triage.toml")]
        process = subprocess.Popen([*command, "up", "--only", "web,collector"], stdout=log, stderr=log)

    def ready() -> bool:
        assert process.poll() is None, (home / "log.txt").read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_until(ready, 180, "the web process answers")
        with Database(f"sqlite:///{home / 'triage.db'}").write() as tx:
            users.add_token(tx, "gateway", TOKEN, ["dicom:read", "dicom:write"], datetime.now(UTC))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        yield Doors(DICOMwebClient(f"http://127.0.0.1:{port}/dicom-web", headers=headers), folder)
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_a_scan_by_stow_comes_back_whole(doors: Doors) -> None:
    made = ct_slices(40, rows=256)  # 5 MB in one request: twenty times what a page may send
    slices = [pydicom.dcmread(path) for path in save_all(made, doors.folder.parent / "scan")]

    answer = doors.client.store_instances(slices)

    assert len(answer.ReferencedSOPSequence) == 40 and "FailedSOPSequence" not in answer
    back = {ds.SOPInstanceUID: ds.PixelData for ds in doors.client.retrieve_study(slices[0].StudyInstanceUID)}
    assert back == {ds.SOPInstanceUID: ds.PixelData for ds in slices}


def test_a_file_in_the_folder_is_taken_and_moved(doors: Doors) -> None:
    one = film()
    shutil.move(save(one, doors.folder.parent / "film.dcm"), doors.folder / "film.dcm")
    wait_until(lambda: (doors.folder / "done" / "film.dcm").exists(), 60, "the file is in done/")
    (found,) = doors.client.search_for_studies(search_filters={"StudyInstanceUID": one.StudyInstanceUID})
    assert found["00201208"]["Value"] == [1]
