"""Arrival to flag, seen from the rows: last object received to the end of its Run, over the real processes.

Films: 2000 x 2000, uncompressed, one at a time with an idle queue, then all at once. CT: 150 slices with
`quiet_seconds = 1` on one association, with an idle queue and with twenty films put into it by another
association while the slices arrive.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom

from tests.system.product import Product, a_film, a_scan, another, running, wait_until
from triage.phantom.identity import uid_of
from triage.store import runs, studies

FILMS = int(os.environ.get("FILMS", "50"))
SCANS = int(os.environ.get("SCANS", "10"))
BESIDE = 20  # films that arrive while a scan does


def measure() -> dict[str, Any]:
    """Seconds, p50 and p95."""
    with tempfile.TemporaryDirectory(prefix="triage-bench-") as folder:
        root = Path(folder)
        film, _ = a_film(root / "source", 20261, "pneumothorax", size_px=2000)
        slices, _ = a_scan(root / "source", 20261, "nodule", slices=150)
        films = [another(film, root / "films", n) for n in range(2 * FILMS)]
        beside = [
            [another(film, root / "beside", BESIDE * n + k) for k in range(BESIDE)] for n in range(SCANS)
        ]
        with running(root / "home") as product:
            _one_by_one(product, films[:3])  # warm
            figures: dict[str, Any] = {"film_idle": _figures(_one_by_one(product, films[3:FILMS]))}
            figures["film_busy"] = _figures(_all_at_once(product, films[FILMS:]))
            scans = [_renamed(slices, root / "scans", n) for n in range(2 * SCANS)]
            figures["ct_idle"] = _figures([_scan(product, *scan) for scan in scans[:SCANS]])
            figures["ct_busy"] = _figures(
                [
                    _scan_among(product, *scan, films)
                    for scan, films in zip(scans[SCANS:], beside, strict=True)
                ]
            )
        return figures


def _one_by_one(product: Product, films: list[tuple[Path, str]]) -> list[float]:
    seconds = []
    for path, uid in films:
        product.store([path])
        seconds.append(_seconds(product, uid))
    return seconds


def _all_at_once(product: Product, films: list[tuple[Path, str]]) -> list[float]:
    product.store([path for path, _ in films])
    return [_seconds(product, uid) for _, uid in films]


def _scan(product: Product, paths: list[Path], uid: str) -> float:
    product.store(paths)
    return _seconds(product, uid)


def _scan_among(product: Product, paths: list[Path], uid: str, films: list[tuple[Path, str]]) -> float:
    with ThreadPoolExecutor(1) as other:
        sending = other.submit(product.store, [path for path, _ in films])
        product.store(paths)
        sending.result()
    seconds = _seconds(product, uid)
    for _, film in films:
        _seconds(product, film)  # the next scan starts with an empty queue
    return seconds


def _renamed(slices: list[Path], folder: Path, number: int) -> tuple[list[Path], str]:
    """The same scan as another study: paths and its Study Instance UID."""
    paths = []
    for path in slices:
        ds = pydicom.dcmread(path)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            setattr(ds, keyword, uid_of(str(ds[keyword].value), str(number)))
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        target = folder / str(number) / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(target, enforce_file_format=True)
        paths.append(target)
    return paths, str(ds.StudyInstanceUID)


def _seconds(product: Product, uid: str) -> float:
    database = product.database()

    def ended() -> float | None:
        with database.read() as tx:
            study_id = studies.find_study(tx, uid)
            found = runs.current(tx, study_id) if study_id is not None else []
            if not found or not all(runs.is_terminal(r["state"]) for r in found):
                return None
            received = studies.get_study(tx, study_id)["last_received_at"]  # type: ignore[arg-type]
            return float((found[-1]["finished_at"] - received).total_seconds())

    seconds: float = wait_until(ended, 180, "the run ends")
    database.close()
    return seconds


def _figures(seconds: list[float]) -> dict[str, float | int]:
    ordered = sorted(seconds)
    return {
        "n": len(ordered),
        "p50": round(statistics.median(ordered), 3),
        "p95": round(ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))], 3),
        "max": round(ordered[-1], 3),
    }
