"""What we answer to an A-ASSOCIATE-RQ (PS3.8 7.1, PS3.7 D.3.3): one transfer syntax for each context, or why not."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from triage.dicom.upper.pdu import (
    APPLICATION_CONTEXT,
    AssociateRequest,
    ProposedContext,
    accept_pdu,
    item,
)

PERMANENT, TRANSIENT = 1, 2
# (result, source, reason) of an A-ASSOCIATE-RJ (PS3.8 9.3.4); overload is transient so that the sender comes again.
CONGESTION = (TRANSIENT, 3, 1)
LOCAL_LIMIT = (TRANSIENT, 3, 2)
APPLICATION_CONTEXT_UNKNOWN = (PERMANENT, 1, 2)
CALLING_AE_UNKNOWN = (PERMANENT, 1, 3)
CALLED_AE_UNKNOWN = (PERMANENT, 1, 7)
PROTOCOL_VERSION_UNKNOWN = (PERMANENT, 2, 2)

# Results of one presentation context (PS3.8 9.3.3.2).
ACCEPTED, USER_REJECTION, ABSTRACT_SYNTAX_UNKNOWN, TRANSFER_SYNTAXES_UNKNOWN = 0, 1, 3, 4

# Storage SCP of level 2 (full), signatures unspecified, no coercion of elements (PS3.4 B.3.1).
STORAGE_EXTENDED = bytes([2, 0, 0, 0, 0, 0])

# What we serve: SOP class to its transfer syntaxes, in the order of our preference.
Served = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class AcceptedContext:
    context_id: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True)
class Implementation:
    class_uid: str
    version_name: str
    maximum_length: int


@dataclass(frozen=True)
class Agreement:
    """The contexts that may be used, and the A-ASSOCIATE-AC that says so."""

    contexts: dict[int, AcceptedContext]
    answer: bytes


def refusal(request: AssociateRequest, ae_title: str) -> tuple[int, int, int] | None:
    """Why a request cannot be for us, or None."""
    if not request.protocol_version & 1:
        return PROTOCOL_VERSION_UNKNOWN
    if request.application_context != APPLICATION_CONTEXT:
        return APPLICATION_CONTEXT_UNKNOWN
    if request.called_ae_title != ae_title:
        return CALLED_AE_UNKNOWN
    return None


def agree(request: AssociateRequest, served: Served, implementation: Implementation) -> Agreement:
    """Judge each context by itself; an association in which none is accepted is still one (PS3.8 7.1.1.14)."""
    unwanted = {
        r.sop_class_uid for r in request.roles if not r.scu
    }  # it wants to be the SCP alone, and so do we
    accepted: dict[int, AcceptedContext] = {}
    answers = b""
    for context in request.contexts:
        result, syntax = _judge(context, served, unwanted)
        if result == ACCEPTED:
            accepted[context.context_id] = AcceptedContext(
                context.context_id, context.abstract_syntax, syntax
            )
        answers += item(0x21, bytes([context.context_id, 0, result, 0]) + item(0x40, syntax.encode("ascii")))
    information = _information(request, {c.abstract_syntax for c in accepted.values()}, implementation)
    return Agreement(accepted, accept_pdu(request.titles, answers, information))


def _judge(context: ProposedContext, served: Served, unwanted: set[str]) -> tuple[int, str]:
    first = context.transfer_syntaxes[0]  # not significant in a refusal, but some peers read it
    syntaxes = served.get(context.abstract_syntax)
    if syntaxes is None:
        return ABSTRACT_SYNTAX_UNKNOWN, first
    if context.abstract_syntax in unwanted:
        return USER_REJECTION, first
    for ours in syntaxes:
        if ours in context.transfer_syntaxes:
            return ACCEPTED, ours
    return TRANSFER_SYNTAXES_UNKNOWN, first


def _information(request: AssociateRequest, accepted: set[str], ours: Implementation) -> bytes:
    """User information (50H). A user identity gets no answer: we do not verify it (PS3.7 D.3.3.7.1)."""
    found = item(0x51, struct.pack(">L", ours.maximum_length)) + item(0x52, ours.class_uid.encode())
    if request.asynchronous_window is not None:
        found += item(0x53, struct.pack(">HH", 1, 1))  # one at a time
    for role in request.roles:
        if role.sop_class_uid in accepted:
            uid = role.sop_class_uid.encode()
            found += item(0x54, struct.pack(">H", len(uid)) + uid + bytes([int(role.scu), 0]))
    found += item(0x55, ours.version_name.encode())
    for sop_class_uid in request.extended:
        if sop_class_uid in accepted and sop_class_uid.startswith("1.2.840.10008.5.1.4.1.1."):
            uid = sop_class_uid.encode()
            found += item(0x56, struct.pack(">H", len(uid)) + uid + STORAGE_EXTENDED)
    return found
