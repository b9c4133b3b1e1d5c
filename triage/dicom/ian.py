"""Instance Availability Notification as SCP: what an archive says that it has, or no longer has (PS3.4 R, IHE RAD-49)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt

from triage.dicom.handover import Service
from triage.dicom.statuses import INVALID_ATTRIBUTE_VALUE, MISSING_ATTRIBUTE, MISSING_VALUE, Failed, answer

IAN = "1.2.840.10008.5.1.4.33"
UNAVAILABLE = "UNAVAILABLE"  # ONLINE, NEARLINE and OFFLINE exist, sooner or later
MOST_SERIES, MOST_INSTANCES = 1_000, 100_000


@dataclass(frozen=True)
class Availability:
    """SOP Instance UIDs of one series."""

    here: frozenset[str]
    gone: frozenset[str]


@dataclass(frozen=True)
class Notice:
    sop_instance_uid: str
    sender: str
    study_instance_uid: str
    series: dict[str, Availability]


def service(on_notice: Callable[[Notice], None]) -> Service:
    """on_notice  keeps it durably before it returns; raises `statuses.Failed`"""

    def create(event: evt.Event) -> tuple[Dataset, Dataset | None]:
        def act() -> Dataset | None:
            request: Any = event.request  # an N-CREATE
            given = request.AffectedSOPInstanceUID
            uid = str(given or f"2.25.{uuid.uuid4().int}")
            on_notice(read_notice(event.attribute_list, uid, str(event.assoc.requestor.ae_title)))
            if given:
                return None
            named = Dataset()
            named.AffectedSOPInstanceUID = uid
            return named

        return answer(act)

    return Service(sop_classes=(IAN,), answers={evt.EVT_N_CREATE: create})


def read_notice(ds: Dataset, sop_instance_uid: str, sender: str) -> Notice:
    """raises Failed when it names no study or no instance (PS3.4 table R.3.2-1)"""
    for keyword, name in (
        ("StudyInstanceUID", "Study Instance UID (0020,000D)"),
        ("ReferencedSeriesSequence", "Referenced Series Sequence (0008,1115)"),
    ):
        if keyword not in ds:
            raise Failed(MISSING_ATTRIBUTE, name)
        if not ds[keyword].value:
            raise Failed(MISSING_VALUE, name)
    series: dict[str, Availability] = {}
    count = 0
    for item in ds.ReferencedSeriesSequence:
        uid = str(item.get("SeriesInstanceUID") or "")[:64]
        if not uid:
            raise Failed(MISSING_ATTRIBUTE, "Series Instance UID (0020,000E)")
        said = {
            str(sop.get("ReferencedSOPInstanceUID") or "")[:64]: sop.get("InstanceAvailability") or ""
            for sop in item.get("ReferencedSOPSequence") or ()
        }
        said.pop("", None)
        count += len(said)
        if len(series) >= MOST_SERIES or count > MOST_INSTANCES:
            raise Failed(INVALID_ATTRIBUTE_VALUE, "more series or instances than one study can have")
        gone = frozenset(sop for sop, available in said.items() if available == UNAVAILABLE)
        before = series.get(uid, Availability(frozenset(), frozenset()))
        series[uid] = Availability(before.here | (said.keys() - gone), before.gone | gone)
    return Notice(sop_instance_uid[:64], sender, str(ds.StudyInstanceUID)[:64], series)
