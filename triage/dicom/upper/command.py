"""DIMSE command sets of Verification and Storage: always Implicit VR Little Endian, group 0000 (PS3.7 6.3.1, 9.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from triage.dicom.upper.pdu import InvalidPdu

COMMAND_BYTES = 16_384  # standards 1.5
C_STORE_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0030, 0x0FFF
RESPONSE = 0x8000
NO_DATA_SET = 0x0101
UNRECOGNIZED_OPERATION = 0x0211

_HEAD = struct.Struct("<HHL")
_SOP_CLASS, _FIELD, _MESSAGE, _ANSWERED, _DATA_SET = 0x0002, 0x0100, 0x0110, 0x0120, 0x0800
_STATUS, _COMMENT, _SOP_INSTANCE = 0x0900, 0x0902, 0x1000


@dataclass(frozen=True)
class Command:
    """One request. `sop_class_uid` and `sop_instance_uid` are "" where the command has none."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


def read_command(data: bytes) -> Command:
    """raises InvalidPdu for what is no command set, or is a response that nobody asked for."""
    values = _elements(data)
    field = _number(values, _FIELD)
    if field & RESPONSE:
        raise InvalidPdu("a response to a request that we never sent")
    message_id = 0 if field == C_CANCEL_RQ else _number(values, _MESSAGE)
    return Command(
        field,
        message_id,
        _number(values, _DATA_SET) != NO_DATA_SET,
        _text(values, _SOP_CLASS),
        _text(values, _SOP_INSTANCE),
    )


def response_to(command: Command, status: int, comment: str = "") -> bytes:
    """The command set of the answer, without data set. comment: Error Comment (0000,0902), LO, cut to 64 characters."""
    elements = b""
    if command.sop_class_uid:
        elements += _element(_SOP_CLASS, command.sop_class_uid.encode())
    elements += _element(_FIELD, struct.pack("<H", command.field | RESPONSE))
    elements += _element(_ANSWERED, struct.pack("<H", command.message_id))
    elements += _element(_DATA_SET, struct.pack("<H", NO_DATA_SET))
    elements += _element(_STATUS, struct.pack("<H", status))
    if comment:
        text = comment.encode("ascii", "replace")[:64]
        elements += _element(_COMMENT, text + b" " * (len(text) % 2))
    if command.sop_instance_uid:
        elements += _element(_SOP_INSTANCE, command.sop_instance_uid.encode())
    return _element(0x0000, struct.pack("<L", len(elements))) + elements


def _elements(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise InvalidPdu("a command set that ends inside of an element")
        group, element, length = _HEAD.unpack_from(data, at)
        at += 8
        if group != 0 or at + length > len(data):
            raise InvalidPdu("a command set with an element that does not belong to it")
        found[element] = data[at : at + length]
        at += length
    return found


def _number(values: dict[int, bytes], element: int) -> int:
    value = values.get(element, b"")
    if len(value) != 2:
        raise InvalidPdu(f"a command set without its element (0000,{element:04X})")
    return int.from_bytes(value, "little")


def _text(values: dict[int, bytes], element: int) -> str:
    return values.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")[:64]


def _element(element: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return _HEAD.pack(0, element, len(value)) + value
