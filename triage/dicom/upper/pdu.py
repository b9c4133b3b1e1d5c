"""Protocol data units as bytes and values (PS3.8 9.3, PS3.7 D.3.3). No socket, no state; every length is checked."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from triage.domain.errors import Refused

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
HEAD = struct.Struct(">BxL")
PDV_HEAD = struct.Struct(">LBB")
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
CONTEXTS_MAX, TRANSFER_SYNTAXES_MAX = 128, 64  # standards 1.5

# Reasons of a provider's abort (PS3.8 9.3.8).
UNRECOGNIZED_PDU, UNEXPECTED_PDU, INVALID_VALUE = 1, 2, 6

RELEASE_RP_PDU = HEAD.pack(RELEASE_RP, 4) + b"\0\0\0\0"

_UID = re.compile(r"[0-9.]{1,64}\Z")
_ITEM = struct.Struct(">BxH")
_FIXED = 68  # protocol version, AE titles and reserved bytes before the items


class InvalidPdu(Refused):
    """Bytes that no honest peer sends; `reason` goes into the A-ABORT."""

    def __init__(self, message: str, reason: int = INVALID_VALUE) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ProposedContext:
    """Presentation context of a request (item 20H), with the first transfer syntaxes of those proposed."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class RoleSelection:
    """Item 54H: which roles the requestor wants for one SOP class (PS3.7 D.3.3.4)."""

    sop_class_uid: str
    scu: bool
    scp: bool


@dataclass(frozen=True)
class UserIdentity:
    """Item 58H; the fields themselves are secrets and are not kept (PS3.7 D.3.3.7)."""

    kind: int
    response_requested: bool


