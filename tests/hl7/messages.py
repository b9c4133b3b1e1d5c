"""Messages of a RIS for tests, as text with CR between segments."""

from __future__ import annotations

import itertools

_numbers = itertools.count(1)


def msh(
    kind: str,
    *,
    control_id: str = "",
    at: str = "20260314120000+0000",
    more: str = "",
    version: str = "2.5.1",
) -> str:
    control_id = control_id or f"C{next(_numbers):06d}"
    return f"MSH|^~\\&|RIS|HOSP|TRIAGE|SITE|{at}||{kind}|{control_id}|P|{version}{more}"


PID = "PID|1||{patient}^^^HOSP^MR||{name}||19600101|F"


def pid(patient: str = "P1", name: str = "DOE^JANE") -> str:
    return PID.format(patient=patient, name=name)


def message(*segments: str) -> bytes:
    return ("\r".join(segments) + "\r").encode()


def an_orm(
    control: str = "NW", *, accession: str = "A1", priority: str = "S", placer: str = "PL1^HIS", filler: str = "FI1^RIS",
    location: str = "ED^12^A", patient: str = "P1", status: str = "", uid: str = "",
    reason: str = "chest pain", **header: str,
) -> bytes:  # fmt: skip
    """ORM^O01 of 2.3.1 or later, as IHE SWF writes it."""
    segments = [
        msh("ORM^O01", **header),
        pid(patient),
        f"PV1|1|E|{location}",
        f"ORC|{control}|{placer}|{filler}||{status}||^^^20260314113000^^{priority}|||||1234^REFER^RALPH",
        f"OBR|1|{placer}|{filler}|CXR2^Chest 2 views^L||||||||||||1234^REFER^RALPH||{accession}||||||DX|||"
        f"^^^^^{priority}||||{reason}",
    ]
    return message(*segments, *([f"ZDS|{uid}^100^Application^DICOM"] if uid else []))


def an_omi(
    *, accession: str = "A1", priority: str = "S", uid: str = "", control: str = "NW", **header: str
) -> bytes:
    """OMI^O23 of 2.5.1."""
    return message(
        msh("OMI^O23^OMI_O23", **header),
        pid(),
        "PV1|1|I|ICU^2",
        f"ORC|{control}|PL1^HIS|FI1^RIS",
        f"TQ1|1||||||20260314113000||{priority}",
        "OBR|1|PL1^HIS|FI1^RIS|CXR2^Chest 2 views^L|||||||||||||||||||||||||||R07^Chest pain^I10",
        f"IPC|{accession}|RP1|{uid}|SPS1|DX",
    )


def an_adt(event: str, *segments: str, **header: str) -> bytes:
    return message(
        msh(f"ADT^{event}", **header), f"EVN|{event}|{header.get('at', '20260314120000+0000')}", *segments
    )


def a_report(
    status: str = "F",
    *,
    accession: str = "A1",
    text: str = "No pneumothorax.",
    filler: str = "FI1^RIS",
    **header: str,
) -> bytes:
    return message(
        msh("ORU^R01", **header),
        pid(),
        f"ORC|RE|PL1^HIS|{filler}",
        f"OBR|1|PL1^HIS|{filler}|CXR2^Chest 2 views^L||||||||||||||{accession}||||20260314123000+0000||DX|{status}",
        f"OBX|1|TX|18782-3^Radiology Study observation^LN||{text}||||||{status}",
    )
