"""Unified Procedure Steps of an outside UPS-RS origin server as their performer (PS3.18 11; standards 10.2).

Speaks as `ups_client.UpsServer` does, so that who performs need not know over which way: HTTP's answers become the
statuses of PS3.4 CC.2.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from pydicom.dataset import Dataset

from triage.dicom.stow_send import Service, request
from triage.dicom.ups_client import MOST_ANSWERS, MOST_SEEN, Inputs, fits, inputs_of
from triage.domain.errors import Unavailable

JSON_TYPE = "application/dicom+json"
NO_SUCH_STEP, NOT_THIS_TRANSACTION = 0xC307, 0xC301
# A server says one of these for a step that is not ours, not there any more, or not in a state for it (11.6.3, 11.7.3).
_STATUS = {
    **dict.fromkeys((200, 201, 202, 204), 0),
    **dict.fromkeys((400, 409), NOT_THIS_TRANSACTION),
    **dict.fromkeys((404, 410), NO_SUCH_STEP),
}
_PAGE = 200


class UpsWeb:
    """raises Unavailable when the server does not answer, or answers what no work item is about (401, 5xx)."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def scheduled(self, codes: Sequence[str]) -> list[str]:
        """As `UpsServer.scheduled`. A server may give fewer at a time than we ask for: the next page begins there."""
        found: dict[str, None] = {}
        seen: set[str] = set()
        offset = 0
        while offset < MOST_SEEN and len(found) < MOST_ANSWERS:
            page = self._page(offset)
            uids = {str(ds.get("SOPInstanceUID", "")) for ds in page}
            if uids <= seen:  # the end, or a server that knows no offset
                break
            seen |= uids
            found |= {str(ds.SOPInstanceUID): None for ds in page if fits(ds, codes)}
            offset += len(page)
        return list(found)

    def inputs(self, uid: str) -> Inputs | None:
        status, said = self._ask("GET", f"/workitems/{uid}")
        if status not in _STATUS:
            raise self._odd(status)
        return inputs_of(said[0]) if _STATUS[status] == 0 and said else None

    def move(self, uid: str, transaction_uid: str, state: str) -> int:
        ds = Dataset()
        ds.ProcedureStepState, ds.TransactionUID = state, transaction_uid
        return self._told("PUT", f"/workitems/{uid}/state", ds)

    def say(self, uid: str, transaction_uid: str, said: Dataset) -> int:
        """The Transaction UID stands in the query (PS3.18 11.6.1, by two names in the field) and in the body (dcm4chee)."""
        said.TransactionUID = transaction_uid
        query = urlencode({"transaction": transaction_uid, "transaction-uid": transaction_uid})
        return self._told("POST", f"/workitems/{uid}?{query}", said)

    def _page(self, offset: int) -> list[Dataset]:
        query = {
            "ProcedureStepState": "SCHEDULED", "InputReadinessState": "READY", "includefield": "00404018",
            "limit": str(_PAGE), "offset": str(offset),
        }  # fmt: skip
        status, found = self._ask("GET", f"/workitems?{urlencode(query)}")
        if status not in (200, 204, 206):
            raise self._odd(status)
        return found

    def _told(self, method: str, path: str, ds: Dataset) -> int:
        status, _ = self._ask(method, path, ds)
        if status not in _STATUS:
            raise self._odd(status)
        return _STATUS[status]

    def _ask(self, method: str, path: str, ds: Dataset | None = None) -> tuple[int, list[Dataset]]:
        headers = {"Accept": JSON_TYPE}
        content = None
        if ds is not None:
            headers["Content-Type"] = JSON_TYPE
            content = iter([json.dumps([ds.to_json_dict()]).encode()])
        status, body = request(self._service, method, path, headers, content)
        wanted = method == "GET" and status in (200, 206)
        return status, self._read(body) if wanted else []

    def _read(self, body: bytes) -> list[Dataset]:
        try:
            said: Any = json.loads(body)
            return [Dataset.from_json(one) for one in (said if isinstance(said, list) else [said])]
        except Exception as error:  # a foreign server's bytes: whatever they are, they are no answer
            raise Unavailable(
                f"{self._service.url} answers what is no DICOM JSON: {type(error).__name__}"
            ) from error

    def _odd(self, status: int) -> Unavailable:
        return Unavailable(f"UPS-RS at {self._service.url} answered HTTP {status}")
