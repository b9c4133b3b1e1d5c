"""A study's life over the real processes: sent, received, judged, analysed, ranked, alerted, acknowledged, reported."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from tests.system.product import Product, a_film, a_scan, another, running, wait_until
from triage.hl7.parse import parse

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running(tmp_path_factory.mktemp("chain") / "home") as product:
        yield product


def test_a_pneumothorax_climbs_alerts_and_is_acknowledged(product: Product, tmp_path: Path) -> None:
    plain, plain_uid = a_film(tmp_path, 21)
    film, uid = a_film(tmp_path, 20261, "pneumothorax", size_px=2000)
    product.store([plain, film])
    row = product.wait_row(uid, ai_status="completed")
    assert row["priority_class"] == "critical"
    assert row["rank"] == 1
    assert row["alert"]["state"] == "open"
    product.wait_row(plain_uid, ai_status="completed")
    assert product.inbox.wait(1, within_seconds=20)
    message = next(
        m for m in map(parse, product.inbox.messages) if row["accession_number"] in str(m.first("OBR"))
    )
    assert message.first("OBX").field(5) == "36118008"
    alerts = product.get("/api/v1/alerts")["alerts"]
    alert = next(a for a in alerts if a["study_uid"] == uid)
    answer = product.post(f"/api/v1/alerts/{alert['id']}/acknowledge")
    assert answer.status_code == 200, answer.text
    assert product.wait_row(uid)["alert"]["state"] == "acknowledged"


def test_a_nodule_raises_a_scan_without_an_alert(product: Product, tmp_path: Path) -> None:
    files, uid = a_scan(tmp_path, 20261, "nodule")
    product.store(files)
    row = product.wait_row(uid, ai_status="completed")
    assert row["priority_class"] == "elevated"
    assert row["images"]["received"] == 150
    assert row["images"]["complete_because"] == "no gap, association released"
    assert row["alert"] is None or row["alert"]["state"] is None


def test_late_slices_supersede_the_run_over_the_first_ones(product: Product, tmp_path: Path) -> None:
    files, uid = a_scan(tmp_path, 33)
    product.store(files[:140])
    product.wait_row(uid, state="to_read")
    wait_until(
        lambda: _states(product, uid)[-1:] in (["completed"], ["not_analysed"]), 120, "the first run ends"
    )
    product.store(files[140:])
    wait_until(lambda: len(_states(product, uid)) == 2, 60, "a second run")
    wait_until(lambda: _states(product, uid)[-1] in ("completed", "not_analysed"), 120, "the second run ends")
    assert _states(product, uid)[0] == "superseded"
    assert product.row(uid)["images"]["received"] == 150  # type: ignore[index]


def _states(product: Product, uid: str) -> list[str]:
    return [r["status"] for r in product.get(f"/api/v1/studies/{uid}")["runs"]]


def test_the_same_object_twice_is_one_and_with_other_bytes_is_kept_aside(
    product: Product, tmp_path: Path
) -> None:
    film, uid = another(a_film(tmp_path, 22)[0], tmp_path / "twice", 1)
    for _ in range(2):
        assert product.store([film])[0].status == 0
    ds = pydicom.dcmread(film)
    ds.StudyDescription = "something else"
    ds.save_as(tmp_path / "changed.dcm")
    assert product.store([tmp_path / "changed.dcm"])[0].status == 0
    product.wait_row(uid, ai_status="completed")
    assert product.row(uid)["images"]["received"] == 1  # type: ignore[index]
    events = product.get("/api/v1/audit?limit=500")["events"]
    assert [
        e for e in events if e["act"] == "instance.quarantined" and e["object_id"] == str(ds.SOPInstanceUID)
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ViewPosition": "LL", "PatientOrientation": ["A", "F"], "ViewCodeSequence": []}, "LATERAL_ONLY"),
        ({"PatientAge": "009Y", "PatientBirthDate": "20170101"}, "OUT_OF_AGE"),
        ({"BodyPartExamined": "HAND", "AnatomicRegionSequence": []}, "WRONG_BODY_PART"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "FOR_PROCESSING"),
    ],
)
def test_what_is_not_analysed_says_why(
    product: Product, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    number = 100 + len(reason)
    film, uid = another(a_film(tmp_path, 23)[0], tmp_path, number, **changes)
    assert product.store([film])[0].status == 0
    row = product.wait_row(uid, ai_status="not_analysed")
    assert row["ai_reason"] == reason
    assert row["priority_class"] == "routine"


def test_health_names_every_part_and_shows_no_patient(product: Product) -> None:
    import httpx

    answer = httpx.get(f"{product.address}/health", timeout=10, trust_env=False)
    names = {c["name"].split("@")[0] for c in answer.json()["checks"]}
    assert {"receiver", "worker-stat", "worker-routine", "relay", "queue", "constancy", "disk"} <= names
    assert "MANY-" not in answer.text
    assert "Doe" not in answer.text


def test_metrics_and_the_list_need_a_token(product: Product) -> None:
    import httpx

    for path in ("/metrics", "/api/v1/worklist", "/api/v1/audit"):
        assert httpx.get(f"{product.address}{path}", timeout=10, trust_env=False).status_code == 401
    metrics = httpx.get(f"{product.address}/metrics", headers=product.headers, timeout=10, trust_env=False)
    assert metrics.status_code == 200
    assert "triage_" in metrics.text
    assert "MANY-" not in metrics.text


def test_a_rejection_note_by_dcmtk_withdraws_what_was_told(product: Product, tmp_path: Path) -> None:
    storescu = shutil.which("storescu")
    if storescu is None:
        pytest.skip("storescu is not installed: nothing shown with it")
    film, uid = a_film(tmp_path, 20262, "pneumothorax", size_px=2000)
    product.store([film])
    row = product.wait_row(uid, ai_status="completed")
    told = row["alert"] is not None
    heard = len(product.inbox.messages)
    note = _rejection_note(film, tmp_path / "note.dcm")
    command = [storescu, "-aet", "PACS", "-aec", "TRIAGE", "127.0.0.1", str(product.dicom_port), str(note)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    study = f"/api/v1/studies/{uid}"
    wait_until(lambda: product.get(study)["item"]["state"] == "withdrawn", 30, f"withdrawn; {product.tail()}")
    assert {a["state"] for a in product.get(study)["alerts"]} <= {"withdrawn"}
    assert product.get(study)["item"]["ai_reason"] == "REJECTED"
    if told:
        assert product.inbox.wait(heard + 1, within_seconds=20)


def _rejection_note(film: Path, target: Path) -> Path:
    """Rejected for patient safety (IHE IOCM), made from the header of what it rejects."""
    of = pydicom.dcmread(film, stop_before_pixels=True)
    ds, title, study, series, sop = Dataset(), Dataset(), Dataset(), Dataset(), Dataset()
    for keyword in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
    ):
        setattr(ds, keyword, of.get(keyword, ""))
    ds.IssuerOfPatientID = of.get("IssuerOfPatientID", "")
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.59", f"{of.SOPInstanceUID[:60]}.9"
    ds.SeriesInstanceUID, ds.Modality = f"{of.SeriesInstanceUID[:60]}.9", "KO"
    title.CodeValue, title.CodingSchemeDesignator = "113037", "DCM"
    title.CodeMeaning = "Rejected for Patient Safety Reasons"
    ds.ConceptNameCodeSequence = Items([title])
    sop.ReferencedSOPClassUID, sop.ReferencedSOPInstanceUID = of.SOPClassUID, of.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedSOPSequence = of.SeriesInstanceUID, Items([sop])
    study.StudyInstanceUID, study.ReferencedSeriesSequence = of.StudyInstanceUID, Items([series])
    ds.CurrentRequestedProcedureEvidenceSequence = Items([study])
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    ds.save_as(target, enforce_file_format=True)
    return target
