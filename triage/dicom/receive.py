"""Storage SCP: C-ECHO and C-STORE from modalities and PACS, durable before success (P1, P2, P16).

An object's bytes go to a file in the spool's `incoming` folder, are flushed, its header is read with limits, and
then the workflow's `on_object` makes it ours (rename, folder flush, database commit) and says the status. The data
set is never decoded here. pynetdicom speaks the protocol behind this seam; `lobby` and the guarded socket in front
of it keep its known holes shut (assurance 1).
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association

from triage.dicom import services
from triage.dicom._guard import GuardedServer, ReceiverLimits, SpoolingDimse
from triage.dicom.header import ObjectMismatch, read_header
from triage.dicom.incoming import IncomingFile
from triage.domain.errors import Refused, Unavailable
from triage.domain.study import InstanceHeader
from triage.log import get_logger

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

STOP_SECONDS = 5.0  # for aborted associations to end

_PERMANENT, _TRANSIENT = 1, 2

log = get_logger()


@dataclass(frozen=True)
class ReceivedObject:
    """One object as it lies in the incoming folder, flushed but not yet ours.

    path     temporary Part 10 file; `on_object` renames it, what it leaves behind is removed
    digest   SHA-256 of the whole file; equal for equal data sets in equal transfer syntax, whoever sent them
    """

    path: Path
    digest: str
    size: int
    header: InstanceHeader
    calling_ae_title: str
    called_ae_title: str
    association_id: str
    address: str

    @property
    def sop_class_uid(self) -> str:
        return self.header.sop_class_uid

    @property
    def sop_instance_uid(self) -> str:
        return self.header.sop_instance_uid

    @property
    def transfer_syntax_uid(self) -> str:
        return self.header.transfer_syntax_uid


@dataclass(frozen=True, kw_only=True)
class ReceiverConfig:
    """incoming  folder on the spool's file system; may_call(calling AE title, address) decides who is let in."""

    incoming: Path
    ae_title: str = "TRIAGE"
    host: str = "127.0.0.1"
    port: int = 11112  # 0: any free one, see `Receiver.port`
    share_port: bool = False  # several receiver processes on one port (SO_REUSEPORT)
    may_call: Callable[[str, str], bool]
    limits: ReceiverLimits = field(default_factory=ReceiverLimits)


