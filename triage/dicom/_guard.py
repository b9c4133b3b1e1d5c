"""pynetdicom's acceptor with limits: what a peer declares is checked before anything is read, held or spawned.

The library reads a PDU of any length into memory, without a clock, in one of few slots that it gives away at connect
(assurance 1, measured). Here a connection waits in the `Lobby`, PDUs have a length and a deadline, and data sets go
to a file. Only `receive` uses this module; an upper layer of our own will take its place behind `Receiver`.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pynetdicom import AE, _config, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AddressInformation, AssociationServer, AssociationSocket

from triage.dicom.incoming import IncomingFile, part10_preamble
from triage.dicom.lobby import Lobby
from triage.log import get_logger

COMMAND_BYTES = 16_384  # standards 1.5
SPARE_ASSOCIATIONS = 30  # being negotiated, rejected or ended beside those that are established
_COME_AGAIN = b"\x03\x00\x00\x00\x00\x04\x00\x02\x03\x02"  # A-ASSOCIATE-RJ: transient, local limit exceeded
UNANSWERED_OBJECTS = 8  # we negotiate no asynchronous window; who sends on without answers is cut off

_config.LOG_HANDLER_LEVEL = "none"  # its lines cost time and carry names
_config.ENFORCE_UID_CONFORMANCE = True
logging.getLogger("pynetdicom").addHandler(logging.NullHandler())
logging.getLogger("pynetdicom").propagate = False

log = get_logger()


@dataclass(frozen=True, kw_only=True)
class ReceiverLimits:
    """standards 1.4 and 1.5, assurance 6.1."""

    associations: int = 20
    associations_per_address: int = 10
    waiting: int = 512
    waiting_per_address: int = 256
    request_bytes: int = 65_536
    request_seconds: float = 10.0
    pdu_bytes: int = 131_072
    pdu_seconds: float = 60.0
    idle_seconds: float = 60.0
    association_seconds: float = 3_600.0
    object_bytes: int = 2 << 30
    reserve_bytes: int = 64 << 20


class GuardedServer(AssociationServer):
    """Accepts, lets connections wait in the lobby, and starts an association for each whole request.

    on_open(association, address), on_end(association): the life of one association's thread
    """

    request_queue_size = 128

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int],
        *,
        limits: ReceiverLimits,
        share_port: bool,
        new_path: Callable[[], Path],
        on_open: Callable[[Association, str], None],
        on_end: Callable[[Association], None],
        handlers: list[Any],
    ) -> None:
        self.limits = limits
        self._share_port = share_port
        self._new_path = new_path
        self._on_open = on_open
        self._on_end = on_end
        super().__init__(ae, address, ae.ae_title, ae.supported_contexts, evt_handlers=handlers)
        self._lobby = Lobby(
            self._admit,
            request_bytes=limits.request_bytes,
            request_seconds=limits.request_seconds,
            places=limits.waiting,
            places_per_address=limits.waiting_per_address,
        )

    def server_bind(self) -> None:
        assert self.socket is not None
        if self._share_port:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._lobby.enter(request, client_address)

    def close(self) -> None:
        """Stop listening and turn away who still waits; running associations go on."""
        super(AssociationServer, self).shutdown()
        self.server_close()
        self._lobby.close()

    def _admit(self, connection: socket.socket, address: Any) -> None:
        if len(self.active_associations) >= self.limits.associations + SPARE_ASSOCIATIONS:
            connection.settimeout(1.0)
            connection.sendall(_COME_AGAIN)
            connection.close()
            return
        association = _GuardedAssociation(self.ae, self._on_end)
        association._server = self  # it closes the socket through its server
        association.name = f"AcceptorThread@{address[0]}:{address[1]}"
        association.set_socket(_GuardedSocket(association, connection, self.limits))
        association.dimse = SpoolingDimse(association, self.limits, self._new_path)
        acceptor = association.acceptor
        acceptor.maximum_length = self.ae.maximum_pdu_size
        acceptor.ae_title = self.ae_title
        acceptor.address_info = AddressInformation.from_tuple(self.server_address)
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        acceptor.supported_contexts = list(self.contexts)  # negotiation only reads them
        association.requestor.address_info = AddressInformation.from_tuple(address)
        for event, bound in self._handlers.items():
            if isinstance(event, evt.NotificationEvent):
                for handler, arguments in cast("list[Any]", bound):
                    association.bind(event, handler, arguments)
            else:
                association.bind(event, *bound)
        self._on_open(association, str(address[0]))
        association.start()


class _GuardedAssociation(Association):
    """Says when its thread is over, however that came."""

    def __init__(self, ae: AE, on_end: Callable[[Association], None]) -> None:
        self._on_end = on_end
        super().__init__(ae, MODE_ACCEPTOR)
        self.dul = _GuardedDul(self)
        self.acse_timeout, self.network_timeout = (
            ae.acse_timeout,
            ae.network_timeout,
        )  # also the new one's timers

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        except Exception as e:  # noqa: BLE001 (the association's door: a peer's nonsense ends here)
            log.warning("association.broken", error=type(e).__name__)
            self.is_established = False
            self.dul.kill_dul()
            if self.dul.socket is not None:
                self.dul.socket.close()
        finally:
            self._on_end(self)


class _GuardedDul(DULServiceProvider):
    """Ends its association when the state machine meets what its table does not have, instead of leaving it alone."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as e:  # noqa: BLE001 (the association's door: a peer's nonsense ends here)
            log.warning("association.broken", error=type(e).__name__)
            self.assoc.is_aborted, self.assoc.is_established = True, False
            self.assoc._kill = True
            if self.socket is not None:
                self.socket.close()


