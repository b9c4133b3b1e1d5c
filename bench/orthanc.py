"""Plain Orthanc as a yardstick: its REST list of as many studies as one page of ours, in the same run."""

from __future__ import annotations

import io
import json
import socket
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian


def orthanc_lists(folder: Path, count: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of `GET /studies?expand&limit=100`, and of `tools/find` for a modality, with `count` studies held."""
    home = folder / "orthanc"
    home.mkdir()
    port, dicom_port = _free(), _free()
    settings = {
        "StorageDirectory": str(home), "IndexDirectory": str(home), "HttpPort": port, "DicomPort": dicom_port,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "Name": "BENCH", "SyncStorageArea": False,
    }  # fmt: skip
    file = home / "orthanc.json"
    file.write_text(json.dumps(settings))
    process = subprocess.Popen(["Orthanc", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
        _wait(client)
        for n in range(count):
            client.post("/instances", content=_object(n)).raise_for_status()
        find = {"Level": "Study", "Expand": True, "Limit": 100, "Query": {"ModalitiesInStudy": "CT"}}
        return {
            "studies": count,
            "list_100": _figures(
                [_timed(lambda: client.get("/studies?expand&since=0&limit=100")) for _ in range(repeats)]
            ),
            "find_100": _figures(
                [_timed(lambda: client.post("/tools/find", json=find)) for _ in range(repeats)]
            ),
        }
    finally:
        process.terminate()
        process.wait(30)


def _object(n: int) -> bytes:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    root = f"1.2.826.0.1.3680043.10.8.{n + 1}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = root, f"{root}.1"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{root}.1.1"
    ds.PatientID, ds.PatientName, ds.AccessionNumber = str(4_000_000 + n), f"Muster{n}^Person", f"A{n}"
    ds.Modality, ds.StudyDescription = ("CT", "CT thorax") if n % 4 == 0 else ("DX", "Chest PA")
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _timed(run: Any) -> float:
    began = time.perf_counter()
    run().raise_for_status()
    return time.perf_counter() - began


def _wait(client: httpx.Client) -> None:
    for _ in range(300):
        try:
            client.get("/system").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("Orthanc did not start in 30 s")


def _free() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _figures(seconds: list[float]) -> dict[str, float | int]:
    ordered = sorted(1000 * s for s in seconds)
    return {"n": len(ordered), "p50": round(statistics.median(ordered), 1), "p95": round(ordered[-1], 1)}
