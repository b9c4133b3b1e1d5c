"""The receiver process: C-STORE in, spool and rows, then success."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
from pathlib import Path

from triage.dicom.receive import Receiver
from triage.dicom.receiver_config import Caller, ReceivedObject, ReceiverConfig, ReceiverLimits
from triage.dicom.seal import Entry, seal_of
from triage.dicom.storing import SUCCESS
from triage.dicom.tls import PeerCertificate, ServerContexts
from triage.log import get_logger
from triage.settings import LOOPBACK, Settings
from triage.store import audit, completeness, peers
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow.celery import Waker
from triage.workflow.certificates import tls_files
from triage.workflow.indexer import Desk, recover
from triage.workflow.indexing import BROKEN_DISK, IndexerProcess
from triage.workflow.other_services import other_services
from triage.workflow.parts.common import Beat, Stop, clock, settings_of_process
from triage.workflow.site import site_of

log = get_logger()
SWITCH_SECONDS = 0.00005
NODE = os.uname().nodename[:24]


class Door:
    """Binds the receiver's callbacks to the workflow."""

    def __init__(self, database: Database, indexer: IndexerProcess) -> None:
        self._database, self._indexer = database, indexer

    def may_call(self, caller: Caller) -> bool:
        """On loopback everybody; elsewhere peers by AE title and address alone (T1); by certificate where one was
        asked for, wherever the call comes from (standards 9.1)."""
        if caller.certificate is not None:
            return self._has_proved(caller.ae_title, caller.certificate, caller.address)
        if caller.address in LOOPBACK:
            return True
        with self._database.read() as tx:  # a lost database raises Unavailable: the caller comes again later
            hosts = peers.hosts_of(tx, caller.ae_title)
        return any(caller.address in _addresses(host) for host in hosts)

    def _has_proved(self, ae_title: str, certificate: PeerCertificate, address: str) -> bool:
        with self._database.read() as tx:
            titles = peers.titles_of_certificate(tx, certificate.sha256, certificate.names)
        if ae_title in titles:
            return True
        with self._database.write() as tx:
            audit.append(
                tx, clock(), f"dicom:{ae_title}", "security.certificate_refused", "certificate", certificate.sha256,
                {"calling_ae_title": ae_title, "address": address, "known_as": sorted(titles)},
            )  # fmt: skip
        return False

    def on_object(self, received: ReceivedObject) -> int:
        """Bytes and index entry are durable in one file (`seal`): 0000. The rows follow (decision 0007)."""
        self._indexer.put(received)
        return SUCCESS

    def on_association_end(self, association_id: str, aborted: bool, _: list[str]) -> None:
        self._indexer.ended(association_id, aborted)


def seal(received: ReceivedObject) -> bytes:
    entry = Entry(
        digest=received.digest,
        size=received.size,
        calling_ae_title=received.calling_ae_title,
        called_ae_title=received.called_ae_title,
        association_id=received.association_id,
        address=received.address,
    )
    return seal_of(entry, received.transfer_syntax_uid)


def plain_host(settings: Settings) -> str:
    """Where DICOM listens unencrypted: beyond loopback only when that is meant."""
    beyond = settings.dicom.host not in LOOPBACK
    return "127.0.0.1" if beyond and not settings.dicom.insecure_plain else settings.dicom.host


def retrieve_url(settings: Settings) -> str:
    """Base of our DICOMweb on this machine; a proxy before it has another name, which its own clients know."""
    host = f"[{settings.web.host}]" if ":" in settings.web.host else settings.web.host
    return f"http://{host}:{settings.web.port}/dicom-web"


def _addresses(host: str) -> set[str]:
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return set()


def main() -> int:
    # An association must not wait Python's 5 ms for its turn whenever another one computes.
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # what was imported never goes: no collection need look at it, here and in the fork
    settings = settings_of_process()
    Spool(settings.spool).prepare()
    indexing = IndexerProcess(lambda: _desk(settings))  # before anything that a fork must not share
    try:
        return _receive(settings, indexing)
    finally:
        indexing.close()


def _desk(settings: Settings) -> Desk:
    return Desk(
        database=Database(settings.database_url),
        spool=Spool(settings.spool, settings.dicom.reserve_bytes),
        site=site_of(settings),
        waker=Waker(settings.broker.url.get_secret_value()),
        clock=clock,
        receiver_id=f"{NODE}/{os.environ.get('TRIAGE_RECEIVER', '1')}",
    )


def _receive(settings: Settings, indexing: IndexerProcess) -> int:
    """Until asked to stop, or a disk or the indexer breaks; returns the exit code."""
    stop = Stop()
    broken = threading.Event()

    def on_broken_disk(error: OSError) -> None:
        log.error("spool.flush_failed", path=str(settings.spool), error=error.strerror, fix="check the disk")
        broken.set()
        stop.set()

    desk = _desk(settings)
    database = desk.database
    door = Door(database, indexing)
    receiver = Receiver(
        _config(settings, desk, door),
        on_object=door.on_object,
        on_association_end=door.on_association_end,
        on_broken_disk=on_broken_disk,
    )
    receiver.start()
    beat = Beat(database, f"receiver@{desk.receiver_id}")
    beat.start()
    while indexing.exit_code is None and not stop.wait(1.0):
        pass
    indexer_ended = indexing.exit_code
    if indexer_ended is None:
        receiver.stop()
    else:
        log.error(
            "indexer.died", code=str(indexer_ended), fix="none: the next receiver takes up what it left"
        )
        receiver.stop(grace_seconds=0)  # nothing more can be promised here
    beat.leave()
    if broken.is_set() or indexer_ended == BROKEN_DISK:
        return BROKEN_DISK
    return 0 if indexer_ended is None else 1


def _config(settings: Settings, desk: Desk, door: Door) -> ReceiverConfig:
    dicom, files = settings.dicom, tls_files(settings)

    def take_up(left_behind: list[Path]) -> None:
        """Before the port is open: what dead processes had acknowledged, then the end of their associations."""
        recover(desk, left_behind)
        with desk.database.write() as tx:
            completeness.forget_associations(tx, desk.receiver_id, clock())

    return ReceiverConfig(
        incoming=desk.spool.incoming,
        ae_title=dicom.ae_title,
        host=plain_host(settings),
        port=dicom.port,
        tls_host=dicom.host,
        tls_port=dicom.tls_port,
        tls=ServerContexts(files) if files is not None else None,
        share_port=True,
        may_call=door.may_call,
        limits=ReceiverLimits(
            associations=dicom.associations_max,
            associations_per_address=dicom.associations_per_peer_max,
            object_bytes=dicom.object_bytes_max,
            idle_seconds=dicom.idle_seconds,
            reserve_bytes=dicom.reserve_bytes,
        ),
        others=other_services(
            desk.database, desk.spool, desk.site, clock, desk.waker.wake, retrieve_url(settings)
        ),
        seal=seal,
        take_up=take_up,
    )
