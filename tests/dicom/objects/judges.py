"""The outside judges of what we make, and how to read an object back. What they may complain of is listed by name."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from triage.dicom.objects.common import Made

JAVA = Path("/usr/share/java")

# standards 6.7: the tools are of 2022, the attributes and rows are newer; our private codes are declared.
ACCEPTED_BY_DCIODVFY = (
    r"Warning - </ContributingEquipmentSequence\(0018,a001\)\[1\]/DeviceUID\(0018,1002\)> - "
    r"Attribute is not present in standard DICOM IOD",
    r"Warning - .* - Missing attribute or value that would be needed to build DICOMDIR",  # as received: empty
    r"Warning - .* - Unrecognized defined term = <99TRIAGE>",
)
ACCEPTED_BY_DCENTVFY = (
    r"Warning - .*Element=<AccessionNumber> IE <Series> versus <Study>.*",  # the tool's view
    # The patient's age belongs to the optional Patient Study module, which our objects do not have.
    r"Warning - Attribute present in one instance but not the other - Element=<PatientAge> .*",
)
ACCEPTED_BY_PIXELMED = (
    r"Warning: .*/CODE \((ACTCLASS|TEXTURE),99TRIAGE,.*\): Content Item not in template",
    r'Warning: .*/CONTAINER \(125007,DCM,"Measurement Group"\)/TEXT \(11100[123],DCM,.*\): Content Item not in template',
    # Its condition looks for the title among the items beside the root, where none can be (PS3.16 TID 2010, row 3).
    r'Error: .*\(113001,DCM,"Rejected for Quality Reasons"\).*: Conditional content item present when .*',
    r'Warning: .*/UIDREF \(121232,DCM,"Source series for segmentation"\): Content Item not in template',
)


ACCEPTED_BY_PIXELMED_INSTANCE = (
    r"Warning: SOPCommonModule/SpecificCharacterSet/.*: Unrecognized defined term :ISO_IR 192:",
    r"Error: GeneralSeriesModule/Laterality/: : Missing conditional attribute",  # standards 6.7: says so despite CHEST
)


def dciodvfy(path: Path) -> list[str]:
    """Lines of complaint beyond the accepted ones; empty: a valid object of its IOD."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dicom3tools is not installed (apt-get install dicom3tools): conformance not shown")
    done = subprocess.run(
        ["dciodvfy", "-new", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    lines = [x for x in done.stderr.splitlines() if x.startswith(("Error", "Warning"))]
    assert done.returncode == 0 or any(x.startswith("Error") for x in lines), done.stderr
    return _beyond(lines, ACCEPTED_BY_DCIODVFY)


def dcentvfy(paths: list[Path]) -> list[str]:
    """Where these files disagree about the patient or study that they share."""
    if shutil.which("dcentvfy") is None:
        pytest.skip("dicom3tools is not installed (apt-get install dicom3tools): consistency not shown")
    done = subprocess.run(
        ["dcentvfy", *map(str, paths)], capture_output=True, text=True, timeout=60, check=False
    )
    lines = [x for x in (done.stdout + done.stderr).splitlines() if x.startswith(("Error", "Warning"))]
    return _beyond(lines, ACCEPTED_BY_DCENTVFY)


def pixelmed(path: Path) -> list[str]:
    """The same of PixelMed's validator of templates. Its exit code says nothing (standards 6.7)."""
    said = _pixelmed("DicomSRValidator", path)
    assert "Root Template Validation Complete" in said and "IOD validation complete" in said, said
    return _beyond(_complaints(said), ACCEPTED_BY_PIXELMED)


def pixelmed_instance(path: Path) -> list[str]:
    """The same of its validator of IODs, for what is no report."""
    said = _pixelmed("DicomInstanceValidator", path)
    assert "IOD validation complete" in said, said
    return _beyond(_complaints(said), ACCEPTED_BY_PIXELMED_INSTANCE)


def _pixelmed(program: str, path: Path) -> str:
    jar = JAVA / "pixelmed.jar"
    if shutil.which("java") is None or not jar.exists():
        pytest.skip("PixelMed is not installed (apt-get install libpixelmed-java default-jre-headless)")
    limits = [
        f"-Djdk.xml.{name}=0" for name in ("xpathExprGrpLimit", "xpathExprOpLimit", "xpathTotalOpLimit")
    ]
    # A short-lived program: the optimizing compiler and a parallel collector cost more than they save, two thirds of it.
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    classes = ":".join(str(JAVA / name) for name in ("pixelmed.jar", "commons-codec.jar", "vecmath.jar"))
    done = subprocess.run(
        ["java", "-Xss128m", *quick, *limits, "-cp", classes, f"com.pixelmed.validate.{program}", str(path)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def _complaints(said: str) -> list[str]:
    return [x for x in said.splitlines() if x.startswith(("Error", "Warning"))]


def _beyond(lines: list[str], accepted: tuple[str, ...]) -> list[str]:
    return [x for x in lines if not any(re.fullmatch(a, x) for a in accepted)]


def read(made: Made) -> Dataset:
    return pydicom.dcmread(BytesIO(made.content))


def walk(ds: Dataset) -> Iterator[tuple[str, Any]]:
    """(keyword, value) of every element at every depth."""
    for element in ds:
        if element.VR == "SQ":
            yield element.keyword, None
            for item in element.value:
                yield from walk(item)
        else:
            yield element.keyword, element.value


def content_items(ds: Dataset) -> Iterator[Dataset]:
    """Every content item at every depth, in order."""
    for item in ds.get("ContentSequence", ()):
        yield item
        yield from content_items(item)


def named(ds: Dataset, code: str) -> list[Dataset]:
    """Content items whose concept name has this code value."""
    return [i for i in content_items(ds) if "ConceptNameCodeSequence" in i
            and i.ConceptNameCodeSequence[0].CodeValue == code]  # fmt: skip
