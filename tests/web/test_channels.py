"""Subscriptions to work items over the web, and their event channel: a real WebSocket on the real web process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient
from simple_websocket import Client, ConnectionClosed

from tests.web.seed import Sown, a_day, sow
from tests.web.test_serve import START_SECONDS, answers, free_port
from tests.web.test_workitems import MINE, items, put_state, value
from triage.store import subscriptions as store
from triage.store import workitems as steps
from triage.store.subscriptions import FILTERED, GLOBAL
from triage.workflow import accounts, workitems

Bearer = Callable[..., FlaskClient]


@pytest.fixture
def viewer(bearer: Bearer, sown: Sown) -> FlaskClient:
    a_day(sown)
    return bearer("worklist:read", "worklist:act", name="viewer")


def heard(sown: Sown, ae: str, after: int = 0) -> list[dict[str, Any]]:
    with sown.database.write() as tx:
        workitems.follow(tx, datetime.now(UTC))
    with sown.database.read() as tx:
        found, _ = store.events_for(tx, ae, after)
    return found


def subscribers(uid: str, ae: str = "VIEWER") -> str:
    return f"/dicom-web/workitems/{uid}/subscribers/{ae}"


def test_one_step_is_followed_from_its_state_of_now(viewer: FlaskClient, sown: Sown) -> None:
    mine, other = (value(i, "00080018") for i in items(viewer, "?ProcedureStepState=SCHEDULED")[:2])
    answer = viewer.post(f"{subscribers(mine)}?deletionlock=true")
    assert answer.status_code == 201 and "deletion lock" in answer.headers["Warning"]
    assert answer.headers["Content-Location"] == "ws://localhost/dicom-web/subscribers/VIEWER"
    with sown.database.read() as tx:
        held = store.find_subscriber(tx, "VIEWER")
    assert held is not None
    began = held["told_up_to"]
    for uid in (mine, other):
        put_state(viewer, uid, "IN PROGRESS", MINE)
    said = [(e["sop_instance_uid"], e["data"]["00741000"]["Value"][0]) for e in heard(sown, "VIEWER", began)]
    assert said == [(mine, "SCHEDULED"), (mine, "IN PROGRESS")]
    assert viewer.delete(subscribers(mine)).status_code == 200
    put_state(viewer, mine, "CANCELED", MINE)
    assert {e["receiver"] for e in heard(sown, "VIEWER", began)} == {"VIEWER"}  # the first report alone


def test_the_whole_list_but_one_step_and_then_no_new_ones(viewer: FlaskClient, sown: Sown) -> None:
    found = items(viewer, "?ProcedureStepState=SCHEDULED")
    mine, not_this = (value(i, "00080018") for i in found[:2])
    assert viewer.post(subscribers(GLOBAL)).status_code == 201
    assert {e["sop_instance_uid"] for e in heard(sown, "VIEWER") if e["receiver"]} >= {mine, not_this}
    assert viewer.delete(subscribers(not_this)).status_code == 200
    with sown.database.read() as tx:
        began = steps.last_event(tx)
    for uid in (mine, not_this):
        put_state(viewer, uid, "IN PROGRESS", MINE)
    assert {e["sop_instance_uid"] for e in heard(sown, "VIEWER", began)} == {mine}
    assert viewer.post(f"{subscribers(GLOBAL)}/suspend").status_code == 200
    put_state(viewer, mine, "CANCELED", MINE)  # a new step begins for its study
    states = [e["data"]["00741000"]["Value"][0] for e in heard(sown, "VIEWER", began)]
    assert states == ["IN PROGRESS", "CANCELED"]
    assert viewer.delete(subscribers(GLOBAL)).status_code == 200
    with sown.database.read() as tx:
        assert store.find_subscriber(tx, "VIEWER") is None


def test_a_filter_takes_what_matches_now_and_later_and_keeps_it(
    viewer: FlaskClient, sown: Sown, signed_in: Any
) -> None:
    scheduled = items(viewer, "?ProcedureStepState=SCHEDULED")
    high = {value(i, "00080018") for i in scheduled if value(i, "00741200") == "HIGH"}
    medium = next(i for i in scheduled if value(i, "00741200") == "MEDIUM")
    uid, study = value(medium, "00080018"), value(medium, "0020000D")
    keys = "filter=ScheduledProcedureStepPriority=HIGH,00741000=SCHEDULED"
    assert viewer.post(f"{subscribers(FILTERED)}?{keys}&deletionlock=false").status_code == 201
    assert high and {e["sop_instance_uid"] for e in heard(sown, "VIEWER")} == high
    began = heard(sown, "VIEWER")[-1]["id"]
    raised = {"priority_class": "high", "reason": "the ward called"}
    signed_in("lead").post(f"/api/v1/studies/{study}/override", json=raised)
    put_state(viewer, uid, "IN PROGRESS", MINE)  # it matches no more
    said = [(e["sop_instance_uid"], e["data"]["00741000"]["Value"][0]) for e in heard(sown, "VIEWER", began)]
    assert said == [(uid, "SCHEDULED"), (uid, "IN PROGRESS")]
    assert viewer.delete(subscribers(uid)).status_code == 200
    put_state(viewer, uid, "CANCELED", MINE)  # a new step begins for its study, and matches
    after = {e["sop_instance_uid"] for e in heard(sown, "VIEWER", began)}
    assert len(after) == 1 and uid not in after
    assert viewer.post(f"{subscribers(FILTERED)}/suspend").status_code == 200
    began = heard(sown, "VIEWER", began)[-1]["id"]
    put_state(viewer, after.copy().pop(), "IN PROGRESS", MINE)
    assert {e["sop_instance_uid"] for e in heard(sown, "VIEWER", began)} == after  # it stays
    assert viewer.delete(subscribers(FILTERED)).status_code == 200
    with sown.database.read() as tx:
        assert store.find_subscriber(tx, "VIEWER") is None


def test_a_changed_priority_is_told(viewer: FlaskClient, sown: Sown, signed_in: Any) -> None:
    medium = next(
        i for i in items(viewer, "?ProcedureStepState=SCHEDULED") if value(i, "00741200") == "MEDIUM"
    )
    uid, study = value(medium, "00080018"), value(medium, "0020000D")
    viewer.post(subscribers(uid))
    began = heard(sown, "VIEWER")[-1]["id"]
    raised = {"priority_class": "high", "reason": "the ward called"}
    signed_in("lead").post(f"/api/v1/studies/{study}/override", json=raised)
    assert [e["kind"] for e in heard(sown, "VIEWER", began)] == [1]


def test_what_is_refused(viewer: FlaskClient, bearer: Bearer) -> None:
    uid = value(items(viewer)[0], "00080018")
    assert viewer.post(subscribers("1.2.3")).status_code == 404
    for nothing in ("", "?filter=", "?filter=PatientID=", "?filter=00741000=&deletionlock=true"):
        assert viewer.post(f"{subscribers(FILTERED)}{nothing}").status_code == 400
    for unmatched in ("WorklistLabel=mine", "PatientID=P*", "nonsense"):
        assert viewer.post(f"{subscribers(FILTERED)}?filter={unmatched}").status_code == 403
    assert viewer.post(subscribers(uid, "A" * 17)).status_code == 422
    assert viewer.post(f"{subscribers(uid)}/suspend").status_code == 400
    assert viewer.get("/dicom-web/subscribers/VIEWER").status_code == 404
    assert viewer.post(subscribers(uid)).status_code == 201
    assert viewer.get("/dicom-web/subscribers/VIEWER").status_code == 426
    stranger = bearer("worklist:read", name="stranger")
    for refused in (
        stranger.post(subscribers(uid)),
        stranger.delete(subscribers(uid)),
        stranger.post(f"{subscribers(GLOBAL)}/suspend"),
    ):
        assert refused.status_code == 403
    assert stranger.get("/dicom-web/subscribers/VIEWER").status_code == 404


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[tuple[str, dict[str, str], Sown, subprocess.Popen[bytes]]]:
    """(address, headers of a token, its rows, process)"""
    sown = sow(tmp_path / "triage.db", datetime.now(UTC))
    a_day(sown)
    with sown.database.write() as tx:
        scopes = ["worklist:read", "worklist:act"]
        token = accounts.issue_token(tx, "viewer", scopes, datetime.now(UTC), by="test")
    port = free_port()
    environment = os.environ | {"TRIAGE_HOME": str(tmp_path), "TRIAGE_WEB__PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-m", "triage.web.serve"], env=environment)
    deadline = time.monotonic() + START_SECONDS
    try:
        while not answers(f"http://127.0.0.1:{port}/ready"):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield f"127.0.0.1:{port}", {"Authorization": f"Bearer {token}"}, sown, process
    finally:
        process.kill()
        process.wait()
        sown.database.close()


def test_events_come_over_a_websocket_again_after_a_break_and_end_with_the_process(
    serving: tuple[str, dict[str, str], Sown, subprocess.Popen[bytes]],
) -> None:
    host, headers, _, process = serving
    with httpx.Client(base_url=f"http://{host}", headers=headers, trust_env=False, timeout=20) as web:
        found = web.get("/dicom-web/workitems?ProcedureStepState=SCHEDULED").json()
        uid = value(found[0], "00080018")
        answer = web.post(subscribers(uid))
        address = answer.headers["Content-Location"]
        first = connected(address, headers)
        assert event(first, uid) == "SCHEDULED"
        put(web, uid, "IN PROGRESS")
        assert event(first, uid) == "IN PROGRESS"
        first.close()
        put(web, uid, "CANCELED")  # while nobody listens
        second = connected(address, headers)
        assert event(second, uid) == "CANCELED"
        third = connected(address, headers)
        keys = f"StudyInstanceUID={value(found[1], '0020000D')}"  # as some clients send them
        assert web.post(f"{subscribers(FILTERED)}?{keys}").status_code == 201
        assert event(second, value(found[1], "00080018")) == "SCHEDULED"
        third.send("hello")  # a client has nothing to say
        assert ends(third)
        process.terminate()
        assert ends(second)
        assert process.wait(timeout=20) == 0


def connected(address: str, headers: dict[str, str]) -> Any:
    """Its reader does not always wake when the socket is closed: it may not keep this process alive."""
    return Client.connect(address, headers=headers, thread_class=partial(threading.Thread, daemon=True))


def ends(client: Any) -> bool:
    """The server closes it, after what it still had to say."""
    with pytest.raises(ConnectionClosed):
        while client.receive(timeout=10) is not None:
            pass
    return True


def event(client: Any, uid: str) -> str:
    said = client.receive(timeout=10)
    assert said is not None, "no event within 10 s"
    document = json.loads(said)
    assert value(document, "00001000") == uid and value(document, "00001002") == 1
    assert value(document, "00000002") == "1.2.840.10008.5.1.4.34.6.1"
    return str(value(document, "00741000"))


def put(web: httpx.Client, uid: str, state: str) -> None:
    body = [{"00741000": {"vr": "CS", "Value": [state]}, "00081195": {"vr": "UI", "Value": [MINE]}}]
    answer = web.put(
        f"/dicom-web/workitems/{uid}/state", json=body, headers={"Content-Type": "application/dicom+json"}
    )
    assert answer.status_code == 200
