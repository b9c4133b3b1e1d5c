"""The test of a way out, against a real listener and against nobody."""

from __future__ import annotations

import socket
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from tests.certificates import pem_pair
from tests.channels.test_fhir import Server
from tests.channels.test_mail import Mailbox
from tests.factories import NOON
from triage.domain.errors import Refused
from triage.hl7.mllp import Inbox, MllpListener
from triage.settings import Hl7Settings, Settings
from triage.workflow.route_check import check_route
from triage.workflow.routes import server_context
from triage.workflow.site import NewId, new_id


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


def checked(now: datetime = NOON, ids: NewId = new_id, **route: Any) -> dict[str, Any]:
    wanted = {"name": "out", "timeout_seconds": 5, **route}
    return check_route(Settings.model_validate({"routes": [wanted]}), "out", ids, now).as_json("out")


def test_tls_is_tried_with_both_certificates_and_a_stranger_is_not_trusted(tmp_path: Path) -> None:
    ours, our_key = pem_pair(tmp_path, "triage.hospital")
    theirs, their_key = pem_pair(tmp_path, "localhost")
    inbox = Inbox()
    context = server_context(Hl7Settings(cert_file=theirs, key_file=their_key, client_ca_file=ours))
    listener = MllpListener("127.0.0.1", 0, inbox, tls=context)
    ris = {"kind": "mllp", "host": "localhost", "port": listener.start(), "tls": "tls"}
    try:
        said = checked(**ris, ca_file=theirs, cert_file=ours, key_file=our_key)
        stranger = checked(**ris)
    finally:
        listener.stop()
    assert said["ok"] and len(inbox.messages) == 1
    assert {s["name"]: s["detail"] for s in said["steps"]}["TLS"].startswith("TLSv1.3, certificate ends ")
    failed = next(s for s in stranger["steps"] if s["state"] == "failed")
    assert failed["name"] == "TLS" and "the TLS handshake failed" in failed["detail"]
    assert "ca_file" in stranger["next"]


def test_the_word_of_a_receiver_that_does_not_take_the_message_is_said() -> None:
    def broken(raw: bytes) -> bytes:
        raise RuntimeError("the RIS is being mended")

    for handler, word in ((Inbox(), "refused: AE"), (broken, "not taken: AR")):
        listener = MllpListener("127.0.0.1", 0, handler)
        ris = {"kind": "mllp", "host": "127.0.0.1", "port": listener.start()}
        for hour in (12, 13):  # the same number with another content
            said = checked(NOON.replace(hour=hour), lambda: "CONTROL0000000000001", **ris)
        listener.stop()
        assert not said["ok"] and word in said["steps"][-1]["detail"], said


def test_a_test_message_goes_out_by_mail_and_fhir_too() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mailbox, server = Mailbox(), Server()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        desk = {"host": "127.0.0.1", "port": port, "sender": "t@h.example", "recipients": ["desk@h.example"]}
        mail = checked(kind="mail", **desk)
        fhir = checked(kind="fhir", url=server.url, allow_private=True)
    finally:
        controller.stop()
        server.server.shutdown()
        server.server.server_close()
    assert mail["ok"] and mailbox.recipients == [["desk@h.example"]], mail
    assert fhir["ok"] and server.stored, fhir
    tags = [t["code"] for resource in server.stored.values() for t in resource.get("meta", {}).get("tag", ())]
    assert "HTEST" in tags
