"""One accepted connection from its request to its end: the state table's actions, and DIMSE for echo and store."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from triage.dicom.upper import pdu
from triage.dicom.upper.command import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_STORE_RQ,
    COMMAND_BYTES,
    UNRECOGNIZED_OPERATION,
    Command,
    read_command,
    response_to,
)
from triage.dicom.upper.negotiation import AcceptedContext, Agreement
from triage.dicom.upper.pdu import AssociateRequest, InvalidPdu
from triage.dicom.upper.states import Action, Event, Machine, State
from triage.dicom.upper.stream import Control, Deadlines, PduStream, PeerGone, Piece, TooSlow

SUCCESS = 0x0000
MISTYPED_ARGUMENT = 0x0212  # a C-STORE without data set

_EVENT_OF = {
    pdu.ASSOCIATE_RQ: Event.EVT6,
    pdu.ASSOCIATE_AC: Event.EVT3,
    pdu.ASSOCIATE_RJ: Event.EVT4,
    pdu.RELEASE_RQ: Event.EVT12,
    pdu.RELEASE_RP: Event.EVT13,
    pdu.ABORT: Event.EVT16,
}


class End(StrEnum):
    REJECTED = "rejected"
    RELEASED = "released"
    ABORTED = "aborted"  # by either side, or the connection was lost


class Sink(Protocol):
    """Takes the bytes of one data set."""

    def write(self, data: memoryview) -> None: ...
    def discard(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Provider:
    """What the association asks of whoever serves it.

    judge    (result, source, reason) to reject with, or the agreement to accept by
    begin    a sink for the data set of this C-STORE; must not raise
    store    status and comment once the data set is whole; must not raise
    """

    judge: Callable[[AssociateRequest], tuple[int, int, int] | Agreement]
    begin: Callable[[AcceptedContext, Command], Sink]
    store: Callable[[Sink], tuple[int, str]]
    is_storage: Callable[[str], bool]
    pdu_bytes: int
    deadlines: Deadlines
    stopping: Callable[[], bool]


class Association:
    """Serves one connection; `connection` stays open at the end, unless the peer closed it (Sta13 is the caller's)."""

    def __init__(self, connection: socket.socket, machine: Machine, provider: Provider) -> None:
        self._provider = provider
        self._machine = machine
        self._stream = PduStream(
            connection,
            pdu_bytes=provider.pdu_bytes,
            deadlines=provider.deadlines,
            stopping=provider.stopping,
        )
        self._contexts: dict[int, AcceptedContext] = {}
        self._peer_takes = 0
        self._command_bytes = bytearray()
        self._context: AcceptedContext | None = None  # of the message being received
        self._command: Command | None = None  # its command, when a data set is to follow
        self._sink: Sink | None = None  # None with a command: the data set is read and forgotten
        self._released = False

    def serve(self, request: AssociateRequest) -> End:
        """Until Sta13 or Sta1."""
        try:
            self._machine.on(Event.EVT6)
            if not self._answer(request):
                return End.REJECTED
            while self._machine.state is State.STA6:
                arrived = self._stream.next()
                if isinstance(arrived, Piece):
                    self._machine.on(Event.EVT10)
                    self._take(arrived)
                else:
                    self._control(arrived)
        except InvalidPdu as e:
            self._end(self._machine.on(Event.EVT19), e.reason)
        except TooSlow:
            self._end(self._machine.on(Event.EVT15))
        except PeerGone:
            self._machine.on(Event.EVT17)
        finally:
            if self._sink is not None:
                self._sink.discard()
        return End.RELEASED if self._released else End.ABORTED

    def _answer(self, request: AssociateRequest) -> bool:
        judged = self._provider.judge(request)
        if not isinstance(judged, Agreement):
            self._machine.on(Event.EVT8)
            self._stream.send(pdu.reject_pdu(*judged))
            return False
        self._contexts = judged.contexts
        self._peer_takes = request.maximum_length
        self._machine.on(Event.EVT7)
        self._stream.send(judged.answer)
        return True

    def _control(self, arrived: Control) -> None:
        action = self._machine.on(_EVENT_OF[arrived.kind])
        if action is Action.AR2:
            self._machine.on(Event.EVT14)
            self._released = True
            self._stream.send(pdu.RELEASE_RP_PDU)
        else:
            self._end(action, pdu.UNEXPECTED_PDU)

    def _end(self, action: Action, reason: int = 0) -> None:
        """The last PDU, when there is one to send; a peer that does not take it loses nothing."""
        try:
            if action is Action.AA8:
                self._stream.send(pdu.abort_pdu(2, reason))
            elif action is Action.AA1:
                self._stream.send(pdu.abort_pdu(0, 0))
        except PeerGone:
            pass

    def _take(self, piece: Piece) -> None:
        if piece.is_command:
            self._take_command(piece)
            return
        command, context = self._command, self._context
        if command is None or context is None or piece.context_id != context.context_id:
            raise InvalidPdu("a data set without its command", pdu.UNEXPECTED_PDU)
        if self._sink is not None:
            self._sink.write(piece.data)
        if piece.last:
            sink, self._sink, self._command, self._context = self._sink, None, None, None
            if sink is not None:
                self._respond(context, command, *self._provider.store(sink))
            elif command.field != C_CANCEL_RQ:
                self._respond(context, command, _status_without_storing(command))

    def _take_command(self, piece: Piece) -> None:
        if self._command is not None:
            raise InvalidPdu("a command where the data set should go on", pdu.UNEXPECTED_PDU)
        context = self._contexts.get(piece.context_id)
        if context is None or (self._command_bytes and context is not self._context):
            raise InvalidPdu("a presentation context that was not accepted")
        if len(self._command_bytes) + len(piece.data) > COMMAND_BYTES:
            raise InvalidPdu(f"a command set of more than {COMMAND_BYTES} bytes")
        self._context = context
        self._command_bytes += piece.data
        if piece.last:
            command = read_command(bytes(self._command_bytes))
            self._command_bytes.clear()
            self._begin(context, command)

    def _begin(self, context: AcceptedContext, command: Command) -> None:
        storing = command.field == C_STORE_RQ and self._provider.is_storage(context.abstract_syntax)
        if command.has_data_set:
            self._command = command
            if storing:
                self._sink = self._provider.begin(context, command)
            return
        self._context = None
        if command.field != C_CANCEL_RQ:  # it has no answer (PS3.7 9.3.2.3)
            self._respond(
                context, command, MISTYPED_ARGUMENT if storing else _status_without_storing(command)
            )

    def _respond(self, context: AcceptedContext, command: Command, status: int, comment: str = "") -> None:
        self._machine.on(Event.EVT9)
        answer = response_to(command, status, "" if status == SUCCESS else comment)
        self._stream.send(pdu.data_pdus(context.context_id, answer, self._peer_takes))


def _status_without_storing(command: Command) -> int:
    return SUCCESS if command.field == C_ECHO_RQ else UNRECOGNIZED_OPERATION
