"""Requests and answers as bytes: what the standard allows is read, everything else is refused by name."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context

from tests.dicom import wire
from triage.dicom.services import SERVED
from triage.dicom.upper import pdu
from triage.dicom.upper.command import read_command, response_to
from triage.dicom.upper.negotiation import Implementation, agree, refusal
from triage.dicom.upper.pdu import InvalidPdu, read_associate_request

CT = "1.2.840.10008.5.1.4.1.1.2"
OURS = Implementation("2.25.1", "TRIAGE", 1 << 20)
BODY = wire.associate_rq()[6:]


def foreign_request() -> bytes:
    """A request with everything in it, encoded by pynetdicom."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "MODALITY", "TRIAGE"
    contexts = [
        build_context(CT, ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"]),
        build_context("1.2.840.10008.5.1.4.31", ["1.2.840.10008.1.2"]),
        build_context(wire.DX, ["1.2.840.10008.1.2.4.100"]),
        build_context(wire.VERIFICATION, ["1.2.840.10008.1.2"]),
    ]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 32_768, "1.2.3"
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 8, 8
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = CT, True, True
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = CT, b"\2\0\0\0\0\0"
    common = SOPClassCommonExtendedNegotiation()
    common.sop_class_uid, common.service_class_uid = CT, "1.2.840.10008.4.2"
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field, identity.secondary_field = 2, b"user", b"secret"
    identity.positive_response_requested = True
    primitive.user_information = [length, implementation, window, role, extended, common, identity]
    encoded = A_ASSOCIATE_RQ()
    encoded.from_primitive(primitive)
    return bytes(encoded.encode())[6:]


def test_a_request_with_everything_in_it_is_read() -> None:
    request = read_associate_request(foreign_request())
    assert (request.calling_ae_title, request.called_ae_title) == ("MODALITY", "TRIAGE")
    assert request.maximum_length == 32_768
    assert request.asynchronous_window == (8, 8)
    assert [(r.sop_class_uid, r.scu, r.scp) for r in request.roles] == [(CT, True, True)]
    assert request.extended == {CT: b"\2\0\0\0\0\0"}
    assert request.identity is not None and request.identity.response_requested
    assert "secret" not in repr(request)
    assert refusal(request, "TRIAGE") is None


def test_a_foreign_program_reads_our_answer_to_it() -> None:
    answer = A_ASSOCIATE_AC()
    agreement = agree(read_associate_request(foreign_request()), SERVED, OURS)
    answer.decode(agreement.answer)
    primitive = answer.to_primitive()
    results = [c.result for c in primitive.presentation_context_definition_results_list]
    assert results == [0, 3, 4, 0]  # accepted, abstract syntax unknown, transfer syntaxes unknown, accepted
    assert (
        agreement.contexts[1].transfer_syntax == "1.2.840.10008.1.2.1"
    )  # our preference, not the peer's order
    assert set(agreement.contexts) == {1, 7}
    assert primitive.maximum_length_received == 1 << 20
    by_type = {type(i).__name__: i for i in primitive.user_information}
    role = by_type["SCP_SCU_RoleSelectionNegotiation"]
    assert (role.scu_role, role.scp_role) == (True, False)
    window = by_type["AsynchronousOperationsWindowNegotiation"]
    assert window.maximum_number_operations_performed == 1
    assert by_type["SOPClassExtendedNegotiation"].service_class_application_information == b"\2\0\0\0\0\0"
    assert "UserIdentityNegotiation" not in by_type  # nobody was authenticated, so nobody is told so


def test_who_wants_to_be_the_scp_alone_is_refused_that_context() -> None:
    body = BODY[: BODY.index(b"\x50\0")]
    role = wire.item(0x54, struct.pack(">H", len(wire.DX)) + wire.DX.encode() + b"\0\1")
    body += wire.item(0x50, wire.item(0x51, struct.pack(">L", 0)) + role)
    assert set(agree(read_associate_request(body), SERVED, OURS).contexts) == {1}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda b: b"\0\2" + b[2:], (1, 2, 2)),
        (lambda b: b.replace(b"10008.3.1.1.1", b"10008.3.1.1.2"), (1, 1, 2)),
        (lambda b: b.replace(b"TRIAGE  ", b"ELSEWHER"), (1, 1, 7)),
    ],
    ids=["protocol version", "application context", "called AE title"],
)
def test_what_is_not_for_us_is_rejected_with_its_reason(change, expected) -> None:  # type: ignore[no-untyped-def]
    assert refusal(read_associate_request(change(BODY)), "TRIAGE") == expected


@pytest.mark.parametrize(
    "bad",
    [
        BODY[:67],
        BODY + b"\x10",
        BODY[:68],
        BODY.replace(b"\x20\0", b"\x21\0"),  # no presentation context
        BODY.replace(bytes([3, 0, 0, 0]) + b"\x30", bytes([4, 0, 0, 0]) + b"\x30"),  # even id
        BODY.replace(bytes([3, 0, 0, 0]) + b"\x30", bytes([1, 0, 0, 0]) + b"\x30"),  # the same id
        BODY.replace(b"1.2.840.10008.1.2.1", b"1.2.840.1000x.1.2.1"),
        BODY[:4] + b" " * 16 + BODY[20:],  # empty AE title
        BODY[:4] + b"TRI\\AGE         " + BODY[20:],
        BODY + wire.item(0x20, bytes([9, 0, 0, 0]) + wire.item(0x30, b"1.2")),  # no transfer syntax
    ],
)
def test_what_no_honest_peer_sends_is_invalid(bad: bytes) -> None:
    with pytest.raises(InvalidPdu):
        read_associate_request(bad)


@given(st.binary(max_size=400), st.integers(0, len(BODY)), st.integers(0, 40))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int, cut: int) -> None:
    for data in (noise, BODY[:68] + noise, BODY[:at] + noise + BODY[at + cut :]):
        try:
            request = read_associate_request(data)
        except InvalidPdu:
            continue
        assert agree(request, SERVED, OURS).answer[0] == pdu.ASSOCIATE_AC


@given(st.binary(max_size=200), st.integers(0, 100))
def test_any_command_set_is_read_or_refused(noise: bytes, at: int) -> None:
    sound = wire.c_store_rq(CT, "1.2.3")
    assert read_command(sound).sop_instance_uid == "1.2.3"
    for data in (noise, sound[:at] + noise, sound[:at] + noise + sound[at:]):
        try:
            command = read_command(data)
        except InvalidPdu:
            continue
        answer = response_to(command, 0xA700, "no room")
        assert wire.status_of(answer) == 0xA700


@given(st.binary(min_size=1, max_size=3000), st.sampled_from([0, 16, 128, 1000, 16_384]))
def test_an_answer_is_cut_to_what_the_peer_takes(data: bytes, maximum: int) -> None:
    found, rest = b"", pdu.data_pdus(3, data, maximum)
    while rest:
        kind, length = pdu.HEAD.unpack_from(rest)
        inner, context, control = pdu.PDV_HEAD.unpack_from(rest, 6)
        assert (kind, context, inner) == (4, 3, length - 4)
        assert not maximum or length <= max(maximum, 262)
        found += rest[12 : 6 + length]
        rest = rest[6 + length :]
        assert control == (1 if rest else 3)
    assert found == data
