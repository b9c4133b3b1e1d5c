"""The test of a way out, against a real listener and against nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import NOON
from triage.domain.errors import Refused
from triage.hl7.mllp import Inbox, MllpListener
from triage.settings import Settings
from triage.workflow.route_check import check_route
from triage.workflow.site import new_id


def test_a_test_message_goes_out_over_the_real_channel_and_names_no_patient() -> None:
    inbox = Inbox()
    listener = MllpListener("127.0.0.1", 0, inbox)
    settings = Settings.model_validate(
        {"routes": [{"name": "ris", "kind": "mllp", "host": "127.0.0.1", "port": listener.start()}]}
    )
    said = check_route(settings, "ris", new_id, NOON).as_json("ris")
    listener.stop()
    assert [s["name"] for s in said["steps"]] == ["settings", "name", "connect", "message", "send"]
    assert said["ok"] and said["steps"][-1]["detail"] == "acknowledged: AA"
    (message,) = inbox.messages
    assert said["control_id"].encode() in message
    assert b"|T|2.5.1" in message and b"DRILL, no patient" in message


def test_the_first_step_that_fails_says_why_and_what_to_do() -> None:
    route = {"name": "ris", "kind": "mllp", "host": "127.0.0.1", "port": 1, "timeout_seconds": 2}
    said = check_route(Settings.model_validate({"routes": [route]}), "ris", new_id, NOON).as_json("ris")
    states = {s["name"]: s["state"] for s in said["steps"]}
    assert states == {
        "settings": "ok", "name": "ok", "connect": "failed", "message": "not tried", "send": "not tried",
    }  # fmt: skip
    assert not said["ok"] and "firewall" in said["next"]


def test_a_secret_that_cannot_be_read_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    hook = {
        "name": "hook",
        "kind": "webhook",
        "url": "https://hook.example/x",
        "secret_file": tmp_path / "none",
    }
    said = check_route(Settings.model_validate({"routes": [hook]}), "hook", new_id, NOON).as_json("hook")
    assert said["steps"][0]["state"] == "failed" and "secret_file" in said["steps"][0]["detail"]
    assert [s["name"] for s in said["steps"]] == ["settings", "name", "connect", "TLS", "message", "send"]


def test_a_route_that_nobody_set_up_is_refused() -> None:
    with pytest.raises(Refused):
        check_route(Settings(), "ris", new_id, NOON)
