"""Alerts out by FHIR REST: the resources that `hl7.fhir` built, one request each, none of which makes a double.

A payload is a Bundle of type transaction whose entries say how (`request.method`, `url`, `ifNoneExist`); they go one by
one, since not every server takes transactions, and a repetition of all of them changes nothing.
source: FHIR R4 3.1.0.8.1 (conditional create), 3.1.0.4.3 (conditional update)
"""

from __future__ import annotations

import json
import ssl

from triage.channels.http import HttpPeer
from triage.channels.protocol import Answer, Outcome


class FhirChannel:
    """A Channel to one FHIR base URL; `token` is sent as bearer when there is one."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        timeout_seconds: float = 30.0,
        allow_private: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._peer = HttpPeer(url, timeout_seconds=timeout_seconds, allow_private=allow_private, tls=tls)
        self._token = token

    def send(self, payload: bytes, control_id: str) -> Answer:
        """Every entry in its order; the first that does not get through is the answer."""
        answer = Answer(Outcome.REFUSED, "there is nothing in this message")
        for entry in json.loads(payload)["entry"]:
            request = entry["request"]
            answer = self._peer.request(
                request["method"],
                json.dumps(entry["resource"], sort_keys=True).encode(),
                self._headers(control_id, request.get("ifNoneExist", "")),
                below=f"/{request['url']}",
            )
            if answer.outcome is not Outcome.DELIVERED:
                kind = entry["resource"]["resourceType"]
                return Answer(answer.outcome, f"{kind}: {answer.detail}")
        return answer

    def close(self) -> None:
        """Nothing is kept between two messages."""

    def _headers(self, control_id: str, if_none_exist: str) -> dict[str, str]:
        headers = {
            "Content-Type": "application/fhir+json",
            "Accept": "application/fhir+json",
            "Prefer": "return=minimal",
            "X-Request-Id": control_id,
        }
        if if_none_exist:
            headers["If-None-Exist"] = if_none_exist
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers
