"""Storage SCP: C-ECHO and C-STORE from modalities and PACS, durable before success (P1, P2, P16).

The upper layer is our own (`upper`): an object's bytes go from the socket to a file in the spool's `incoming` folder,
its header is read with limits, the file is flushed, and then the workflow's `on_object` makes it ours and says the
status. The data set is never decoded here. Associations for other services go to pynetdicom (`handover`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import uuid
from collections.abc import Callable
from functools import partial

from triage.dicom import services
from triage.dicom.folder import IncomingFolder, abandoned
from triage.dicom.handover import Handover, hand_over
from triage.dicom.receiver_config import Caller, ReceivedObject, ReceiverConfig
from triage.dicom.slots import Slots
from triage.dicom.storing import Session, Storing
from triage.dicom.tls import peer_certificate
from triage.dicom.upper import negotiation
from triage.dicom.upper.association import Association, End, Provider
from triage.dicom.upper.doorstep import Doorstep, DoorstepLimits, open_port
from triage.dicom.upper.negotiation import Agreement, Implementation
from triage.dicom.upper.pdu import (
    AssociateRequest,
    InvalidPdu,
    abort_pdu,
    read_associate_request,
    reject_pdu,
)
from triage.dicom.upper.states import Event, Machine
from triage.dicom.upper.stream import Deadlines
from triage.log import get_logger

SPARE_ASSOCIATIONS = 30  # threads that judge or reject a request beside those that are established
STOP_SECONDS = 5.0  # for aborted associations to end

_STORAGE = frozenset(services.STORAGE_CLASSES)

log = get_logger()


class Receiver:
    """The storage SCP of one process.

    on_object(ReceivedObject) -> DICOM status; raises Refused (C000), Unavailable or OSError (A700)
    on_association_end(association_id, aborted, series UIDs): once for each association that was accepted
    on_broken_disk(error): a flush failed. The object was refused; the process must end (exit code 3).
    """

    def __init__(
        self,
        config: ReceiverConfig,
        *,
        on_object: Callable[[ReceivedObject], int],
        on_association_end: Callable[[str, bool, list[str]], None],
        on_broken_disk: Callable[[OSError], None],
    ) -> None:
        self.config = config
        self._on_object = on_object
        self._on_association_end = on_association_end
        self._on_broken_disk = on_broken_disk
        self._sessions: dict[str, Session] = {}
        self._changed = threading.Condition()  # guards _sessions
        self._stopping = threading.Event()
        self._ports: list[int] = []

    @property
    def port(self) -> int:
        assert self._ports, "not started"
        return self._ports[0]

    @property
    def tls_port(self) -> int:
        assert len(self._ports) == 2, "not started, or no TLS listener"
        return self._ports[1]

    @property
    def associations(self) -> int:
        with self._changed:
            return sum(s.established for s in self._sessions.values())

    def start(self) -> None:
        """Listen. raises Unavailable when a port is taken."""
        config, limits = self.config, self.config.limits
        config.incoming.mkdir(parents=True, exist_ok=True)
        with abandoned(config.incoming) as left_behind:
            config.take_up(left_behind)
        self._slots = Slots(
            config.incoming.parent / "slots",
            total=limits.associations,
            per_address=limits.associations_per_address,
        )
        listeners = [open_port(config.host, config.port, share=config.share_port)]
        if config.tls is not None:
            listeners.append(
                open_port(config.tls_host or config.host, config.tls_port, share=config.share_port)
            )
        self._ports = [int(listener.getsockname()[1]) for listener in listeners]
        self._folder = IncomingFolder(config.incoming)
        self._storing = Storing(
            config, self._folder, on_object=self._on_object, on_broken_disk=self._on_broken_disk
        )
        self._doorstep = Doorstep(
            self._admit,
            DoorstepLimits(
                request_bytes=limits.request_bytes,
                request_seconds=limits.request_seconds,
                closing_seconds=limits.closing_seconds,
                places=limits.waiting,
                places_per_address=limits.waiting_per_address,
            ),
        )
        for listener, context in zip(listeners, (None, config.tls), strict=False):
            self._doorstep.listen(listener, context)
        self._doorstep.start()
        log.info("receiver.started", address=config.host, port=self.port)

    def stop(self, grace_seconds: float = 10.0) -> None:
        """No new associations; those running may end within the grace, the rest is aborted."""
        if not self._ports:
            return
        self._doorstep.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._sessions, timeout=grace_seconds)
            left = list(self._sessions.values())
        self._stopping.set()
        for session in left:
            session.abort()
        with self._changed:
            self._changed.wait_for(lambda: not self._sessions, timeout=STOP_SECONDS)
        self._folder.close()
        self._ports = []
        log.info("receiver.stopped", count=len(left))

    # Called by the doorstep's thread: quick, and nothing that waits.

    def _admit(self, connection: socket.socket, address: str, body: bytes, machine: Machine) -> None:
        try:
            request = read_associate_request(body)
        except InvalidPdu as e:
            machine.on(Event.EVT19)
            self._last_word(connection, address, machine, abort_pdu(2, e.reason))
            return
        caller = Caller(
            request.calling_ae_title,
            address,
            peer_certificate(connection),
            isinstance(connection, ssl.SSLSocket),
        )
        session = Session(uuid.uuid4().hex, caller, request.called_ae_title)
        with self._changed:
            crowded = len(self._sessions) >= self.config.limits.associations + SPARE_ASSOCIATIONS
            if not crowded:
                self._sessions[session.association_id] = session
        if crowded:
            machine.on(Event.EVT6)
            machine.on(Event.EVT8)
            self._last_word(connection, address, machine, reject_pdu(*negotiation.LOCAL_LIMIT))
            return
        try:
            threading.Thread(
                target=self._serve,
                args=(session, connection, request, body, machine),
                name="dicom-association",
                daemon=True,
            ).start()
        except RuntimeError:  # no thread left
            self._over(session, End.REJECTED)
            raise

    def _last_word(self, connection: socket.socket, address: str, machine: Machine, data: bytes) -> None:
        with contextlib.suppress(OSError):
            connection.send(data)
        self._doorstep.linger(connection, address, machine)

    # Called by the association's thread.

    def _serve(
        self,
        session: Session,
        connection: socket.socket,
        request: AssociateRequest,
        body: bytes,
        machine: Machine,
    ) -> None:
        end = End.ABORTED
        try:
            reason = self._reason_to_reject(session, request)
            if reason is None and self.config.others.wanted_by(request):
                self._hand_over(session, connection, body)
                return
            end = Association(connection, machine, self._provider(session, reason)).serve(request)
        except Exception as e:
            log.error("association.broken", association=session.association_id, error=type(e).__name__,
                      exc_info=e)  # fmt: skip
        self._over(session, end)
        self._doorstep.linger(connection, session.caller.address, machine)

    def _reason_to_reject(self, session: Session, request: AssociateRequest) -> tuple[int, int, int] | None:
        """The reason that makes a sender do the right thing (standards 1.2), or None to let it in."""
        caller = session.caller
        reason = negotiation.refusal(request, self.config.ae_title)
        try:
            if reason is None:
                slot = self._slots.take(caller.address)
                session.slot = -1 if slot is None else slot
                if slot is None:
                    reason = negotiation.LOCAL_LIMIT
                elif not self.config.may_call(caller):
                    reason = negotiation.CALLING_AE_UNKNOWN
        except Exception as e:  # noqa: BLE001 (the association's door: in doubt it stays shut)
            log.error("association.not_judged", error=type(e).__name__)
            reason = negotiation.CONGESTION
        if reason is not None:
            log.warning("association.rejected", address=caller.address, code=str(reason))
        return reason

    def _provider(self, session: Session, reason: tuple[int, int, int] | None) -> Provider:
        limits = self.config.limits
        implementation = Implementation(
            services.IMPLEMENTATION_CLASS_UID, services.IMPLEMENTATION_VERSION_NAME, limits.pdu_bytes
        )

        def judge(request: AssociateRequest) -> tuple[int, int, int] | Agreement:
            if reason is not None:
                return reason
            session.established = True
            return negotiation.agree(request, services.SERVED, implementation)

        return Provider(
            judge=judge,
            begin=self._storing.begin,
            store=partial(self._storing.store, session),
            is_storage=_STORAGE.__contains__,
            pdu_bytes=limits.pdu_bytes,
            deadlines=Deadlines(limits.idle_seconds, limits.pdu_seconds, limits.association_seconds),
            stopping=self._stopping.is_set,
        )

    def _hand_over(self, session: Session, connection: socket.socket, body: bytes) -> None:
        limits = self.config.limits

        def over() -> None:
            connection.close()
            self._over(session, End.REJECTED)  # nothing of it concerns the index

        association = hand_over(
            Handover(
                connection=connection,
                address=(session.caller.address, 0),
                request_body=body,
                ae_title=self.config.ae_title,
                idle_seconds=limits.idle_seconds,
                pdu_seconds=limits.pdu_seconds,
                association_seconds=limits.association_seconds,
                on_end=over,
            ),
            self.config.others,
        )
        session.abort = lambda: association.abort(block=False)

    def _over(self, session: Session, end: End) -> None:
        """The slot is free again before the peer can know that it is over."""
        if session.slot >= 0:
            os.close(session.slot)
        if session.established:
            log.info("association.ended", association=session.association_id, state=str(end))
            try:
                self._on_association_end(
                    session.association_id, end is not End.RELEASED, sorted(session.series_uids)
                )
            except Exception as e:  # noqa: BLE001 (the association's door: its thread ends here)
                log.error("association.end_lost", association=session.association_id, error=type(e).__name__)
        with self._changed:
            self._sessions.pop(session.association_id, None)
            self._changed.notify_all()
