"""Associations that ask for other services than ours go to pynetdicom, behind the same door and limits.

pynetdicom gives every connection two threads and reads any length that a peer declares (assurance 1). Here it gets a
connection whose request is whole and judged, and a socket that reads within length and time.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AddressInformation, AssociationSocket

from triage.dicom import services
from triage.dicom.reactor import close_gap
from triage.dicom.upper.pdu import ASSOCIATE_RQ, HEAD, AssociateRequest
from triage.log import get_logger

_config.LOG_HANDLER_LEVEL = "none"  # its lines cost time and carry names
_config.ENFORCE_UID_CONFORMANCE = True
logging.getLogger("pynetdicom").addHandler(logging.NullHandler())
logging.getLogger("pynetdicom").propagate = False

PDU_BYTES = 131_072
ASSOCIATION_BYTES = 64 << 20  # of all messages that a peer sends: pynetdicom holds a message whole in memory
# For what we tell on an association that the peer opened: whoever is silent holds up no other.
ANSWER_SECONDS = 10.0
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")  # no deflated one: a megabyte of it can be gigabytes
log = get_logger()


@dataclass(frozen=True, kw_only=True)
class OtherServices:
    """SOP classes that pynetdicom answers for us, as SCP, and its handlers.

    sop_classes  UID to transfer syntaxes; handlers  (event, function[, arguments]) as `AE.start_server` takes them
    both_ways    of these the peer may be the SCP, by role selection (PS3.7 D.3.3.4)
    """

    sop_classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    handlers: tuple[Any, ...] = ()
    both_ways: frozenset[str] = frozenset()

    def wanted_by(self, request: AssociateRequest) -> bool:
        """It asks for one of these and stores nothing: then the whole association is pynetdicom's."""
        proposed = {c.abstract_syntax for c in request.contexts}
        return bool(proposed & self.sop_classes.keys()) and not proposed & set(services.STORAGE_CLASSES)


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service of others: its SOP classes, and who answers each kind of message in their contexts."""

    sop_classes: tuple[str, ...]
    answers: Mapping[evt.EventType, Callable[[evt.Event], Any]]
    both_ways: bool = False


def serving(*services_: Service) -> OtherServices:
    """Several services behind one handler for each kind of message: the context says whose it is."""
    by_event: dict[evt.EventType, dict[str, Callable[[evt.Event], Any]]] = {}
    for one in services_:
        for kind, act in one.answers.items():
            by_event.setdefault(kind, {}).update(dict.fromkeys(one.sop_classes, act))
    return OtherServices(
        sop_classes={uid: SYNTAXES for one in services_ for uid in one.sop_classes},
        handlers=tuple((kind, _by_context(answers)) for kind, answers in by_event.items()),
        both_ways=frozenset(uid for one in services_ if one.both_ways for uid in one.sop_classes),
    )


def _by_context(answers: Mapping[str, Callable[[evt.Event], Any]]) -> Callable[[evt.Event], Any]:
    def act(event: evt.Event) -> Any:
        return answers[str(event.context.abstract_syntax)](event)

    return act


@dataclass(frozen=True, kw_only=True)
class Handover:
    """One connection on its way to pynetdicom. on_end is called once, from its thread, when all is over."""

    connection: socket.socket
    address: tuple[str, int]
    request_body: bytes
    ae_title: str
    idle_seconds: float
    pdu_seconds: float
    association_seconds: float
    on_end: Callable[[], None]


def hand_over(given: Handover, others: OtherServices) -> Association:
    """Start pynetdicom's threads on this connection; `abort` and `join` of what is returned end them."""
    ae = AE(ae_title=given.ae_title)
    ae.maximum_pdu_size = PDU_BYTES
    ae.acse_timeout, ae.dimse_timeout, ae.network_timeout = 2, ANSWER_SECONDS, given.idle_seconds
    ae.implementation_class_uid = services.IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = services.IMPLEMENTATION_VERSION_NAME
    ae.add_supported_context(services.VERIFICATION)
    for uid, syntaxes in others.sop_classes.items():
        both = uid in others.both_ways or None
        ae.add_supported_context(uid, list(syntaxes), scu_role=both, scp_role=both)
    association = _HandedAssociation(ae, given.on_end)
    association.name = f"AcceptorThread@{given.address[0]}:{given.address[1]}"
    association.set_socket(_HandedSocket(association, given))
    acceptor = association.acceptor
    acceptor.maximum_length = PDU_BYTES
    acceptor.ae_title = given.ae_title
    acceptor.address_info = AddressInformation.from_tuple(given.connection.getsockname()[:2])
    acceptor.implementation_class_uid = ae.implementation_class_uid
    acceptor.implementation_version_name = ae.implementation_version_name
    acceptor.supported_contexts = ae.supported_contexts
    association.requestor.address_info = AddressInformation.from_tuple(given.address)
    association.bind(evt.EVT_C_ECHO, lambda _: 0x0000)
    for handler in others.handlers:
        association.bind(*handler)
    close_gap(association)
    association.start()
    return association


class _HandedAssociation(Association):
    """Says when its thread is over, however that came."""

    def __init__(self, ae: AE, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        super().__init__(ae, MODE_ACCEPTOR)
        self.dul = _HandedDul(self)
        self.acse_timeout, self.network_timeout = (
            ae.acse_timeout,
            ae.network_timeout,
        )  # the new one's timers too

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
            self._on_end()


class _HandedDul(DULServiceProvider):
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


class _HandedSocket(AssociationSocket):
    """Gives the request that was read already, then reads each PDU within its length and time, or closes."""

    def __init__(self, association: Association, given: Handover) -> None:
        super().__init__(association, client_socket=given.connection)
        self._given = given
        self._read_before = HEAD.pack(ASSOCIATE_RQ, len(given.request_body)) + given.request_body
        self._end = time.monotonic() + given.association_seconds
        self._bytes_left = ASSOCIATION_BYTES

    @property
    def ready(self) -> bool:
        return bool(self._read_before) or bool(super().ready)

    def recv(self, nr_bytes: int) -> bytearray:
        if self._read_before:
            taken, self._read_before = self._read_before[:nr_bytes], self._read_before[nr_bytes:]
            return bytearray(taken)
        if nr_bytes > PDU_BYTES:
            raise OSError(f"PDU of {nr_bytes} bytes, at most {PDU_BYTES}")
        self._bytes_left -= nr_bytes
        if self._bytes_left < 0:
            raise OSError(f"more than {ASSOCIATION_BYTES} bytes over one association")
        deadline = min(time.monotonic() + self._given.pdu_seconds, self._end)
        buffer = bytearray(nr_bytes)
        have = 0
        assert self.socket is not None
        with memoryview(buffer) as view:
            while have < nr_bytes:
                self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
                try:
                    count = self.socket.recv_into(view[have:])
                except ssl.SSLError as e:
                    raise OSError("TLS") from e
                if not count:
                    break
                have += count
        del buffer[have:]
        return buffer

    def send(self, bytestream: bytes) -> None:
        if self.socket is not None:
            self.socket.settimeout(self._given.pdu_seconds)
        super().send(bytestream)
