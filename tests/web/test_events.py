"""Server-sent events over a real server: told at once, resumed without a gap, capped, ended at shutdown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from flask import Flask

from tests.web.conftest import Clock
from tests.web.seed import Sown, pneumothorax
from triage.settings import Settings, WebSettings
from triage.store import events, studies
from triage.workflow import accounts


@pytest.fixture
def settings(tmp_path: Any) -> Settings:
    return Settings(home=tmp_path / "home", site="NORTH", web=WebSettings(listeners_max=2))


@pytest.fixture
def token(sown: Sown, clock: Clock) -> str:
    with sown.database.write() as tx:
        return accounts.issue_token(tx, "listener", ["worklist:read"], clock(), by="test")


@contextmanager
def listening(base: str, token: str, last: str = "") -> Iterator[Iterator[dict[str, Any]]]:
    headers = {"Authorization": f"Bearer {token}"} | ({"Last-Event-ID": last} if last else {})
    with httpx.stream("GET", f"{base}/api/v1/events", headers=headers, timeout=15) as response:
        assert response.status_code == 200
        yield _messages(response)


def _messages(response: httpx.Response) -> Iterator[dict[str, Any]]:
    message: dict[str, Any] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            message[name] = value
        elif "event" in message:
            yield message | {"data": json.loads(message["data"])}
            message = {}
        else:
            message = {}


def test_a_change_is_told_and_a_reconnect_misses_nothing(
    base: str, token: str, sown: Sown, clock: Clock
) -> None:
    with listening(base, token) as stream:
        hello = next(stream)
        assert hello["event"] == "health"
        uid = sown.add(findings=(pneumothorax(),))
        told = next(m for m in stream if m["event"] == "worklist")
        assert told["data"]["study_uid"] == uid
        assert "Muster" not in json.dumps(told)
    later = [sown.add() for _ in range(3)]
    with listening(base, token, last=told["id"]) as stream:
        seen = []
        for message in stream:
            if message["event"] == "worklist":
                seen.append(message["data"]["study_uid"])
            if seen[-1:] == [later[-1]]:
                break
        assert [u for u in dict.fromkeys(seen) if u in later] == later


def test_what_a_constancy_study_does_is_not_told(base: str, token: str, sown: Sown) -> None:
    with listening(base, token) as stream:
        next(stream)
        sown.add(constancy=True, findings=(pneumothorax(),))
        visible = sown.add()
        first = next(m for m in stream if m["event"] != "health")
        assert first["data"]["study_uid"] == visible


def test_a_gap_too_wide_says_fetch_anew(base: str, token: str, sown: Sown, clock: Clock) -> None:
    uid = sown.add()
    with sown.database.write() as tx:
        study_id = studies.find_study(tx, uid)
        for _ in range(600):
            events.publish(tx, clock(), "worklist", study_id)
    with listening(base, token, last="1") as stream:
        assert next(m for m in stream if m["event"] == "worklist")["data"] == {"reload": True}


def test_beyond_the_cap_a_stream_is_refused_and_plain_requests_go_on(base: str, token: str) -> None:
    with listening(base, token) as one, listening(base, token) as two:
        next(one), next(two)
        refused = httpx.get(f"{base}/api/v1/events", headers={"Authorization": f"Bearer {token}"})
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert httpx.get(f"{base}/ready").status_code == 200


def test_shutdown_ends_open_streams(base: str, token: str, app: Flask) -> None:
    with listening(base, token) as stream:
        next(stream)
        app.extensions["triage"].feed.stop()
        assert list(stream) == []
    assert httpx.get(f"{base}/ready").status_code == 503


def test_a_revoked_token_loses_its_stream(
    base: str, token: str, sown: Sown, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triage.web.events.BEAT_SECONDS", 0.5)
    with listening(base, token) as stream:
        next(stream)
        with sown.database.write() as tx:
            accounts.revoke_token(tx, "listener", clock() + timedelta(seconds=1), by="test")
        assert list(stream) == []


def test_a_night_without_events_does_not_silence_the_stream(
    base: str, token: str, sown: Sown, clock: Clock
) -> None:
    sown.add(), sown.add()
    with listening(base, token) as stream:
        next(stream)
        with sown.database.write() as tx:
            events.forget_events(tx, clock() + timedelta(hours=2))
        uid = sown.add()
        assert next(m for m in stream if m["event"] == "worklist")["data"]["study_uid"] == uid
