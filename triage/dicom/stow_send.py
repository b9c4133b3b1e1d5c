"""STOW-RS as the one who stores (PS3.18 10.5): whole files in one multipart request, an answer for each."""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from triage.dicom.send import SendResult
from triage.domain.errors import Unavailable

ANSWER_BYTES_MAX = 4 << 20
PIECE = 1 << 16
# The whole request is refused, and would be again, whatever the body: its syntax, size or type (PS3.18 10.5.3.1).
_REFUSED = {400: "bad request", 413: "too large", 415: "unsupported media type"}
CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, kw_only=True)
class Service:
    """Base address of a DICOMweb origin server, as in https://pacs.example/dicom-web. token: sent as Bearer."""

    url: str
    token: str = ""
    timeout_seconds: float = 60.0
    tls: ssl.SSLContext | None = None  # None: the system's certificates


def store(service: Service, files: Sequence[tuple[str, Path]]) -> list[SendResult]:
    """Store files; `files` are (SOP Instance UID, path).

    returns  one result for each, in their order, with the Failure Reason as its status
    raises   Unavailable when the server does not answer or says that it cannot now
    """
    boundary = uuid.uuid4().hex
    headers = {
        "Accept": "application/dicom+json",
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
    }
    status, body = request(service, "POST", "/studies", headers, _parts(boundary, [p for _, p in files]))
    if status in _REFUSED and not body.strip().startswith(b"{"):
        return [SendResult(p, CANNOT_UNDERSTAND, f"HTTP {status}: {_REFUSED[status]}") for _, p in files]
    if status not in (200, 202, 409, 400):
        raise Unavailable(f"STOW at {service.url} answered HTTP {status}")
    said = _said(body)
    return [_result(path, said, uid, status) for uid, path in files]


def answers_queries(service: Service) -> None:
    """QIDO-RS for one study. raises Unavailable when the server does not answer it."""
    headers = {"Accept": "application/dicom+json"}
    status, _ = request(service, "GET", "/studies?limit=1", headers, None)
    if status not in (200, 204):
        raise Unavailable(f"QIDO-RS at {service.url} answered HTTP {status}")


def request(
    service: Service, method: str, path: str, headers: dict[str, str], content: Iterator[bytes] | None
) -> tuple[int, bytes]:
    """(HTTP status, body) of one request. raises Unavailable without an answer, or with one that is too long"""
    if service.token:
        headers = {**headers, "Authorization": f"Bearer {service.token}"}
    try:
        with (
            httpx.Client(
                timeout=service.timeout_seconds, trust_env=False, verify=service.tls or True
            ) as client,
            client.stream(method, service.url.rstrip("/") + path, headers=headers, content=content) as answer,
        ):
            body = b""
            for piece in answer.iter_bytes(PIECE):
                body += piece
                if len(body) > ANSWER_BYTES_MAX:
                    raise Unavailable(f"{service.url} answers with more than {ANSWER_BYTES_MAX >> 20} MiB")
            return answer.status_code, body
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
        raise Unavailable(f"{service.url} does not answer: {type(error).__name__}") from error


def _parts(boundary: str, paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _said(body: bytes) -> dict[str, tuple[int, str]]:
    """{SOP Instance UID: (status, detail)} of a Store Instances Response (PS3.18 I.2)."""
    try:
        document = json.loads(body)
        document = document[0] if isinstance(document, list) else document
        stored = {_text(item, "00081155"): (0, "") for item in _items(document, "00081199")}
        failed = {
            _text(item, "00081155"): (int(_text(item, "00081197") or CANNOT_UNDERSTAND), "")
            for item in _items(document, "00081198")
        }
    except (ValueError, TypeError, LookupError, AttributeError):
        return {}
    return {**stored, **failed}


def _items(document: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    return list(document.get(tag, {}).get("Value", []))


def _text(item: dict[str, Any], tag: str) -> str:
    return str(next(iter(item.get(tag, {}).get("Value", [])), ""))


def _result(path: Path, said: dict[str, tuple[int, str]], uid: str, status: int) -> SendResult:
    if uid in said:
        code, _ = said[uid]
        return SendResult(path, code, "" if code == 0 else f"STOW failure reason {code:04X}")
    return SendResult(path, None, f"HTTP {status} without a word on this object", may_be_there=True)
