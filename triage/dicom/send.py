"""C-STORE and C-ECHO as the sender: `triage send`, the demo's modality, results on their way to the PACS.

Each file goes in the transfer syntax that it has; nothing is decoded or changed.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from triage.dicom import services
from triage.dicom.header import read_header
from triage.domain.errors import Refused, Unavailable
from triage.domain.study import InstanceHeader

_config.STORE_SEND_CHUNKED_DATASET = True  # files leave as they are, piece by piece
_config.LOG_HANDLER_LEVEL = "none"
logging.getLogger("pynetdicom").addHandler(logging.NullHandler())
logging.getLogger("pynetdicom").propagate = False

CONTEXTS = 128  # of one association (PS3.8 9.3.2.2: odd ids 1 to 255)
PDU_BYTES = 131_072
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class SendResult:
    """status: the peer's C-STORE status, None when it never answered for this file; detail says why."""

    path: Path
    status: int | None
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Success or a warning that counts as stored (standards 2.2)."""
        return self.status is not None and (self.status == 0 or self.status & 0xF000 == 0xB000)


def echo(
    host: str, port: int, *, calling: str = "TRIAGE", called: str = "ANY-SCP", timeout_seconds: float = 30
) -> None:
    """C-ECHO. raises Unavailable, saying what failed, when the peer does not answer 0000."""
    association = _associate(host, port, calling, called, timeout_seconds, [(services.VERIFICATION, "")])
    try:
        status = association.send_c_echo().get("Status")
    except (RuntimeError, ValueError) as e:
        raise Unavailable(f"{host}:{port} does not offer Verification: {e}") from e
    finally:
        association.release()
    if status != 0:
        raise Unavailable(f"{host}:{port} answered C-ECHO with {status!r}")


def send(
    paths: Sequence[Path],
    *,
    host: str,
    port: int,
    calling: str = "TRIAGE",
    called: str = "ANY-SCP",
    timeout_seconds: float = 60,
    progress: Callable[[SendResult], None] = lambda _: None,
) -> list[SendResult]:
    """Send files by C-STORE over one association (more when they need over 128 presentation contexts).

    progress  called after each file
    returns   one result per path, in their order; files that are no DICOM objects never leave
    raises    Unavailable when the peer cannot be reached or rejects the association
    """
    results: dict[Path, SendResult] = {}

    def settle(result: SendResult) -> None:
        results[result.path] = result
        progress(result)

    groups: dict[tuple[str, str], list[Path]] = {}
    for path in dict.fromkeys(paths):
        try:
            header: InstanceHeader = read_header(path)
        except (Refused, Unavailable) as e:
            settle(SendResult(path, None, str(e)))
            continue
        groups.setdefault((header.sop_class_uid, header.transfer_syntax_uid), []).append(path)
    contexts = list(groups)
    for start in range(0, len(contexts), CONTEXTS):
        offered = contexts[start : start + CONTEXTS]
        wanted = {path for context in offered for path in groups[context]}
        association = _associate(host, port, calling, called, timeout_seconds, offered)
        try:
            for path in paths:
                if path in wanted and path not in results:
                    settle(_store(association, path))
        finally:
            if association.is_established:
                association.release()
    return [results[path] for path in paths]


def _store(association: Association, path: Path) -> SendResult:
    if not association.is_established:
        return SendResult(path, None, "the association is gone")
    try:
        answer = association.send_c_store(path)
    except (ValueError, RuntimeError, AttributeError) as e:
        return SendResult(path, None, str(e))
    if "Status" not in answer:
        return SendResult(path, None, "no answer: the association was lost or timed out")
    return SendResult(path, int(answer.Status), str(answer.get("ErrorComment", "")))


def _associate(
    host: str, port: int, calling: str, called: str, timeout_seconds: float, offered: list[tuple[str, str]]
) -> Association:
    ae = AE(ae_title=calling)
    ae.maximum_pdu_size = PDU_BYTES
    ae.connection_timeout = CONNECT_SECONDS
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_seconds
    ae.implementation_class_uid = services.IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = services.IMPLEMENTATION_VERSION_NAME
    contexts = [build_context(sop_class, syntax or None) for sop_class, syntax in offered]
    association = ae.associate(
        host, port, contexts=contexts, ae_title=called, evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)]
    )
    if association.is_established:
        return association
    if association.is_rejected:
        answer = association.acceptor.primitive
        reason = f" ({answer.reason_str})" if answer is not None else ""
        raise Unavailable(f"{host}:{port} rejected the association of {calling} to {called}{reason}")
    raise Unavailable(f"no association with {called} at {host}:{port}: does it listen there?")


def _no_delay(event: evt.Event) -> None:
    """Nagle would hold the last piece of each message back until the peer's delayed acknowledgement."""
    wrapper = event.assoc.dul.socket
    if wrapper is not None and wrapper.socket is not None:
        wrapper.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
