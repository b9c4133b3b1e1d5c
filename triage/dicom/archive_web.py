"""An archive that speaks DICOMweb: QIDO-RS to ask, WADO-RS to get (PS3.18 10.4, 10.6)."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx

from triage.dicom.archive import MOST_STUDIES, FoundSeries, FoundStudy, Take
from triage.dicom.multipart import Parts, boundary_of
from triage.domain.errors import Refused, Unavailable

_ANSWER_BYTES = 32 << 20


@dataclass(frozen=True, kw_only=True)
class Web:
    """url  of the DICOMweb service, up to what stands before /studies; token: sent as Bearer where there is one"""

    url: str
    token: str = ""
    timeout_seconds: float = 30.0
    fetch_seconds: float = 900.0
    object_bytes: int = 2 << 30

    def studies(
        self, since: date, until: date, *, modality: str = "", patient_id: str = ""
    ) -> list[FoundStudy]:
        query = {
            "StudyDate": f"{since:%Y%m%d}-{until:%Y%m%d}",
            "limit": str(MOST_STUDIES),
            "includefield": "00100021",
        }
        query |= {"ModalitiesInStudy": modality} if modality else {}
        query |= {"PatientID": patient_id} if patient_id else {}
        return [
            FoundStudy(
                study_instance_uid=_text(found, "0020000D"),
                patient_id=_text(found, "00100020"),
                issuer_of_patient_id=_text(found, "00100021"),
                study_date=_text(found, "00080020"),
            )
            for found in self._asked("/studies", query)
            if _text(found, "0020000D")
        ]

    def series(self, study_instance_uid: str) -> list[FoundSeries]:
        return [
            FoundSeries(
                study_instance_uid=study_instance_uid,
                series_instance_uid=_text(found, "0020000E"),
                modality=_text(found, "00080060"),
                body_part_examined=_text(found, "00180015"),
                series_description=_text(found, "0008103E"),
                instances=int(_text(found, "00201209") or 0),
            )
            for found in self._asked(
                f"/studies/{study_instance_uid}/series", {"includefield": "00180015,0008103E"}
            )
            if _text(found, "0020000E")
        ]

    def fetch(self, series: FoundSeries, take: Take) -> int:
        address = f"/studies/{series.study_instance_uid}/series/{series.series_instance_uid}"
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        deadline = time.monotonic() + self.fetch_seconds
        count = 0
        with tempfile.TemporaryDirectory(prefix="triage-wado-") as folder:
            path = Path(folder) / "part.dcm"
            try:
                with self._client(accept) as client, client.stream("GET", self.url + address) as answer:
                    self._check(answer)
                    chunks = answer.iter_raw(1 << 16)
                    parts = Parts(
                        lambda _: next(chunks, b""), boundary_of(answer.headers.get("content-type", ""))
                    )
                    for _, body in parts:
                        self._save(body, path, deadline)
                        take(path)
                        count += 1
            except (httpx.HTTPError, Refused) as error:
                raise Unavailable(
                    f"{self.url} did not give a series whole: {type(error).__name__}"
                ) from error
        if not count:
            raise Unavailable(f"{self.url} gave an empty series")
        return count

    def _save(self, body: Any, path: Path, deadline: float) -> None:
        size = 0
        with path.open("wb") as out:
            for chunk in body:
                size += len(chunk)
                if size > self.object_bytes or time.monotonic() > deadline:
                    raise Refused("an object is too long or too slow")
                out.write(chunk)

    def _asked(self, address: str, query: dict[str, str]) -> list[dict[str, Any]]:
        try:
            with (
                self._client("application/dicom+json") as client,
                client.stream("GET", self.url + address, params=query) as answer,
            ):
                if answer.status_code == 204:
                    return []
                self._check(answer)
                raw = b""
                for chunk in answer.iter_bytes():
                    raw += chunk
                    if len(raw) > _ANSWER_BYTES:
                        raise Unavailable(f"{self.url} answers with more than {_ANSWER_BYTES} bytes")
            found = httpx.Response(200, content=raw).json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"{self.url} does not answer a query: {type(error).__name__}") from error
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code not in (200, 206):
            raise Unavailable(f"{self.url} answered {answer.status_code}")

    def _client(self, accept: str) -> httpx.Client:
        headers = {"Accept": accept} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        return httpx.Client(headers=headers, timeout=self.timeout_seconds, trust_env=False)


def _text(found: dict[str, Any], tag: str) -> str:
    values = (found.get(tag) or {}).get("Value") or [""]
    return str(values[0]) if not isinstance(values[0], dict) else ""
