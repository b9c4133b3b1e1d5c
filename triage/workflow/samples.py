"""The sample studies of the demo: phantoms, sent as a modality would, with what should become of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pydicom

from triage.phantom.identity import identity_for
from triage.phantom.person import make_thorax
from triage.phantom.write import write_ct, write_radiograph


@dataclass(frozen=True)
class Sample:
    """ordered: priority of its order; lateral, child: made unsuitable on purpose, to show that this is said."""

    seed: int
    modality: str
    findings: tuple[str, ...] = ()
    ordered: str = "ROUTINE"
    location: str = "OPD"
    lateral: bool = False
    child: bool = False


SAMPLES = (
    Sample(101, "DX", location="OPD"),
    Sample(102, "DX", ("cardiomegaly",), location="Ward 4"),
    Sample(103, "DX", ordered="URGENT", location="ED"),
    Sample(104, "DX", location="ED", child=True),
    Sample(105, "DX", location="OPD", lateral=True),
    Sample(106, "CT", ("nodule",), location="OPD"),
    Sample(107, "DX", ordered="STAT", location="ICU 1"),
    Sample(108, "DX", ("pneumothorax",), location="ICU 2"),
    Sample(109, "DX", ("effusion",), location="Ward 2"),
)
SAMPLE_CT_SLICES = 150


@dataclass(frozen=True)
class Written:
    sample: Sample
    study_instance_uid: str
    accession_number: str
    paths: tuple[Path, ...]


def write_sample(sample: Sample, folder: Path, now: datetime) -> Written:
    """The files of one sample study."""
    thorax = make_thorax(sample.seed, sample.findings)
    more = {"patient_age": "012Y", "patient_birth_date": f"{now.year - 12}0101"} if sample.child else {}
    identity = identity_for(sample.seed, sample.modality, now, sex=thorax.body.sex, **more)
    target = folder / f"{sample.seed}"
    if sample.modality == "CT":
        paths = write_ct(target, thorax, identity=identity, slices=SAMPLE_CT_SLICES)
    else:
        paths = [write_radiograph(target, thorax, identity=identity)]
    if sample.lateral:
        _as_lateral(paths[0])
    return Written(sample, identity.study_instance_uid, identity.accession_number, tuple(paths))


def _as_lateral(path: Path) -> None:
    """What a lateral film says of itself; its pixels stay those of the phantom."""
    ds = pydicom.dcmread(path)
    ds.ViewPosition = "LL"
    ds.PatientOrientation = ["A", "F"]
    code = ds.ViewCodeSequence[0]
    code.CodeValue, code.CodeMeaning = "399173006", "left lateral"
    ds.StudyDescription = ds.SeriesDescription = "Chest lateral"
    ds.save_as(path, enforce_file_format=True)
