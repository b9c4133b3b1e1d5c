"""What the fuzzer and the replay feed with any bytes: the PDU parser, the stream reader, and the header reader.

A finding is any exception that is not named here, or a read that does not end.
"""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable

from tests.dicom import wire
from triage.dicom.elements import read_part10
from triage.dicom.header_values import WANTED
from triage.dicom.services import SERVED
from triage.dicom.upper.association import Association, Provider
from triage.dicom.upper.command import read_command, response_to
from triage.dicom.upper.negotiation import Implementation, agree
from triage.dicom.upper.pdu import HEAD, InvalidPdu, read_associate_request
from triage.dicom.upper.states import Event, Machine, State
from triage.dicom.upper.stream import Deadlines
from triage.domain.errors import Refused

OURS = Implementation("2.25.1", "TRIAGE", 1 << 20)


def associate_request(data: bytes) -> None:
    try:
        request = read_associate_request(data)
    except InvalidPdu:
        return
    agreement = agree(request, SERVED, OURS)
    assert HEAD.unpack_from(agreement.answer)[1] == len(agreement.answer) - HEAD.size


def command_set(data: bytes) -> None:
    try:
        response_to(read_command(data), 0)
    except InvalidPdu:
        return


def header(data: bytes) -> None:
    try:
        read_part10(io.BytesIO(data), WANTED)
    except Refused:
        return


class _Sink:
    def write(self, data: memoryview) -> None:
        self.last = bytes(data[:1])

    def discard(self) -> None:
        pass


def association(data: bytes) -> None:
    """A whole connection after its request: the state machine ends in Sta1 or Sta13 whatever comes."""
    request = read_associate_request(wire.associate_rq()[HEAD.size :])
    ours, theirs = socket.socketpair()
    drained = threading.Thread(target=_drain, args=(theirs,), daemon=True)
    machine = Machine()
    machine.on(Event.EVT5)
    provider = Provider(
        judge=lambda r: agree(r, SERVED, OURS),
        begin=lambda _, __: _Sink(),
        store=lambda _: (0, ""),
        is_storage=lambda uid: uid.startswith("1.2.840.10008.5.1.4.1.1."),
        pdu_bytes=1 << 20,
        deadlines=Deadlines(1.0, 1.0, 2.0),
        stopping=lambda: False,
    )
    with ours, theirs:
        theirs.sendall(data[:60_000])  # what a socket pair holds without a reader
        theirs.shutdown(socket.SHUT_WR)
        drained.start()
        Association(_Quick(ours), machine, provider).serve(request)  # type: ignore[arg-type]
        assert machine.state in (State.STA1, State.STA13), machine.state
        ours.shutdown(socket.SHUT_WR)
        drained.join(timeout=5)


class _Quick:
    """A socket pair has no TCP options."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner

    def setsockopt(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


def _drain(peer: socket.socket) -> None:
    while peer.recv(65_536):
        pass


TARGETS: dict[str, Callable[[bytes], None]] = {
    "associate": associate_request,
    "command": command_set,
    "header": header,
    "association": association,
}
