"""Other services than echo and store: pynetdicom behind our door, on the same port, in the same places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from tests.dicom import wire
from tests.dicom.hospital import QUICK, eventually
from triage.dicom.handover import OtherServices
from triage.dicom.receive import Receiver
from triage.dicom.receiver_config import Caller, ReceiverConfig

INSTANCE = "1.2.840.10008.1.20.1.1"


class Commitment:
    """A storage commitment SCP of a few lines."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def action(self, event: Any) -> tuple[int, None]:
        self.asked.append(str(event.action_information.TransactionUID))
        return 0x0000, None


@pytest.fixture
def commitment() -> Commitment:
    return Commitment()


@pytest.fixture
def receiver(tmp_path: Path, commitment: Commitment) -> Iterator[Receiver]:
    config = ReceiverConfig(
        incoming=tmp_path / "incoming",
        port=0,
        may_call=lambda caller: caller.ae_title != "STRANGER",
        limits=replace(QUICK, associations=2),
        others=OtherServices(
            sop_classes={StorageCommitmentPushModel: (wire.EXPLICIT,)},
            handlers=((evt.EVT_N_ACTION, commitment.action),),
        ),
    )
    made = Receiver(
        config, on_object=lambda _: 0, on_association_end=lambda *_: None, on_broken_disk=pytest.fail
    )
    made.start()
    yield made
    made.stop(grace_seconds=1)


def associate(receiver: Receiver, *sop_classes: str, calling: str = "MODALITY") -> Any:
    ae = AE(ae_title=calling)
    contexts = [build_context(uid, wire.EXPLICIT) for uid in sop_classes]
    return ae.associate("127.0.0.1", receiver.port, contexts=contexts, ae_title="TRIAGE")


def test_another_service_is_served_on_the_same_port(receiver: Receiver, commitment: Commitment) -> None:
    association = associate(receiver, StorageCommitmentPushModel, wire.VERIFICATION)
    assert association.is_established
    assert association.send_c_echo().Status == 0
    request = Dataset()
    request.TransactionUID = "1.2.3"
    status, _ = association.send_n_action(request, 1, StorageCommitmentPushModel, INSTANCE)
    assert status.Status == 0
    assert commitment.asked == ["1.2.3"]
    association.release()
    eventually(lambda: not receiver._sessions)


def test_the_door_and_its_places_are_the_same(receiver: Receiver) -> None:
    assert associate(receiver, StorageCommitmentPushModel, calling="STRANGER").is_rejected
    first, second = (associate(receiver, StorageCommitmentPushModel) for _ in range(2))
    assert first.is_established and second.is_established
    assert associate(receiver, wire.DX).is_rejected  # both places are taken
    first.abort()
    second.release()
    eventually(lambda: not receiver._sessions)
    third = associate(receiver, wire.DX)
    assert third.is_established
    third.release()


def test_who_stores_as_well_stores_with_us(receiver: Receiver) -> None:
    association = associate(receiver, wire.DX, StorageCommitmentPushModel)
    assert [c.abstract_syntax for c in association.accepted_contexts] == [wire.DX]
    assert [c.result for c in association.rejected_contexts] == [3]
    association.release()


def test_places_count_over_receivers_of_one_spool(tmp_path: Path, receiver: Receiver) -> None:
    def let_in(_: Caller) -> bool:
        return True

    config = replace(receiver.config, may_call=let_in, port=0)
    sibling = Receiver(
        config, on_object=lambda _: 0, on_association_end=lambda *_: None, on_broken_disk=pytest.fail
    )
    sibling.start()
    held = [wire.associated(receiver.port), wire.associated(sibling.port)]
    for one in (receiver, sibling):
        with wire.connect(one.port) as third:
            third.sendall(wire.associate_rq())
            assert wire.read_pdu(third) == (3, bytes([0, 2, 3, 2]))
    for peer in held:
        peer.close()
    eventually(lambda: not receiver._sessions and not sibling._sessions)
    wire.associated(sibling.port).close()
    sibling.stop(grace_seconds=1)
