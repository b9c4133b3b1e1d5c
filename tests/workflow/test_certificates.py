"""Who a certificate is, and when ours ends."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from tests.certificates import Authority
from triage.dicom.receiver_config import Caller
from triage.dicom.tls import PeerCertificate
from triage.domain.errors import Misconfigured
from triage.settings import DicomSettings, Settings
from triage.store import peers, schema
from triage.store.database import Database
from triage.workflow.certificates import certificate_fingerprint, checks
from triage.workflow.parts.receiver import Door, plain_host

PINNED, BY_NAME = "a" * 64, "b" * 64


def test_a_certificate_may_call_itself_what_its_peer_is_called(any_database: Database) -> None:
    with any_database.write() as tx:
        peers.add(tx, "ct", "CT1", "10.0.0.7", 104, tls=True, certificate_sha256=PINNED)
        peers.add(tx, "mr", "MR1", "mr1.hospital", 104, tls=True)
        peers.add(tx, "old", "OLD", "mr1.hospital", 104, tls=False)
    door = Door(any_database, None)  # type: ignore[arg-type]

    def lets_in(title: str, sha256: str, *names: str) -> bool:
        return door.may_call(Caller(title, "127.0.0.1", PeerCertificate(sha256, names)))

    assert lets_in("CT1", PINNED)
    assert lets_in("MR1", BY_NAME, "mr1.hospital")
    assert not lets_in("MR1", PINNED, "10.0.0.7")
    assert not lets_in("CT1", BY_NAME, "10.0.0.7")  # it is known by another certificate
    assert not lets_in("OLD", BY_NAME, "mr1.hospital")  # it does not speak TLS
    assert not lets_in("CT1", BY_NAME)
    with any_database.read() as tx:
        refused = tx.execute(select(schema.audit_event.c.act)).scalars().all()
    assert refused == ["security.certificate_refused"] * 4


def settings_with(folder: Path, days: int) -> Settings:
    authority = Authority(folder)
    certificate, key = authority.issue("triage.hospital", days=days)
    return Settings(
        dicom=DicomSettings(host="0.0.0.0", tls_certificate=certificate, tls_key=key, tls_ca=authority.ca)
    )


@pytest.mark.parametrize(("days", "ok"), [(365, True), (20, False)])
def test_the_end_is_said_a_month_before(days: int, ok: bool, tmp_path: Path) -> None:
    [check] = checks(settings_with(tmp_path, days), datetime.now(UTC))
    assert check["ok"] is ok
    assert "ends on" in check["detail"]


def test_a_certificate_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, 90)
    assert settings.dicom.tls_key is not None
    settings.dicom.tls_key.write_text("nothing")
    [check] = checks(settings, datetime.now(UTC))
    assert not check["ok"]
    assert checks(Settings(), datetime.now(UTC)) == []


def test_plain_stays_at_home_when_the_world_gets_tls(tmp_path: Path) -> None:
    assert plain_host(settings_with(tmp_path, 90)) == "127.0.0.1"
    assert plain_host(Settings(dicom=DicomSettings(host="0.0.0.0", insecure_plain=True))) == "0.0.0.0"


def test_half_a_configuration_is_refused() -> None:
    with pytest.raises(ValidationError, match="go together"):
        DicomSettings(tls_certificate=Path("x.pem"))
    with pytest.raises(ValidationError, match="tls_ca"):
        DicomSettings(tls_certificate=Path("x.pem"), tls_key=Path("x.key"))


def test_a_certificate_that_has_ended_is_said_as_that(tmp_path: Path) -> None:
    [check] = checks(settings_with(tmp_path, 90), datetime.now(UTC) + timedelta(days=91))
    assert not check["ok"] and "ended on" in check["detail"] and "peers refuse it" in check["detail"]


def test_a_peers_certificate_file_is_known_by_its_fingerprint(tmp_path: Path) -> None:
    certificate, _ = Authority(tmp_path).issue("ct1.hospital")
    shown = ["openssl", "x509", "-in", str(certificate), "-noout", "-fingerprint", "-sha256"]
    told = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    assert certificate_fingerprint(certificate) == told.partition("=")[2].strip().replace(":", "").lower()
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(Misconfigured):
        certificate_fingerprint(tmp_path / "none.pem")