@dataclass
class _Session:
    """What we know of one connection."""

    association_id: str
    address: str
    calling_ae_title: str = ""
    called_ae_title: str = ""
    established: bool = False
    series_uids: set[str] = field(default_factory=set)


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
        self._sessions: dict[Association, _Session] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._server: GuardedServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        assert self._server is not None, "not started"
        return int(self._server.server_address[1])

    @property
    def associations(self) -> int:
        with self._lock:
            return sum(s.established for s in self._sessions.values())

    def start(self) -> None:
        """Listen. raises Unavailable when the port is taken."""
        self._sweep()
        limits = self.config.limits
        ae = AE(ae_title=self.config.ae_title)
        ae.require_called_aet = True
        ae.maximum_pdu_size = limits.pdu_bytes
        ae.maximum_associations = 10_000  # `_requested` counts, with a limit per address too
        # The request lies whole in our buffer before an association begins: nothing of ACSE has to be waited for long.
        ae.acse_timeout, ae.dimse_timeout, ae.network_timeout = 2, 60, limits.idle_seconds
        ae.implementation_class_uid = services.IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = services.IMPLEMENTATION_VERSION_NAME
        ae.add_supported_context(services.VERIFICATION)
        for sop_class in services.STORAGE_CLASSES:
            ae.add_supported_context(sop_class, list(services.TRANSFER_SYNTAXES))
        try:
            self._server = self._listen(ae)
        except OSError as e:
            raise Unavailable(f"cannot listen on {self.config.host}:{self.config.port}: {e.strerror}") from e
        self._thread = threading.Thread(target=self._server.serve_forever, name="dicom-accept", daemon=True)
        self._thread.start()
        log.info("receiver.started", address=self.config.host, port=self.port)

    def _listen(self, ae: AE) -> GuardedServer:
        config = self.config
        return GuardedServer(
            ae,
            (config.host, config.port),
            limits=config.limits,
            share_port=config.share_port,
            new_path=self._new_path,
            on_open=self._opened,
            on_end=self._ended,
            handlers=[
                (evt.EVT_REQUESTED, self._requested),
                (evt.EVT_ACCEPTED, self._accepted),
                (evt.EVT_C_ECHO, lambda _: SUCCESS),
                (evt.EVT_C_STORE, self._stored),
            ],
        )

    def stop(self, grace_seconds: float = 10.0) -> None:
        """No new associations; those running may end within the grace, the rest is aborted."""
        if self._server is None or self._thread is None:
            return
        self._server.close()
        self._thread.join(timeout=5)
        deadline = time.monotonic() + grace_seconds
        while self.associations and time.monotonic() < deadline:
            time.sleep(0.02)
        with self._lock:
            left = list(self._sessions)
        for association in left:
            association.abort(block=False)
        deadline = time.monotonic() + STOP_SECONDS
        for association in left:
            association.join(timeout=max(0.0, deadline - time.monotonic()))
        self._server = None
        log.info("receiver.stopped", count=len(left))

    def _sweep(self) -> None:
        """Remove what processes that are gone left half received; nobody was told that we have it."""
        self.config.incoming.mkdir(parents=True, exist_ok=True)
        for path in self.config.incoming.glob("*.part"):
            owner = path.name.split("-")[0]
            if not (owner.isdigit() and Path(f"/proc/{owner}").exists()) or owner == str(os.getpid()):
                path.unlink(missing_ok=True)

    # Called by the association's threads.

    def _new_path(self) -> Path:
        return self.config.incoming / f"{os.getpid()}-{next(self._numbers)}.part"

    def _opened(self, association: Association, address: str) -> None:
        with self._lock:
            self._sessions[association] = _Session(uuid.uuid4().hex, address)

    def _requested(self, event: evt.Event) -> None:
        """Let the caller in, or reject with the reason that makes a sender do the right thing (standards 1.2)."""
        association = event.assoc
        try:
            reason = self._reason_to_reject(association)
        except Exception as e:  # noqa: BLE001 (the association's door: in doubt it stays shut)
            log.error("association.not_judged", error=type(e).__name__)
            reason = (_TRANSIENT, 3, 1)  # temporary congestion
        if reason is None:
            return
        log.warning("association.rejected", address=association.requestor.address, code=str(reason))
        association.acse.send_reject(*reason)
        association.kill()

    def _reason_to_reject(self, association: Association) -> tuple[int, int, int] | None:
        request = association.requestor.primitive
        assert request is not None
        limits = self.config.limits
        with self._lock:
            session = self._sessions[association]
            session.calling_ae_title = str(request.calling_ae_title).strip()
            session.called_ae_title = str(request.called_ae_title).strip()
            here = [s for s in self._sessions.values() if s.established]
        from_there = sum(s.address == session.address for s in here)
        if len(here) >= limits.associations or from_there >= limits.associations_per_address:
            return _TRANSIENT, 3, 2  # local limit exceeded: come again
        if not self.config.may_call(session.calling_ae_title, session.address):
            return _PERMANENT, 1, 3  # calling AE title not recognised
        return None

    def _accepted(self, event: evt.Event) -> None:
        with self._lock:
            self._sessions[event.assoc].established = True

    def _ended(self, association: Association) -> None:
        """The association's thread is over, however that came."""
        with self._lock:
            session = self._sessions.pop(association, None)
        dimse = association.dimse
        assert isinstance(dimse, SpoolingDimse)
        dimse.discard_files()
        if session is None or not session.established:
            return
        aborted = not association.is_released
        log.info(
            "association.ended",
            association=session.association_id,
            state="aborted" if aborted else "released",
        )
        try:
            self._on_association_end(session.association_id, aborted, sorted(session.series_uids))
        except Exception as e:  # noqa: BLE001 (the association's door: its thread ends here)
            log.error("association.end_lost", association=session.association_id, error=type(e).__name__)

    def _stored(self, event: evt.Event) -> Dataset:
        """Status of one C-STORE (standards 2.2)."""
        incoming = getattr(event.request, "DataSet", None)
        dimse = event.assoc.dimse
        assert isinstance(incoming, IncomingFile) and isinstance(dimse, SpoolingDimse)
        with self._lock:
            session = self._sessions[event.assoc]
        status, comment = OUT_OF_RESOURCES, ""
        try:
            status, comment = self._take(incoming, session)
        except ObjectMismatch as e:
            status, comment = DOES_NOT_MATCH, str(e)
        except Refused as e:
            status, comment = CANNOT_UNDERSTAND, str(e)
        except (OSError, Unavailable) as e:
            comment = e.strerror or "" if isinstance(e, OSError) else str(e)
        except Exception as e:  # noqa: BLE001 (the association's door: the sender must get an answer)
            status, comment = PROCESSING_FAILURE, "internal error"
            # Where, not what: the text of an error may hold a patient's data.
            where = "".join(traceback.format_tb(e.__traceback__)[-4:])
            log.error(
                "instance.failed", association=session.association_id, error=type(e).__name__, stack=where
            )
        finally:
            incoming.discard()
            dimse.answered(incoming)
        if status != SUCCESS:
            log.warning(
                "instance.refused", association=session.association_id, status=f"{status:04X}", detail=comment
            )
        answer = Dataset()
        answer.Status = status
        if comment and status != SUCCESS:
            answer.ErrorComment = comment.encode("ascii", "replace").decode()[:64]  # LO (PS3.7 C)
        return answer

    def _take(self, incoming: IncomingFile, session: _Session) -> tuple[int, str]:
        if incoming.failure is not None:
            raise incoming.failure
        try:
            digest = incoming.make_durable()
        except OSError as e:
            self._on_broken_disk(e)
            raise
        header = read_header(incoming.path)
        status = self._on_object(
            ReceivedObject(
                path=incoming.path,
                digest=digest,
                size=incoming.size,
                header=header,
                calling_ae_title=session.calling_ae_title,
                called_ae_title=session.called_ae_title,
                association_id=session.association_id,
                address=session.address,
            )
        )
        if status == SUCCESS:
            session.series_uids.add(header.series_instance_uid)
        return status, ""
