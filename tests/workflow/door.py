"""Our real DICOM port with its other services, over a department's database: peers call it with pynetdicom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pynetdicom import AE
from pynetdicom.presentation import build_context

from tests.dicom.hospital import QUICK
from tests.factories import Clock
from triage.dicom.receive import Receiver
from triage.dicom.receiver_config import ReceiverConfig
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow.other_services import other_services
from triage.workflow.site import Site


@dataclass
class Door:
    port: int
    woken: list[tuple[int, str]] = field(default_factory=list)

    @contextmanager
    def calling(self, *sop_classes: str, aet: str = "CT1", **how: Any) -> Iterator[Any]:
        ae = AE(ae_title=aet)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
        contexts = [build_context(uid) for uid in sop_classes]
        association = ae.associate("127.0.0.1", self.port, contexts=contexts, ae_title="TRIAGE", **how)
        assert association.is_established
        try:
            yield association
        finally:
            association.release()


@contextmanager
def open_door(database: Database, folder: Path, site: Site, clock: Clock) -> Iterator[Door]:
    door = Door(0)
    receiver = Receiver(
        ReceiverConfig(
            incoming=folder / "incoming", port=0, may_call=lambda _: True, limits=QUICK,
            others=other_services(database, Spool(folder / "spool"), site, clock, door.woken.extend, "http://here/dicom-web"),
        ),
        on_object=lambda _: 0, on_association_end=lambda *_: None, on_broken_disk=pytest.fail,
    )  # fmt: skip
    receiver.start()
    door.port = receiver.port
    try:
        yield door
    finally:
        receiver.stop(grace_seconds=1)


def listed(*uids: str, sop_class: str = "1.2.840.10008.5.1.4.1.1.2") -> Items:
    """Referenced SOPs of a sequence."""
    found = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        found.append(item)
    return Items(found)
