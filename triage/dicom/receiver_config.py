"""What a receiver is told (limits, who may call) and the words in which it tells what came."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from triage.dicom.handover import OtherServices
from triage.dicom.header import CheckedHeader
from triage.dicom.tls import PeerCertificate


@dataclass(frozen=True, kw_only=True)
class ReceiverLimits:
    """standards 1.4 and 1.5, assurance 6.1. `associations` counts over all receiver processes of this machine."""

    associations: int = 20
    associations_per_address: int = 10
    waiting: int = 512
    waiting_per_address: int = 256
    request_bytes: int = 65_536
    request_seconds: float = 10.0
    closing_seconds: float = 10.0
    pdu_bytes: int = 1 << 20
    pdu_seconds: float = 60.0
    idle_seconds: float = 60.0
    association_seconds: float = 3_600.0
    object_bytes: int = 2 << 30
    reserve_bytes: int = 64 << 20


@dataclass(frozen=True)
class Caller:
    """Who asks to be let in; `certificate` is what it has proved on a TLS connection."""

    ae_title: str
    address: str
    certificate: PeerCertificate | None = None
    tls: bool = False


@dataclass(frozen=True)
class ReceivedObject:
    """One object as it lies in the incoming folder; when `on_object` sees it, it is flushed but not yet ours.

    path     temporary Part 10 file; with success it is `on_object`'s, otherwise it is removed
    digest   SHA-256 of the whole file; equal for equal data sets in equal transfer syntax, whoever sent them
    """

    path: Path
    digest: str
    size: int
    header: CheckedHeader
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


def _no_seal(_: ReceivedObject) -> bytes:
    return b""


def _leave(_: list[Path]) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class ReceiverConfig:
    """incoming  folder on the spool's file system; may_call decides who is let in (raises Unavailable: not now).

    seal     bytes that go to the file's end with the same flush, for `on_object` to take off again
    take_up  is given, before the port opens, the files of processes that are gone; what it leaves is removed
    """

    incoming: Path
    ae_title: str = "TRIAGE"
    host: str = "127.0.0.1"
    port: int = 11112  # 0: any free one, see `Receiver.port`
    tls_host: str = ""  # empty: as host
    tls_port: int = 2762
    tls: Callable[[], ssl.SSLContext] | None = None  # None: no TLS listener
    share_port: bool = False  # several receiver processes on one port (SO_REUSEPORT)
    may_call: Callable[[Caller], bool]
    limits: ReceiverLimits = field(default_factory=ReceiverLimits)
    others: OtherServices = field(default_factory=OtherServices)
    seal: Callable[[ReceivedObject], bytes] = _no_seal
    take_up: Callable[[list[Path]], None] = _leave
