"""Header of one received object as an `InstanceHeader`: parsed once here, trusted inside.

Called by the receiver, the intake of files and the workers. Keeps to the limits of `elements`; no pixel data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from triage.dicom.elements import Elements, Part10, read_part10
from triage.dicom.header_values import WANTED, instance_header, with_groups
from triage.dicom.text import Values
from triage.dicom.uids import is_uid
from triage.domain.errors import Refused, Unavailable
from triage.domain.study import InstanceHeader

_REQUIRED = {
    0x00080016: "SOP Class UID (0008,0016)",
    0x00080018: "SOP Instance UID (0008,0018)",
    0x0020000D: "Study Instance UID (0020,000D)",
    0x0020000E: "Series Instance UID (0020,000E)",
}


class ObjectMismatch(Refused):
    """The file meta information, or the C-STORE command it was made from, names another object than the data set."""


@dataclass(frozen=True)
class CheckedHeader:
    """Elements of an object that may be taken: its identity is in order, the other values are as they came.

    All that can be refused is refused by now. `decode` makes values of them, whenever that is and in whatever process.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    dataset: Elements

    def decode(self) -> InstanceHeader:
        """Its values; never raises for what stands in them."""
        return instance_header(
            self.dataset,
            sop_class_uid=self.sop_class_uid,
            sop_instance_uid=self.sop_instance_uid,
            study_instance_uid=self.study_instance_uid,
            series_instance_uid=self.series_instance_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
        )


def check_header(path: Path) -> CheckedHeader:
    """Elements and identity of one Part 10 file.

    raises  Refused when it is no readable DICOM file or an identifying UID is missing or malformed;
            ObjectMismatch when the file meta information names another object; Unavailable when the file cannot
            be opened
    source  PS3.10 7.1, standards 1.5 (limits)
    """
    part10 = _read(path)
    values = Values(part10.dataset)
    sop_class_uid = _required_uid(values, 0x00080016)
    sop_instance_uid = _required_uid(values, 0x00080018)
    _check_meta(part10, sop_class_uid, sop_instance_uid)
    study_instance_uid, series_instance_uid = (_required_uid(values, tag) for tag in (0x0020000D, 0x0020000E))
    return CheckedHeader(
        sop_class_uid,
        sop_instance_uid,
        study_instance_uid,
        series_instance_uid,
        part10.transfer_syntax_uid,
        part10.dataset,
    )


def read_header(path: Path) -> InstanceHeader:
    """Header of one Part 10 file; raises as `check_header`."""
    return check_header(path).decode()


def read_frame_headers(path: Path, header: InstanceHeader) -> list[InstanceHeader]:
    """One header per frame of an Enhanced or Legacy Converted CT, in frame order.

    The functional groups of each frame replace the instance's values; a group that is per frame wins over a
    shared one (PS3.3 C.7.6.16). raises Refused when the frames are not all described.
    """
    part10 = _read(path, every_frame=True)
    values = Values(part10.dataset)
    frames = values.items(0x52009230)
    if len(frames) != header.number_of_frames:
        raise Refused(
            f"instance {header.sop_instance_uid} declares {header.number_of_frames} frames "
            f"and describes {len(frames)}"
        )
    shared = with_groups(header, values.first(0x52009229))
    return [
        replace(with_groups(shared, frame), number_of_frames=1, instance_number=i + 1)
        for i, frame in enumerate(frames)
    ]


def _read(path: Path, *, every_frame: bool = False) -> Part10:
    try:
        with path.open("rb") as file:
            return read_part10(file, WANTED, every_frame=every_frame)
    except OSError as e:
        raise Unavailable(f"cannot read {path.name}: {e.strerror}") from e


def _required_uid(values: Values, tag: int) -> str:
    uid = values.code(tag)
    if not uid:
        raise Refused(f"{_REQUIRED[tag]} is missing. Correct the object at its sender, then send it again.")
    if not is_uid(uid):
        raise Refused(f"{_REQUIRED[tag]} is no valid UID (digits and dots, at most 64: PS3.5 9.1)")
    return uid


def _check_meta(part10: Part10, sop_class_uid: str, sop_instance_uid: str) -> None:
    meta = Values(part10.meta)
    for tag, name, uid in (
        (0x00020002, "SOP Class UID", sop_class_uid),
        (0x00020003, "SOP Instance UID", sop_instance_uid),
    ):
        said = meta.code(tag)
        if said and said != uid:
            raise ObjectMismatch(f"file meta information and data set name different objects ({name})")
