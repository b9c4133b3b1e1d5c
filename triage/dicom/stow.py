"""STOW-RS: what became of each instance, and the answer (PS3.18 10.5, standards 10.1)."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from triage.dicom.header import ObjectMismatch
from triage.dicom.part10 import ClassNotSupported, SyntaxNotSupported
from triage.domain.errors import Refused

OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
SYNTAX_NOT_SUPPORTED = 0xC122
CLASS_NOT_SUPPORTED = 0x0122
PROCESSING_FAILURE = 0x0110
DUPLICATE_INSTANCE = 0x0111


@dataclass(frozen=True)
class Outcome:
    """failure: 0 when the instance is stored; uids "" where a part has no identity."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    failure: int = 0


def failure_of(error: Exception) -> int:
    """Failure Reason (0008,1197) of what taking an object raised (PS3.18 10.5.3, PS3.4 B.2.3)."""
    if isinstance(error, SyntaxNotSupported):
        return SYNTAX_NOT_SUPPORTED
    if isinstance(error, ClassNotSupported):
        return CLASS_NOT_SUPPORTED
    if isinstance(error, ObjectMismatch):
        return DOES_NOT_MATCH
    if isinstance(error, Refused):
        return CANNOT_UNDERSTAND
    return OUT_OF_RESOURCES


def is_too_large(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EFBIG


def status_of(outcomes: Sequence[Outcome]) -> int:
    """200 all stored, 202 some, 409 none; 503 none and all of them only for the moment."""
    stored = sum(not o.failure for o in outcomes)
    if outcomes and stored == len(outcomes):
        return 200
    if stored:
        return 202
    return 503 if outcomes and all(o.failure == OUT_OF_RESOURCES for o in outcomes) else 409


def answer(outcomes: Sequence[Outcome], base_url: str) -> Dataset:
    """The Store Instances Response (PS3.18 I).

    base_url  of the studies service, without a slash at its end
    """
    said = Dataset()
    studies = {o.study_instance_uid for o in outcomes if not o.failure}
    if len(studies) == 1:
        said.RetrieveURL = f"{base_url}/studies/{studies.pop()}"
    said.ReferencedSOPSequence = Items(_stored(o, base_url) for o in outcomes if not o.failure)
    failed = [o for o in outcomes if o.failure and o.sop_instance_uid]
    nameless = [o for o in outcomes if o.failure and not o.sop_instance_uid]
    if failed:
        said.FailedSOPSequence = Items(_failed(o) for o in failed)
    if nameless:
        said.OtherFailuresSequence = Items(_failed(o) for o in nameless)
    return said


def as_json(said: Dataset) -> bytes:
    return json.dumps(said.to_json_dict(), separators=(",", ":")).encode()


def as_xml(said: Dataset) -> bytes:
    """The native DICOM model (PS3.19 A.1) of text, UID, number and sequence elements."""
    root = ElementTree.Element("NativeDicomModel", {"xml:space": "preserve"})
    _fill(root, said)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _fill(parent: ElementTree.Element, said: Dataset) -> None:
    for element in said:
        names = {
            "tag": f"{element.tag:08X}",
            "vr": element.VR,
            "keyword": element.keyword,
        }
        node = ElementTree.SubElement(parent, "DicomAttribute", names)
        values = element.value if element.VM > 1 or element.VR == "SQ" else [element.value]
        for number, value in enumerate(values, start=1):
            if element.VR == "SQ":
                _fill(ElementTree.SubElement(node, "Item", {"number": str(number)}), value)
            else:
                ElementTree.SubElement(node, "Value", {"number": str(number)}).text = str(value)


def _named(outcome: Outcome) -> Dataset:
    item = Dataset()
    if outcome.sop_class_uid:
        item.ReferencedSOPClassUID = outcome.sop_class_uid
    if outcome.sop_instance_uid:
        item.ReferencedSOPInstanceUID = outcome.sop_instance_uid
    return item


def _stored(outcome: Outcome, base_url: str) -> Dataset:
    item = _named(outcome)
    item.RetrieveURL = (
        f"{base_url}/studies/{outcome.study_instance_uid}/series/{outcome.series_instance_uid}"
        f"/instances/{outcome.sop_instance_uid}"
    )
    return item


def _failed(outcome: Outcome) -> Dataset:
    item = _named(outcome)
    item.FailureReason = outcome.failure
    return item
