"""The receiver process: C-STORE in, spool and rows, then success."""

from __future__ import annotations

import os
import socket
import threading

from triage.dicom.receive import (
    OUT_OF_RESOURCES,
    SUCCESS,
    Caller,
    ReceivedObject,
    Receiver,
    ReceiverConfig,
    ReceiverLimits,
)
from triage.domain.errors import Refused, Unavailable
from triage.log import get_logger
from triage.settings import LOOPBACK, Settings
from triage.store import peers, studies
from triage.store.database import Database
from triage.store.spool import Spool
from triage.store.studies import Arrived
from triage.workflow.celery import Waker
from triage.workflow.complete import complete_series
from triage.workflow.intake import arrival_of, intake
from triage.workflow.parts.common import Beat, Stop, clock, settings_of_process
from triage.workflow.site import site_of

log = get_logger()
BROKEN_DISK = 3  # exit code: a failed flush may not be tried again (F5)
NODE = os.uname().nodename[:24]


class Door:
    """Binds the receiver's callbacks to the workflow."""

    def __init__(self, settings: Settings, database: Database, spool: Spool, waker: Waker) -> None:
        self._settings, self._database, self._spool, self._waker = settings, database, spool, waker
        self._site = site_of(settings)

    def may_call(self, caller: Caller) -> bool:
        """On loopback everybody; elsewhere peers by AE title and address alone (T1)."""
        if caller.address in LOOPBACK:
            return True
        with self._database.read() as tx:  # a lost database raises Unavailable: the caller comes again later
            hosts = peers.hosts_of(tx, caller.ae_title)
        return any(caller.address in _addresses(host) for host in hosts)

    def on_object(self, received: ReceivedObject) -> int:
        """Durable, then indexed, then 0000. What we cannot keep is A700: the sender comes again (P1, P2)."""
        self._spool.require_space()
        size = received.size
        self._spool.adopt(received.path, received.digest)
        arrival = arrival_of(
            received.header,
            received.digest,
            size,
            received.calling_ae_title,
            f"{NODE}:{received.association_id}",
        )
        try:
            with self._database.write() as tx:
                taken = intake(tx, arrival, self._site, clock())
        except Unavailable as error:
            log.error("instance.not_indexed", digest=received.digest, error=str(error))
            return OUT_OF_RESOURCES
        self._waker.wake(taken.wake)
        if taken.arrived is not Arrived.NEW:
            log.warning(
                "instance.kept_aside", reason=taken.arrived.value, sop_instance_uid=received.sop_instance_uid
            )
        return SUCCESS

    def on_association_end(self, association_id: str, aborted: bool, _: list[str]) -> None:
        """The transfer is over: judge its series at once rather than at the next sweep."""
        try:
            with self._database.write() as tx:
                touched = studies.association_ended(tx, f"{NODE}:{association_id}", aborted, clock())
            for series_id in touched:
                with self._database.write() as tx:
                    wake = complete_series(tx, series_id, self._site, clock())
                self._waker.wake(wake)
        except (Unavailable, Refused) as error:
            log.warning("association.end_not_recorded", association=association_id, error=str(error))


def _addresses(host: str) -> set[str]:
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return set()


def main() -> int:
    settings = settings_of_process()
    database = Database(settings.database_url)
    spool = Spool(settings.spool, settings.dicom.reserve_bytes)
    spool.prepare()
    stop = Stop()
    broken = threading.Event()

    def on_broken_disk(error: OSError) -> None:
        log.error("spool.flush_failed", path=str(settings.spool), error=error.strerror, fix="check the disk")
        broken.set()
        stop.set()

    door = Door(settings, database, spool, Waker(settings.broker.url.get_secret_value()))
    receiver = Receiver(
        ReceiverConfig(
            incoming=spool.incoming,
            ae_title=settings.dicom.ae_title,
            host=settings.dicom.host,
            port=settings.dicom.port,
            may_call=door.may_call,
            limits=ReceiverLimits(
                associations=settings.dicom.associations_max,
                associations_per_address=settings.dicom.associations_per_peer_max,
                object_bytes=settings.dicom.object_bytes_max,
                idle_seconds=settings.dicom.idle_seconds,
                reserve_bytes=settings.dicom.reserve_bytes,
            ),
        ),
        on_object=door.on_object,
        on_association_end=door.on_association_end,
        on_broken_disk=on_broken_disk,
    )
    with database.write() as tx:
        studies.forget_associations(tx, NODE, clock())
    receiver.start()
    beat = Beat(database, f"receiver@{NODE}")
    beat.start()
    while not stop.wait(1.0):
        pass
    receiver.stop()
    beat.leave()
    return BROKEN_DISK if broken.is_set() else 0
