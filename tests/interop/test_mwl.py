"""dcmtk's wlmscpfs as the worklist: an unordered study gets its order from it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian

from tests.system.product import wait_until
from tests.workflow.desk import Desk
from triage.cli.up import free_port
from triage.settings import DicomSettings, Settings
from triage.store import peers
from triage.store.database import Database
from triage.workflow.ordered import WorklistOrders

pytestmark = pytest.mark.interop


def _entry(folder: Path, **values: str) -> None:
    ds, step = Dataset(), Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.AccessionNumber, ds.PatientName, ds.PatientID = "A1", "Doe^Jane", "P1"
    ds.PatientBirthDate, ds.PatientSex = "19600101", "F"
    ds.StudyInstanceUID, ds.RequestedProcedureID = "1.2.9", "RP1"
    ds.RequestedProcedureDescription, ds.RequestedProcedurePriority = "Thorax", "STAT"
    ds.CurrentPatientLocation, ds.ReasonForTheRequestedProcedure = "Notaufnahme Süd", "Dyspnoe"
    step.Modality, step.ScheduledStationAETitle = "DX", "DX1"
    step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = "20260314", "115000"
    step.ScheduledPerformingPhysicianName, step.ScheduledProcedureStepID = "", "SP1"
    step.ScheduledProcedureStepDescription = "Thorax pa"
    ds.ScheduledProcedureStepSequence = Items([step])
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = (
        "1.2.276.0.7230010.3.1.0.1",
        "1.2",
    )
    ds.save_as(folder / f"{ds.PatientID}.wl", enforce_file_format=True)


def test_wlmscpfs_tells_priority_place_and_reason(database: Database, tmp_path: Path) -> None:
    program = shutil.which("wlmscpfs")
    if program is None:
        pytest.skip("dcmtk is not installed: the worklist not shown")
    folder, port = tmp_path / "WORKLIST", free_port()
    folder.mkdir()
    (folder / "lockfile").touch()
    _entry(folder)
    _entry(folder, PatientID="P9", AccessionNumber="A9", CurrentPatientLocation="elsewhere")
    process = subprocess.Popen(
        [program, "-csk", "-dfp", str(tmp_path), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:

        def listens() -> bool:
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, 30, "wlmscpfs listens")
        desk = Desk(database)
        desk.receive()
        with database.write() as tx:
            peers.add(tx, "RIS", "WORKLIST", "127.0.0.1", port, tls=False)
        settings = Settings(home=tmp_path, dicom=DicomSettings(worklist="RIS"))
        asking = WorklistOrders(database, settings, desk.clock)
        assert asking.turn() == 1
        item = desk.item()
        assert (item["ordered_priority"], item["location"]) == ("STAT", "Notaufnahme Süd")
        (order,) = desk.rows("order")
        assert order["reason_for_exam"] == "Dyspnoe" and order["procedure_text"] == "Thorax"
        assert asking.turn() == 0  # it has its order
    finally:
        process.terminate()
        process.wait(timeout=20)
