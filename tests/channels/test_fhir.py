"""Alerts out by FHIR REST: one request for each resource, created once, replaced by what corrects them."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hl7.notices import a_notice
from triage.channels.fhir import FhirChannel
from triage.channels.protocol import Answer, Outcome
from triage.domain.alerting import AlertNotice, MessageKind
from triage.domain.finding import Mode
from triage.hl7.fhir.notice import build_bundle


class Server:
    """A FHIR server that knows conditional create and update, and nothing else."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.says: dict[str, int] = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.take(self)

            do_PUT = do_POST

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/fhir/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, call: http.server.BaseHTTPRequestHandler) -> None:
        resource = json.loads(call.rfile.read(int(call.headers["Content-Length"])))
        path, _, query = call.path.partition("?")
        kind = path.removeprefix("/fhir/")
        self.asked.append((call.command, kind))
        self.headers.append(dict(call.headers))
        condition = call.headers.get("If-None-Exist", "") or query
        there = (kind, condition) in self.stored
        status = self.says.get(kind) or (200 if there else 201)
        if status < 300 and (call.command == "PUT" or not there):
            self.stored[(kind, condition)] = resource
        call.send_response(status)
        call.send_header("Content-Length", "0")
        call.end_headers()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


def send(server: Server, notice: AlertNotice, result: str = "Observation", **options: Any) -> Answer:
    payload = build_bundle(notice, mode=Mode.TRIAGE_ONLY, result=result)  # type: ignore[arg-type]
    return FhirChannel(server.url, allow_private=True, **options).send(payload, notice.control_id)


@pytest.mark.parametrize("result", ["Observation", "DiagnosticReport"])
def test_a_result_is_there_once_however_often_it_is_sent(server: Server, result: str) -> None:
    for _ in range(3):
        assert send(server, a_notice(alert_id=7), result, token="s3cret").outcome is Outcome.DELIVERED

    assert sorted(kind for kind, _ in server.stored) == sorted(["Communication", result])
    assert server.asked[:2] == [("POST", result), ("POST", "Communication")]
    assert {h["Authorization"] for h in server.headers} == {"Bearer s3cret"}
    said = next(r for (kind, _), r in server.stored.items() if kind == result)
    assert said["status"] == "preliminary"


def test_a_withdrawal_replaces_the_result_and_tells_of_it(server: Server) -> None:
    send(server, a_notice(alert_id=7))
    recall = a_notice(alert_id=7, kind=MessageKind.WITHDRAWAL, control_id="ANOTHER0000000000001")
    assert send(server, recall).outcome is Outcome.DELIVERED

    results = [r for (kind, _), r in server.stored.items() if kind == "Observation"]
    assert [r["status"] for r in results] == ["entered-in-error"]
    words = [r["payload"][0]["contentString"] for (k, _), r in server.stored.items() if k == "Communication"]
    assert len(words) == 2 and "withdrawn" in words[1]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (412, Outcome.REFUSED),
        (422, Outcome.REFUSED),
        (400, Outcome.REFUSED),
        (503, Outcome.RETRY),
        (429, Outcome.RETRY),
    ],
)
def test_the_server_is_believed_and_named(server: Server, status: int, outcome: Outcome) -> None:
    server.says["Communication"] = status
    answer = send(server, a_notice())
    assert answer == Answer(outcome, f"Communication: HTTP {status}")
    server.says.clear()
    assert send(server, a_notice()).outcome is Outcome.DELIVERED  # what was there already made no double
    assert len(server.stored) == 2


def test_a_place_is_said_only_in_overlay_mode() -> None:
    notice = a_notice(finding_side="left", finding_zone="upper")
    plain = build_bundle(notice, mode=Mode.TRIAGE_ONLY, result="Observation")
    assert b"bodySite" not in plain and b"bodySite" in build_bundle(
        notice, mode=Mode.OVERLAY, result="Observation"
    )