class _GuardedSocket(AssociationSocket):
    """Reads a PDU within its length and time, or closes: one peer's lie costs one association."""

    def __init__(self, association: Association, connection: socket.socket, limits: ReceiverLimits) -> None:
        super().__init__(association, client_socket=connection)
        self._limits = limits
        self._born = time.monotonic()

    def recv(self, nr_bytes: int) -> bytearray:
        limits = self._limits
        longest = max(limits.pdu_bytes, limits.request_bytes)  # the lobby has measured the request
        if nr_bytes > longest:
            raise OSError(f"PDU of {nr_bytes} bytes, at most {longest}")
        deadline = min(time.monotonic() + limits.pdu_seconds, self._born + limits.association_seconds)
        buffer = bytearray(nr_bytes)
        have = 0
        assert self.socket is not None
        with memoryview(buffer) as view:
            while have < nr_bytes:
                self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
                count = self.socket.recv_into(view[have:])
                if not count:
                    break
                have += count
        del buffer[have:]
        return buffer

    def send(self, bytestream: bytes) -> None:
        if self.socket is not None:
            self.socket.settimeout(self._limits.pdu_seconds)
        super().send(bytestream)


class SpoolingDimse(DIMSEServiceProvider):
    """Puts an `IncomingFile` where a message's data set would pile up in memory."""

    def __init__(
        self, association: Association, limits: ReceiverLimits, new_path: Callable[[], Path]
    ) -> None:
        super().__init__(association)
        self._limits = limits
        self._new_path = new_path
        self._files: set[IncomingFile] = set()

    def receive_primitive(self, primitive: Any) -> None:
        """raises ValueError for what no honest peer sends; pynetdicom then aborts the association."""
        if self.message is None:
            if len(self._files) >= UNANSWERED_OBJECTS:
                raise ValueError(f"more than {UNANSWERED_OBJECTS} objects without waiting for an answer")
            self.message = DIMSEMessage()
            self.message.data_set = self._new_file(self.message)
        arriving = sum(len(data) for _, data in primitive.presentation_data_value_list if data[0] & 1)
        if self.message.encoded_command_set.tell() + arriving > COMMAND_BYTES:
            raise ValueError(f"a command set of more than {COMMAND_BYTES} bytes")
        super().receive_primitive(primitive)

    def answered(self, file: IncomingFile) -> None:
        self._files.discard(file)

    def discard_files(self) -> None:
        """What was begun and never answered: nobody was told that we have it."""
        for file in self._files:
            file.discard()

    def _new_file(self, message: DIMSEMessage) -> IncomingFile:
        def preamble() -> bytes:
            if not isinstance(message, C_STORE_RQ):
                raise ValueError("a data set without a C-STORE command before it")
            context = self.assoc._accepted_cx[message.context_id or 0]
            command = message.command_set
            self._files.add(file)
            return part10_preamble(
                str(command.AffectedSOPClassUID),
                str(command.AffectedSOPInstanceUID),
                str(context.transfer_syntax[0]),
            )

        file = IncomingFile(
            self._new_path(),
            preamble,
            object_bytes=self._limits.object_bytes,
            reserve_bytes=self._limits.reserve_bytes,
        )
        return file
