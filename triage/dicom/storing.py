"""One C-STORE: bytes to a file, header read with limits, flush, then `on_object` makes it ours and says the status.

Called by the threads of the associations. Whatever goes wrong here ends as a status to the sender (standards 2.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from triage.dicom.folder import IncomingFolder
from triage.dicom.header import ObjectMismatch, check_header
from triage.dicom.incoming import IncomingFile
from triage.dicom.receiver_config import Caller, ReceivedObject, ReceiverConfig
from triage.dicom.upper.association import Sink
from triage.dicom.upper.command import Command
from triage.dicom.upper.negotiation import AcceptedContext
from triage.domain.errors import Refused, Unavailable
from triage.log import get_logger

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

log = get_logger()


@dataclass
class Session:
    """What we know of one connection that has a thread."""

    association_id: str
    caller: Caller
    called_ae_title: str
    slot: int = -1  # descriptor that holds a place among the associations
    established: bool = False
    series_uids: set[str] = field(default_factory=set)
    abort: Callable[[], None] = lambda: None  # of a handed-over association; ours look at the receiver's


class Storing:
    """C-STORE as the associations of one receiver do it; `on_object` and `on_broken_disk` as `Receiver` says."""

    def __init__(
        self,
        config: ReceiverConfig,
        folder: IncomingFolder,
        *,
        on_object: Callable[[ReceivedObject], int],
        on_broken_disk: Callable[[OSError], None],
    ) -> None:
        self._config = config
        self._folder = folder
        self._on_object = on_object
        self._on_broken_disk = on_broken_disk

    def begin(self, context: AcceptedContext, command: Command) -> Sink:
        return IncomingFile(
            self._folder.new_file,
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            transfer_syntax_uid=context.transfer_syntax,
            object_bytes=self._config.limits.object_bytes,
            reserve_bytes=self._config.limits.reserve_bytes,
        )

    def store(self, session: Session, sink: Sink) -> tuple[int, str]:
        """Status of one C-STORE (standards 2.2)."""
        assert isinstance(sink, IncomingFile)
        status, comment = OUT_OF_RESOURCES, ""
        try:
            status = self._take(sink, session)
        except ObjectMismatch as e:
            status, comment = DOES_NOT_MATCH, str(e)
        except Refused as e:
            status, comment = CANNOT_UNDERSTAND, str(e)
        except (OSError, Unavailable) as e:
            comment = e.strerror or "" if isinstance(e, OSError) else str(e)
        except Exception as e:
            status, comment = PROCESSING_FAILURE, "internal error"
            log.error("instance.failed", association=session.association_id, error=type(e).__name__,
                      exc_info=e)  # fmt: skip
        if status != SUCCESS:
            sink.discard()
            log.warning(
                "instance.refused", association=session.association_id, status=f"{status:04X}", detail=comment
            )
        return status, comment

    def _take(self, incoming: IncomingFile, session: Session) -> int:
        if incoming.failure is not None:
            raise incoming.failure
        assert incoming.path is not None
        received = ReceivedObject(
            path=incoming.path,
            digest=incoming.digest,
            size=incoming.size,
            header=check_header(incoming.path),
            calling_ae_title=session.caller.ae_title,
            called_ae_title=session.called_ae_title,
            association_id=session.association_id,
            address=session.caller.address,
        )
        seal = self._config.seal(received)
        try:
            incoming.make_durable(seal)
        except OSError as e:
            self._on_broken_disk(e)
            raise
        status = self._on_object(received)
        if status == SUCCESS:
            session.series_uids.add(received.header.series_instance_uid)
        return status