@dataclass(frozen=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ.

    titles  the 64 bytes that the answer has to repeat (called, calling, reserved: PS3.8 9.3.3)
    maximum_length  longest P-DATA-TF variable field that the peer takes, 0 without limit
    """

    protocol_version: int
    called_ae_title: str
    calling_ae_title: str
    titles: bytes
    application_context: str
    contexts: tuple[ProposedContext, ...]
    maximum_length: int = 0
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    asynchronous_window: tuple[int, int] | None = None
    roles: tuple[RoleSelection, ...] = ()
    extended: dict[str, bytes] = field(default_factory=dict)
    identity: UserIdentity | None = None


def read_associate_request(body: bytes) -> AssociateRequest:
    """The request from the bytes after its PDU head. raises InvalidPdu; unknown items are passed over (9.3.1)."""
    if len(body) < _FIXED:
        raise InvalidPdu("an A-ASSOCIATE-RQ of less than 68 bytes")
    application_context = ""
    contexts: dict[int, ProposedContext] = {}
    information: bytes | None = None
    for kind, value in _items(body, _FIXED):
        if kind == 0x10 and not application_context:
            application_context = _uid(value)
        elif kind == 0x20:
            context = _context(value)
            if context.context_id in contexts:
                raise InvalidPdu("two presentation contexts have one id")
            if len(contexts) < CONTEXTS_MAX:
                contexts[context.context_id] = context
        elif kind == 0x50 and information is None:
            information = value
    if not contexts:
        raise InvalidPdu("an A-ASSOCIATE-RQ without presentation contexts")
    return AssociateRequest(
        protocol_version=struct.unpack_from(">H", body)[0],
        called_ae_title=_ae_title(body[4:20]),
        calling_ae_title=_ae_title(body[20:36]),
        titles=body[4:68],
        application_context=application_context,
        contexts=tuple(contexts.values()),
        **_user_information(information or b""),
    )


def _user_information(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    roles: dict[str, RoleSelection] = {}
    extended: dict[str, bytes] = {}
    for kind, value in _items(body, 0):
        if kind == 0x51:
            found["maximum_length"] = _unpack(">L", value)[0]
        elif kind == 0x52:
            found["implementation_class_uid"] = _uid(value)
        elif kind == 0x53:
            found["asynchronous_window"] = _unpack(">HH", value)
        elif kind == 0x54:
            uid, rest = _counted_uid(value)
            scu, scp = _unpack(">BB", rest)
            roles[uid] = RoleSelection(uid, bool(scu), bool(scp))
        elif kind == 0x55:
            found["implementation_version_name"] = value[:16].decode("ascii", "replace")
        elif kind == 0x56:
            uid, information = _counted_uid(value)
            extended[uid] = information
        elif kind == 0x58:
            found["identity"] = _identity(value)
        # 57H (common extended negotiation) has no answer: it helps an SCP that does not know a class (PS3.7 D.3.3.6).
    return {**found, "roles": tuple(roles.values()), "extended": extended}


def _context(value: bytes) -> ProposedContext:
    if len(value) < 4 or value[0] % 2 == 0:
        raise InvalidPdu("a presentation context without an odd id")
    abstract = ""
    syntaxes: list[str] = []
    for kind, inner in _items(value, 4):
        if kind == 0x30:
            if abstract:
                raise InvalidPdu("a presentation context with two abstract syntaxes")
            abstract = _uid(inner)
        elif kind == 0x40 and len(syntaxes) < TRANSFER_SYNTAXES_MAX:
            syntaxes.append(_uid(inner))
    if not abstract or not syntaxes:
        raise InvalidPdu("a presentation context without abstract or transfer syntax")
    return ProposedContext(value[0], abstract, tuple(syntaxes))


def _identity(value: bytes) -> UserIdentity:
    if len(value) < 6:
        raise InvalidPdu("a user identity that is cut short")
    kind, wants_answer, primary = struct.unpack_from(">BBH", value)
    secondary_at = 4 + primary
    if secondary_at + 2 > len(value) or secondary_at + 2 + _unpack_at(">H", value, secondary_at) != len(
        value
    ):
        raise InvalidPdu("the fields of a user identity do not fill it")
    return UserIdentity(kind, wants_answer == 1)


def _items(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at < len(body):
        if at + 4 > len(body):
            raise InvalidPdu("trailing bytes after the last item")
        kind, length = _ITEM.unpack_from(body, at)
        at += 4
        if at + length > len(body):
            raise InvalidPdu("an item reaches beyond the end of what holds it")
        yield kind, body[at : at + length]
        at += length


def _counted_uid(value: bytes) -> tuple[str, bytes]:
    if len(value) < 2 or (length := _unpack_at(">H", value, 0)) > len(value) - 2:
        raise InvalidPdu("a SOP class UID that is cut short")
    return _uid(value[2 : 2 + length]), value[2 + length :]


def _uid(value: bytes) -> str:
    text = value.rstrip(b"\0 ").decode(
        "ascii", "replace"
    )  # some pad to even length, which PDUs do not ask for
    if not _UID.match(text):
        raise InvalidPdu("something that is no UID stands where a UID belongs")
    return text


def _ae_title(value: bytes) -> str:
    title = value.decode("ascii", "replace").rstrip("\0").strip()
    if not title or not title.isascii() or not title.isprintable() or "\\" in title:
        raise InvalidPdu("an AE title is empty or has forbidden characters (PS3.5 6.2)")
    return title


def _unpack(layout: str, value: bytes) -> tuple[int, ...]:
    try:
        return struct.unpack(layout, value)
    except struct.error as e:
        raise InvalidPdu("an item of the wrong length") from e


def _unpack_at(layout: str, value: bytes, at: int) -> int:
    return int(struct.unpack_from(layout, value, at)[0])


def item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def accept_pdu(titles: bytes, contexts: bytes, information: bytes) -> bytes:
    """A-ASSOCIATE-AC of encoded context items (21H) and user information sub-items."""
    body = struct.pack(">HH", 1, 0) + titles + item(0x10, APPLICATION_CONTEXT.encode())
    body += contexts + item(0x50, information)
    return HEAD.pack(ASSOCIATE_AC, len(body)) + body


def reject_pdu(result: int, source: int, reason: int) -> bytes:
    return HEAD.pack(ASSOCIATE_RJ, 4) + bytes([0, result, source, reason])


def abort_pdu(source: int, reason: int) -> bytes:
    return HEAD.pack(ABORT, 4) + bytes([0, 0, source, reason])


def data_pdus(context_id: int, command: bytes, maximum_length: int) -> bytes:
    """One command set as P-DATA-TF PDUs that the peer can take, in one piece for one write."""
    room = max(maximum_length - 6, 256) if maximum_length else len(command)
    pieces = []
    for at in range(0, len(command), room):
        piece = command[at : at + room]
        last = 2 if at + room >= len(command) else 0
        pieces.append(HEAD.pack(P_DATA_TF, len(piece) + 6))
        pieces.append(PDV_HEAD.pack(len(piece) + 2, context_id, 1 | last) + piece)
    return b"".join(pieces)
