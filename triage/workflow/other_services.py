"""The DICOM services beside echo and store, bound to the workflow: what the receiver hands to pynetdicom (decision 0008)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from sqlalchemy import Connection

from triage.dicom import commitment, ian, mpps, ups
from triage.dicom.commitment import Report
from triage.dicom.handover import OtherServices, serving
from triage.domain.errors import TriageError
from triage.log import get_logger
from triage.store.database import Database
from triage.store.spool import Spool
from triage.workflow import evidence
from triage.workflow.committing import CommitDesk
from triage.workflow.complete import complete_series
from triage.workflow.sending import settle_report
from triage.workflow.site import Site, new_id
from triage.workflow.step_desk import StepDesk

log = get_logger()
Wake = Callable[[Iterable[tuple[int, str]]], None]


class EvidenceDesk:
    """Takes what modalities and archives say, and judges at once the series that it concerns."""

    def __init__(self, database: Database, site: Site, clock: Callable[[], datetime], wake: Wake) -> None:
        self._database, self._site, self._clock, self._wake = database, site, clock, wake

    def begin_step(self, said: mpps.Said) -> None:
        with self._database.write() as tx:
            evidence.begin_step(tx, said, self._clock())

    def change_step(self, said: mpps.Said) -> None:
        self._take(lambda tx, now: evidence.change_step(tx, said, self._site, new_id, now))

    def hear_notice(self, notice: ian.Notice) -> None:
        self._take(lambda tx, now: evidence.hear_notice(tx, notice, now))

    def _take(self, step: Callable[[Connection, datetime], list[int]]) -> None:
        with self._database.write() as tx:
            touched = step(tx, self._clock())
        for series_id in touched:  # kept already: whatever fails here the sweeper does
            try:
                with self._database.write() as tx:
                    wake = complete_series(tx, series_id, self._site, self._clock())
            except TriageError as error:
                log.warning("series.not_judged", code=series_id, error=str(error))
                continue
            self._wake(wake)


def other_services(
    database: Database, spool: Spool, site: Site, clock: Callable[[], datetime], wake: Wake, retrieve_url: str
) -> OtherServices:
    """retrieve_url  base of our DICOMweb, as others reach it"""
    desk = EvidenceDesk(database, site, clock, wake)

    def hear_report(report: Report) -> bool:
        with database.write() as tx:
            return settle_report(tx, report, clock())

    return serving(
        mpps.service(desk.begin_step, desk.change_step),
        ian.service(desk.hear_notice),
        commitment.service(hear_report, CommitDesk(database, spool, clock).take),
        ups.service(StepDesk(database, clock, retrieve_url)),
    )
