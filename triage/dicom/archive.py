"""An archive as we fetch from it: which studies and series it has, and a way to get them. By DIMSE here, by web in
`archive_web`; `workflow.pull` knows only `Archive` (PS3.4 C, standards 2.3)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context, build_role

from triage.dicom import services
from triage.dicom.incoming import part10_preamble
from triage.domain.errors import Refused, Unavailable
from triage.domain.study import CR, CT, CT_CLASSES, DX_FOR_PRESENTATION, DX_FOR_PROCESSING, SECONDARY_CAPTURE

_STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2"
FIND, MOVE, GET = (f"{_STUDY_ROOT}.{n}" for n in (1, 2, 3))
# Statuses of C-MOVE and C-GET (PS3.4 C.4.2.1.5, C.4.3.1.4) that an administrator can do something about.
_WHY = {
    0x0000: "it found nothing, though it had named the series",
    0x0122: "it does not offer this service: try another method",
    0x0124: "it does not let {ours} do this: its rights are set at {theirs}",
    0xA701: "it has no memory to count the images: see its log",
    0xA702: "it could not send: does it reach our DICOM port, and is {theirs} a peer here?",
    0xA801: "it does not know where {ours} is: enter our host and DICOM port at {theirs}, or use cget",
    0xB000: "some images did not come through: see its log and ours",
}
_PENDING = (0xFF00, 0xFF01)
MOST_STUDIES = 5_000  # of one question; more says that the window is too long
_FETCHED_CLASSES = (
    CT,
    CR,
    DX_FOR_PRESENTATION,
    DX_FOR_PROCESSING,
    *sorted(CT_CLASSES - {CT}),
    SECONDARY_CAPTURE,
)

Take = Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class FoundStudy:
    study_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str
    study_date: str


@dataclass(frozen=True, kw_only=True)
class FoundSeries:
    """instances: what the archive says it has; 0 when it does not say."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    body_part_examined: str
    series_description: str
    instances: int


class Archive(Protocol):
    """Each call has deadlines and raises Unavailable when the archive does not do it."""

    def studies(
        self, since: date, until: date, *, modality: str = "", patient_id: str = ""
    ) -> list[FoundStudy]:
        """Studies of these days."""

    def series(self, study_instance_uid: str) -> list[FoundSeries]:
        """Series of one study."""

    def fetch(self, series: FoundSeries, take: Take) -> int:
        """Get every instance of a series, each a file given to `take` (or sent to our receiver); returns how many."""


