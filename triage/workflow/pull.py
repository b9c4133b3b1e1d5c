"""Fetches new chest studies from archives that do not send: ask, note what is wanted, fetch, in that order.

The cursor and the wanted list are rows, so a restart goes on where it was. Windows overlap, since an archive may show a
study late; what was fetched is not fetched again unless it has grown. One thread an archive: a slow one delays no other.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from triage.dicom.archive import Archive, Dimse, FoundSeries, FoundStudy, Take
from triage.dicom.archive_web import Web
from triage.domain.eligibility import CHEST_PARTS, CHEST_WORDS
from triage.domain.errors import Misconfigured, Refused, TriageError, Unavailable
from triage.log import get_logger
from triage.settings import PullSettings, Settings
from triage.store import audit, peers, pulls
from triage.store.database import Database
from triage.workflow.inlet import Inlet

log = get_logger()
GIVE_UP_AFTER = 8
FIRST_WAIT = timedelta(seconds=30)
PRIORS_MAX = 2  # the latest of a patient


def archive_of(settings: Settings, pull: PullSettings, database: Database) -> Archive:
    """raises Misconfigured when its peer is unknown or its token cannot be read"""
    if pull.method == "wado":
        try:
            token = pull.token_file.read_text().strip() if pull.token_file else ""
        except OSError as error:
            raise Misconfigured(f"pull {pull.name}: token_file cannot be read: {error.strerror}") from error
        return Web(
            url=pull.url.rstrip("/"), token=token, timeout_seconds=pull.timeout_seconds,
            object_bytes=settings.dicom.object_bytes_max,
        )  # fmt: skip
    with database.read() as tx:
        peer = peers.find(tx, pull.peer)
    if peer is None:
        raise Misconfigured(
            f"pull {pull.name}: no peer is called {pull.peer!r}; triage peer add {pull.peer} ..."
        )
    return Dimse(
        host=peer["host"], port=peer["port"], called=peer["ae_title"], calling=settings.dicom.ae_title,
        method=pull.method, timeout_seconds=pull.timeout_seconds,
    )  # fmt: skip


class CurrentArchive:
    """The archive as settings and peers have it at each call: a peer may come or move, a token change, while we run."""

    def __init__(self, settings: Settings, pull: PullSettings, database: Database) -> None:
        self._find = partial(archive_of, settings, pull, database)

    def studies(
        self, since: date, until: date, *, modality: str = "", patient_id: str = ""
    ) -> list[FoundStudy]:
        return self._find().studies(since, until, modality=modality, patient_id=patient_id)

    def series(self, study_instance_uid: str) -> list[FoundSeries]:
        return self._find().series(study_instance_uid)

    def fetch(self, series: FoundSeries, take: Take) -> int:
        return self._find().fetch(series, take)


def given_up(tx: Connection, settings: Settings) -> dict[str, int]:
    """{archive: series that it did not give}, of the archives that we still fetch from"""
    return pulls.given_up(tx, {pull.name for pull in settings.pull})


def ask_again(tx: Connection, settings: Settings, source: str, *, by: str, now: datetime) -> int:
    """Series that were given up are fetched again at the archive's next turn; how many.

    raises  Refused when this archive has none, or we fetch from it no more
    """
    count = pulls.ask_again(tx, source, now) if source in given_up(tx, settings) else 0
    if not count:
        raise Refused("no series of this archive was given up")
    audit.append(tx, now, by, "pull.asked_again", "archive", source, {"series": count})
    return count


def is_chest(series: FoundSeries, body_parts: tuple[str, ...]) -> bool:
    """By body part; where the archive names none, by the description; without either it is fetched: the gate decides."""
    part = series.body_part_examined.upper()
    if part:
        return part in body_parts or (not body_parts and part in CHEST_PARTS)
    described = series.series_description.upper()
    return not described or bool(CHEST_WORDS.search(described)) or not body_parts


class Puller:
    """One archive: `turn` asks and fetches once."""

    def __init__(
        self,
        pull: PullSettings,
        archive: Archive,
        database: Database,
        inlet: Inlet,
        clock: Callable[[], datetime],
    ) -> None:
        self.pull, self._archive, self._database, self._inlet = pull, archive, database, inlet
        self._clock = clock

    def turn(self, may_go_on: Callable[[], bool] = lambda: True) -> int:
        """Returns how many series were fetched. raises Unavailable when the archive does not answer"""
        self._ask()
        with self._database.read() as tx:
            wanted = pulls.wanted(tx, self.pull.name, self._clock())
        return sum(self._fetch(row) for row in wanted if may_go_on())

    def _ask(self) -> None:
        began = self._clock()
        with self._database.read() as tx:
            asked_at = pulls.cursor(tx, self.pull.name) or began
        since = (asked_at - timedelta(minutes=self.pull.overlap_minutes)).astimezone().date()
        until = (began + timedelta(days=1)).astimezone().date()  # a clock ahead of ours
        found: dict[str, FoundStudy] = {}
        for modality in self.pull.modalities:
            for one in self._archive.studies(since, until, modality=modality):
                found.setdefault(one.study_instance_uid, one)
        for one in found.values():
            if self._note(one, prior=False) and self.pull.priors_months:
                self._ask_priors(one)
        with self._database.write() as tx:
            pulls.move_cursor(tx, self.pull.name, began)

    def _note(self, found: FoundStudy, *, prior: bool) -> bool:
        """Want the chest series of a study; True when any is new."""
        series = [
            s
            for s in self._archive.series(found.study_instance_uid)
            if s.modality in self.pull.modalities and is_chest(s, self.pull.body_parts)
        ]
        now = self._clock()
        with self._database.write() as tx:
            if prior and series and not pulls.mark_prior(tx, found.study_instance_uid, now):
                return False  # here already, as a study of its own
            news = [
                pulls.want(
                    tx, self.pull.name, s.study_instance_uid, s.series_instance_uid, now, modality=s.modality,
                    instances=s.instances, prior=prior or pulls.is_prior(tx, s.study_instance_uid),
                )
                for s in series
            ]  # fmt: skip
        return any(news)

    def _ask_priors(self, of: FoundStudy) -> None:
        """Older chest studies of the same patient, by id and issuer; without an id nobody is looked for."""
        try:
            day = datetime.strptime(of.study_date, "%Y%m%d").date()  # noqa: DTZ007 (a day)
        except ValueError:
            return
        if not of.patient_id or any(c in of.patient_id for c in "*?\\"):
            return
        since = day - timedelta(days=31 * self.pull.priors_months)
        older = [
            s
            for s in self._archive.studies(since, day, patient_id=of.patient_id)
            if s.patient_id == of.patient_id
            and s.study_instance_uid != of.study_instance_uid
            and s.study_date < of.study_date
            and (s.issuer_of_patient_id or of.issuer_of_patient_id)
            == (of.issuer_of_patient_id or s.issuer_of_patient_id)
        ]
        for one in sorted(older, key=lambda s: s.study_date, reverse=True)[:PRIORS_MAX]:
            self._note(one, prior=True)

    def _fetch(self, row: dict[str, object]) -> bool:
        series = FoundSeries(
            study_instance_uid=str(row["study_instance_uid"]), series_instance_uid=str(row["series_instance_uid"]),
            modality=str(row["modality"]), body_part_examined="", series_description="", instances=0,
        )  # fmt: skip
        transfer = uuid.uuid4().hex
        try:
            count = self._archive.fetch(series, lambda path: self._take(path, transfer))
        except Unavailable as error:
            self._end(transfer, aborted=True)
            attempts = int(str(row["attempts"])) + 1
            again = None if attempts >= GIVE_UP_AFTER else self._clock() + FIRST_WAIT * 2**attempts
            with self._database.write() as tx:
                pulls.not_fetched(tx, int(str(row["id"])), str(error), again)
            log.warning("series.not_fetched", name=self.pull.name, attempts=attempts, error=str(error))
            return False
        self._end(transfer, aborted=False)
        with self._database.write() as tx:
            pulls.fetched(tx, int(str(row["id"])), count, self._clock())
        log.info("series.fetched", name=self.pull.name, count=count)
        return True

    def _take(self, path: Path, transfer: str) -> None:
        try:
            self._inlet.take(path, sender=self.pull.peer or self.pull.name, transfer=transfer)
        except Refused as error:  # its own fault: the others of the series are fetched all the same
            log.warning("instance.refused", name=self.pull.name, detail=str(error))

    def _end(self, transfer: str, *, aborted: bool) -> None:
        try:
            self._inlet.end(transfer, aborted=aborted)
        except TriageError as error:
            log.warning("transfer.end_not_recorded", name=self.pull.name, error=str(error))
