"""What a route is made of: TLS of both directions, and what operators are told over it."""

from __future__ import annotations

import json
import ssl
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from tests.certificates import pem_pair
from tests.factories import NOON
from tests.hl7.notices import a_notice
from triage.domain.errors import Misconfigured
from triage.domain.finding import Mode
from triage.settings import Hl7Settings, RouteSettings
from triage.workflow.routes import build, build_operator_notice, client_context, server_context

ROW = {"kind": "constancy.missed", "text": "Triage is not working", "created_at": NOON, "control_id": "C1"}


def test_an_operator_hears_the_same_by_mail_and_by_webhook() -> None:
    hook = RouteSettings(name="hook", kind="webhook", url="https://h.example/x", secret_file=Path("key"))
    assert json.loads(build_operator_notice(hook, ROW)) == {
        "kind": "constancy.missed", "text": "Triage is not working", "at": NOON.isoformat(), "id": "C1",
    }  # fmt: skip
    desk = RouteSettings(
        name="mail",
        kind="mail",
        host="localhost",
        port=25,
        sender="t@h.example",
        recipients=("it@h.example",),
    )
    mail = message_from_bytes(build_operator_notice(desk, ROW), policy=default)
    assert mail["To"] == "it@h.example" and "Triage is not working" in mail.as_string()


def test_a_message_is_addressed_as_the_route_says() -> None:
    route = RouteSettings(name="ris", kind="mllp", host="ris", port=2575)
    named = route.model_copy(update={"receiving_application": "RIS & CO", "receiving_facility": "NORTH"})
    for meant, heads in ((route, "TRIAGE|SOUTH|EHR|HOSP"), (named, "TRIAGE|SOUTH|RIS \\T\\ CO|NORTH")):
        message = build(meant, a_notice(), Mode.TRIAGE_ONLY, "SOUTH").decode()
        assert message.startswith(f"MSH|^~\\&|{heads}|")
    with pytest.raises(ValueError, match="receiving_facility"):
        RouteSettings(name="ris", kind="mllp", host="ris", port=2575, receiving_facility="A\rPID|")


def test_certificates_that_cannot_be_used_are_said_by_the_name_of_the_setting(tmp_path: Path) -> None:
    certificate, key = pem_pair(tmp_path, "ris.hospital")
    other, _ = pem_pair(tmp_path, "other.hospital")
    route = RouteSettings(name="ris", kind="mllp", host="ris.hospital", port=2575, tls="tls")
    for files in ({"ca_file": tmp_path / "none.pem"}, {"cert_file": other, "key_file": key}):
        with pytest.raises(Misconfigured, match="route ris: ca_file, cert_file or key_file"):
            client_context(route.model_copy(update=files))
    assert server_context(Hl7Settings()) is None
    anybody = server_context(Hl7Settings(cert_file=certificate, key_file=key))
    assert anybody is not None and anybody.verify_mode is ssl.CERT_NONE
    for files in ({"key_file": tmp_path / "none.key"}, {"key_file": key, "client_ca_file": key}):
        with pytest.raises(Misconfigured, match="hl7: certificate, key or client_ca_file"):
            server_context(Hl7Settings(cert_file=certificate, **files))