@dataclass(frozen=True, kw_only=True)
class Dimse:
    """method  "cmove" has the archive send to our receiver under our AE title, "cget" fetches on the same association"""

    host: str
    port: int
    calling: str
    called: str
    method: str
    timeout_seconds: float = 30.0
    fetch_seconds: float = 900.0

    def studies(
        self, since: date, until: date, *, modality: str = "", patient_id: str = ""
    ) -> list[FoundStudy]:
        query = _query("STUDY", StudyInstanceUID="", PatientID=patient_id, IssuerOfPatientID="", StudyTime="")
        query.StudyDate = f"{since:%Y%m%d}-{until:%Y%m%d}"
        query.ModalitiesInStudy = modality
        return [
            FoundStudy(
                study_instance_uid=str(a.StudyInstanceUID),
                patient_id=str(a.get("PatientID", "")),
                issuer_of_patient_id=str(a.get("IssuerOfPatientID", "") or ""),
                study_date=str(a.get("StudyDate", "")),
            )
            for a in self._find(query)
            if a.get("StudyInstanceUID")
        ]

    def series(self, study_instance_uid: str) -> list[FoundSeries]:
        query = _query(
            "SERIES", StudyInstanceUID=study_instance_uid, SeriesInstanceUID="", Modality="", BodyPartExamined="",
            SeriesDescription="",
        )  # fmt: skip
        query.NumberOfSeriesRelatedInstances = None
        return [
            FoundSeries(
                study_instance_uid=study_instance_uid,
                series_instance_uid=str(a.SeriesInstanceUID),
                modality=str(a.get("Modality", "")),
                body_part_examined=str(a.get("BodyPartExamined", "") or ""),
                series_description=str(a.get("SeriesDescription", "") or ""),
                instances=int(a.get("NumberOfSeriesRelatedInstances") or 0),
            )
            for a in self._find(query)
            if a.get("SeriesInstanceUID")
        ]

    def fetch(self, series: FoundSeries, take: Take) -> int:
        return self._move(series) if self.method == "cmove" else self._get(series, take)

    def _find(self, query: Dataset) -> Iterator[Dataset]:
        association = self._associate([build_context(FIND)])
        try:
            for number, (status, answer) in enumerate(association.send_c_find(query, FIND)):
                if "Status" not in status:
                    raise Unavailable(f"{self.called} stopped answering in the middle of a query")
                if status.Status in _PENDING and answer is not None:
                    if number >= MOST_STUDIES:
                        raise Unavailable(
                            f"{self.called} finds more than {MOST_STUDIES}: shorten the look back"
                        )
                    yield answer
                elif status.Status not in (0, *_PENDING):
                    raise Unavailable(f"{self.called} refused the query with status {status.Status:04X}")
        finally:
            _leave(association)

    def _move(self, series: FoundSeries) -> int:
        association = self._associate([build_context(MOVE)])
        try:
            answers = association.send_c_move(_wanted(series), self.calling, MOVE)
            return self._followed(association, answers)
        finally:
            _leave(association)

    def _get(self, series: FoundSeries, take: Take) -> int:
        contexts = [
            build_context(GET),
            *(build_context(c, list(services.TRANSFER_SYNTAXES)) for c in _FETCHED_CLASSES),
        ]
        roles = [build_role(c, scp_role=True) for c in _FETCHED_CLASSES]
        with tempfile.TemporaryDirectory(prefix="triage-get-") as folder:
            handlers = [(evt.EVT_C_STORE, lambda event: _stored(event, Path(folder), take))]
            association = self._associate(contexts, roles, handlers)
            try:
                return self._followed(association, association.send_c_get(_wanted(series), GET))
            finally:
                _leave(association)

    def _followed(self, association: Association, answers: Any) -> int:
        """Read progress to the end; nothing found, a failure among them or no end in time raise Unavailable."""
        deadline = time.monotonic() + self.fetch_seconds
        for status, _ in answers:
            if "Status" not in status:
                raise Unavailable(f"{self.called} stopped answering in the middle of a retrieval")
            if status.Status in _PENDING:
                if time.monotonic() > deadline:
                    association.abort()
                    raise Unavailable(f"{self.called} was not done within {self.fetch_seconds:.0f} s")
                continue
            completed = int(status.get("NumberOfCompletedSuboperations", 0) or 0)
            failed = int(status.get("NumberOfFailedSuboperations", 0) or 0)
            if status.Status == 0 and completed:
                return completed
            # All counts 0 with success says that nothing matched (standards 2.3).
            why = _WHY.get(status.Status, "see its log").format(ours=self.calling, theirs=self.called)
            raise Unavailable(
                f"{self.called}: status {status.Status:04X}, {completed} sent, {failed} failed; {why}"
            )
        raise Unavailable(f"{self.called} ended without an answer")

    def _associate(
        self, contexts: list[PresentationContext], roles: Any = (), handlers: Any = ()
    ) -> Association:
        ae = AE(ae_title=self.calling)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self.timeout_seconds
        ae.implementation_class_uid = services.IMPLEMENTATION_CLASS_UID
        association = ae.associate(
            self.host,
            self.port,
            contexts=contexts,
            ae_title=self.called,
            ext_neg=list(roles),
            evt_handlers=list(handlers),
        )
        if not association.is_established:
            raise Unavailable(f"{self.called} does not take our call: triage echo shows why")
        return association


def _query(level: str, **keys: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def _wanted(series: FoundSeries) -> Dataset:
    return _query(
        "SERIES", StudyInstanceUID=series.study_instance_uid, SeriesInstanceUID=series.series_instance_uid
    )


def _leave(association: Association) -> None:
    if association.is_established:
        association.release()


def _stored(event: evt.Event, folder: Path, take: Take) -> int:
    """One sub-operation of a C-GET: to a file, then the one way in."""
    request: Any = event.request
    path = folder / f"{request.MessageID}.dcm"
    try:
        head = part10_preamble(
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
        )
        path.write_bytes(head + request.DataSet.getvalue())
        take(path)
    except Refused:
        return 0xC000
    except (OSError, Unavailable):
        return 0xA700
    finally:
        path.unlink(missing_ok=True)
    return 0
