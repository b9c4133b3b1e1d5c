"""Foreign archives as tests start them: Orthanc with its DICOMweb, dcmtk's dcmqrscp and storescp, each in its folder.

A program that is missing skips its test with a line that names it.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.system.product import wait_until
from triage.cli.up import free_port

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: nothing shown with it")
    return found


def run(name: str, *arguments: str, fails: bool = False) -> str:
    """Run a foreign client to its end; what it said. fails: it must say no."""
    done = subprocess.run(
        [program(name), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + done.stderr
    assert (done.returncode != 0) is fails, said
    return said


@dataclass(frozen=True)
class Orthanc:
    http_port: int
    dicom_port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb(self) -> str:
        return f"{self.address}/dicom-web"

    def put(self, files: Sequence[Path]) -> None:
        for file in files:
            httpx.post(
                f"{self.address}/instances", content=file.read_bytes(), timeout=30, trust_env=False
            ).raise_for_status()

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.address}/system", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def an_orthanc(
    folder: Path, our_port: int = 0, *, web: bool = True, lua: Sequence[Path] = ()
) -> Iterator[Orthanc]:
    """Orthanc as ORTHANC, open to all; it knows us as TRIAGE at `our_port`. web: with DICOMweb; lua: scripts it runs."""
    command = program("Orthanc")
    if web and not DICOMWEB.exists():
        pytest.skip("orthanc-dicomweb is not installed: DICOMweb of Orthanc not shown")
    folder.mkdir(parents=True, exist_ok=True)
    orthanc = Orthanc(free_port(), free_port())
    configuration = {
        "Name": "archive", "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "storage"),
        "HttpPort": orthanc.http_port, "DicomPort": orthanc.dicom_port, "DicomAet": "ORTHANC",
        "AuthenticationEnabled": False, "RemoteAccessAllowed": False, "DicomCheckCalledAet": False,
        "Plugins": [str(DICOMWEB)] if web else [], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "LuaScripts": [str(script.resolve()) for script in lua], "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowGet": True, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowMove": True,
        "DicomModalities": {"triage": ["TRIAGE", "127.0.0.1", our_port or 1]},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with _running([command, str(folder / "orthanc.json")], folder / "log.txt"):
        wait_until(orthanc.answers, 60, "Orthanc answers")
        yield orthanc


@contextmanager
def a_dcmqrscp(folder: Path, our_port: int = 0) -> Iterator[int]:
    """Port of dcmtk's image archive as ARCHIVE, which moves to TRIAGE at `our_port`."""
    command, port, shelf = program("dcmqrscp"), free_port(), folder / "shelf"
    shelf.mkdir(parents=True)
    configuration = f"""
        NetworkTCPPort = {port}
        MaxPDUSize = 16384
        MaxAssociations = 16
        HostTable BEGIN
        triage = (TRIAGE, localhost, {our_port or 1})
        HostTable END
        VendorTable BEGIN
        VendorTable END
        AETable BEGIN
        ARCHIVE {shelf} RW (200, 1024mb) ANY
        AETable END
    """
    (folder / "dcmqrscp.cfg").write_text("\n".join(line.strip() for line in configuration.splitlines()))
    with _running([command, "-c", str(folder / "dcmqrscp.cfg")], folder / "log.txt"):
        wait_until(lambda: listens(port), 30, "dcmqrscp listens")
        yield port


@contextmanager
def a_storescp(
    folder: Path, *options: str, title: str = "ORTHANC", port: int = 0
) -> Iterator[tuple[int, Path]]:
    """(port, folder of what it stored) of dcmtk's storescp."""
    command, port, kept = program("storescp"), port or free_port(), folder / "kept"
    kept.mkdir(parents=True)
    with _running([command, *options, "-od", str(kept), "-aet", title, "+B", str(port)], folder / "log.txt"):
        wait_until(lambda: listens(port), 30, "storescp listens")
        yield port, kept


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)
