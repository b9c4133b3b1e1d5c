"""Opening a study tells a FHIRcast hub: a real one on loopback, one that hangs, and one that is not there."""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from flask import Flask

from tests.web.conftest import SignedIn, ok
from tests.web.seed import Sown, pneumothorax
from triage.domain.errors import Misconfigured
from triage.settings import FhircastSettings, Settings
from triage.store import events
from triage.workflow.fhircast import WAITING_MAX, Hub

TOKEN, SECRET = b"hub-token", b"a secret of the hub"


class SmallHub:
    """A hub as FHIRcast STU3 2.5 has it: takes an event of who has the token, checks it, tells its subscribers."""

    def __init__(self) -> None:
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.refused: queue.Queue[str] = queue.Queue()
        self.hold, self.refusing = threading.Event(), threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hub.hold.is_set():
                    time.sleep(3)
                signed = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
                if hub.refusing.is_set():
                    self.send_response(503)
                    return self.end_headers()
                fine = self.headers["Authorization"] == f"Bearer {TOKEN.decode()}"
                if fine and hmac.compare_digest(self.headers["X-Hub-Signature"], signed):
                    hub.events.put(json.loads(body))
                    self.send_response(202)
                else:
                    hub.refused.put("who are you")
                    self.send_response(401)
                return self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hub"

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def hub() -> Iterator[SmallHub]:
    made = SmallHub()
    yield made
    made.close()


@pytest.fixture
def settings(tmp_path: Path, hub: SmallHub) -> Settings:
    (tmp_path / "token").write_bytes(TOKEN + b"\n")
    (tmp_path / "secret").write_bytes(SECRET)
    cast = {"url": hub.url, "topic": "north-{reader}", "token_file": tmp_path / "token",
            "secret_file": tmp_path / "secret", "allow_private": True, "timeout_seconds": 2}  # fmt: skip
    return Settings.model_validate({"home": tmp_path / "home", "site": "NORTH", "fhircast": cast})


def hub_at(url: str, **values: Any) -> Hub:
    said = FhircastSettings.model_validate({"url": url, "allow_private": True, **values})
    return Hub(said, lambda: datetime.now(UTC), lambda: None)


def test_the_study_that_a_reader_opens_is_told_with_its_patient(
    signed_in: SignedIn, sown: Sown, hub: SmallHub
) -> None:
    uid = sown.add(patient="Doe^Jane", findings=(pneumothorax(),))
    ok(signed_in("ann").post(f"/api/v1/studies/{uid}/claim", json={}))
    event = hub.events.get(timeout=5)["event"]
    assert (event["hub.event"], event["hub.topic"]) == ("imagingstudy-open", "north-ann")
    patient, study = (c["resource"] for c in event["context"])
    assert [c["key"] for c in event["context"]] == ["patient", "study"]
    for resource in (patient, study):
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    assert f"urn:oid:{uid}" in json.dumps(study["identifier"])


def test_next_tells_it_too_and_a_claim_without_opening_or_a_refused_one_does_not(
    signed_in: SignedIn, sown: Sown, hub: SmallHub
) -> None:
    first, second = sown.add(minutes_ago=20), sown.add(minutes_ago=10)
    reader, other = signed_in("ann"), signed_in("ben")
    ok(reader.post(f"/api/v1/studies/{second}/claim", json={"open": False}))
    assert other.post(f"/api/v1/studies/{second}/claim", json={}).status_code == 409
    assert ok(reader.post("/api/v1/worklist/next"))["study_uid"] == first
    said = hub.events.get(timeout=5)["event"]["context"][1]["resource"]
    assert f"urn:oid:{first}" in json.dumps(said)
    assert hub.events.empty()


def test_a_study_that_was_given_back_or_reported_is_closed(
    signed_in: SignedIn, sown: Sown, hub: SmallHub
) -> None:
    given_back, reported = sown.add(), sown.add()
    reader, other = signed_in("ann"), signed_in("ben")
    for uid, act, body in ((given_back, "release", {}), (reported, "report", {"state": "final"})):
        ok(reader.post(f"/api/v1/studies/{uid}/claim", json={}))
        assert other.post(f"/api/v1/studies/{uid}/release", json={}).status_code == 409
        ok(reader.post(f"/api/v1/studies/{uid}/{act}", json=body))
        said = [hub.events.get(timeout=5)["event"] for _ in range(2)]
        assert [e["hub.event"] for e in said] == ["imagingstudy-open", "imagingstudy-close"]
        assert {e["hub.topic"] for e in said} == {"north-ann"}
        assert said[0]["context"] == said[1]["context"]
    assert hub.events.empty()


def test_readers_are_told_that_the_hub_is_away_and_that_it_is_back(
    signed_in: SignedIn, sown: Sown, hub: SmallHub, app: Flask
) -> None:
    uid, reader = sown.add(), signed_in("ann")
    away = "The FHIRcast hub does not answer since"

    def newest() -> int:
        with sown.database.read() as tx:
            return events.last_event_id(tx)

    def told() -> bool:
        return any(away in bar["text"] for bar in ok(reader.get("/worklist/rows"))["bars"])

    def soon(wanted: bool) -> None:
        deadline = time.monotonic() + 10
        while told() != wanted:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    assert not told()
    hub.refusing.set()
    ok(reader.post(f"/api/v1/studies/{uid}/claim", json={}))
    soon(True)
    before = newest()
    hub.refusing.clear()
    ok(reader.post(f"/api/v1/studies/{uid}/claim", json={}))
    soon(False)
    assert newest() > before, "open pages ask again by themselves"


def test_a_hub_that_hangs_delays_no_reader(signed_in: SignedIn, sown: Sown, hub: SmallHub) -> None:
    hub.hold.set()
    uids = [sown.add() for _ in range(3)]
    reader = signed_in("ann")
    for uid in uids:
        ok(reader.post(f"/api/v1/studies/{uid}/claim", json={}))
    assert hub.events.empty()  # all three were answered while the hub still thinks about the first


def test_a_hub_that_is_far_behind_or_gone_loses_what_is_stale(tmp_path: Path) -> None:
    gone = hub_at("http://127.0.0.1:1/hub", timeout_seconds=1)
    gone._thread = threading.current_thread()  # nobody takes anything out of the queue
    assert [gone.publish(b"{}") for _ in range(WAITING_MAX + 1)] == [True] * WAITING_MAX + [False]


def test_who_does_not_sign_is_refused_by_the_hub_and_triage_goes_on(hub: SmallHub) -> None:
    plain = hub_at(hub.url)
    plain.publish(b'{"event": {}}')
    assert hub.refused.get(timeout=5) == "who are you"


def test_settings_that_cannot_work_are_said_at_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        hub_at("https://hub.example/hub", allow_private=False, token_file=tmp_path / "none")
    with pytest.raises(Misconfigured):
        hub_at("http://hub.example/hub", allow_private=False)
