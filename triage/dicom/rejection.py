"""Reads a received Key Object Selection: is it a rejection note, and of what? (PS3.3 A.35.4, C.17.6; IHE RAD-66)"""

from __future__ import annotations

from pathlib import Path

from triage.dicom.elements import Wanted, read_part10
from triage.dicom.text import Values
from triage.domain.errors import Unavailable
from triage.domain.rejection import OF_TITLE, Rejection

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
_EVIDENCE = {  # hierarchical SOP instance reference macro (PS3.3 C.17-3)
    0x0020000D: None,
    0x00081115: {0x0020000E: None, 0x00081199: {0x00081155: None}},
}
_WANTED: Wanted = {
    0x0020000D: None,
    0x0040A043: {0x00080100: None, 0x00080102: None},
    0x0040A375: _EVIDENCE,  # Current Requested Procedure Evidence
    0x0040A360: _EVIDENCE,  # Predecessor Documents
}


def read_rejection(path: Path) -> Rejection | None:
    """None for a selection that rejects nothing.

    raises  Refused for what is no readable object; Unavailable when the file cannot be opened
    """
    try:
        with path.open("rb") as file:
            values = Values(read_part10(file, _WANTED).dataset)
    except OSError as error:
        raise Unavailable(f"cannot read {path.name}: {error.strerror}") from error
    title = values.first(0x0040A043)
    reason = OF_TITLE.get(title.code(0x00080100)) if title.code(0x00080102) == "DCM" else None
    if reason is None:
        return None
    study_uid = values.code(0x0020000D)
    return Rejection(
        reason=reason,
        study_instance_uid=study_uid,
        sop_instance_uids=_referenced(values, 0x0040A375, study_uid),
        replaces=_referenced(values, 0x0040A360, study_uid),
    )


def _referenced(values: Values, tag: int, study_uid: str) -> frozenset[str]:
    """Of this study alone: a note about one study takes nothing from another."""
    found = {
        sop.code(0x00081155)
        for study in values.items(tag)
        if study.code(0x0020000D) == study_uid
        for series in study.items(0x00081115)
        for sop in series.items(0x00081199)
    }
    return frozenset(found - {""})
